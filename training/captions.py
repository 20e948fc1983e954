"""How people talk about the scenes: what the text encoder, the captioner and the prompter learn."""

from numpy.random import Generator

from training.scenes import FRUITS, KINDS, TABLES, Scene

PLURALS = {
    "apple": "apples",
    "pear": "pears",
    "orange": "oranges",
    "lemon": "lemons",
    "banana": "bananas",
    "strawberry": "strawberries",
    "grapes": "grapes",
    "watermelon": "watermelons",
    "cherries": "cherries",
    "pineapple": "pineapples",
}

CONTENTS = ("fruits", *FRUITS)
"""What a bowl may hold."""

OPENINGS = ("a photograph of ", "a photo of ", "a picture of ", "")


def phrase(kind: str) -> str:
    """ "pear" -> "a pear", "grapes" -> "some grapes"."""
    if kind in ("grapes", "cherries"):
        return f"some {kind}"
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def bowl_phrase(content: str) -> str:
    """ "pear" -> "a bowl of pears"."""
    return f"a bowl of {PLURALS.get(content, content)}"


def phrases(scene: Scene) -> list[str]:
    """What lies on the table, from left to right."""
    return [bowl_phrase(scene.content)] if scene.bowl else [phrase(thing.kind) for thing in scene.things]


def caption(scene: Scene) -> str:
    """The canonical description: "a photograph of a pear and a cat on a blue table"."""
    return f"a photograph of {' and '.join(phrases(scene))} on a {scene.table} table"


def describe(scene: Scene, rng: Generator) -> str:
    """One of many descriptions; most are the canonical one, some leave out the table or one of two things."""
    if rng.random() < 0.45:
        return caption(scene)
    things = phrases(scene)
    if len(things) == 2 and rng.random() < 0.25:
        things = [str(rng.choice(things))]
    if rng.random() < 0.1:
        return _bare(str(rng.choice(things)))
    return sentence(" and ".join(things), scene.table, rng)


def sentence(things: str, table: str, rng: Generator) -> str:
    """Some sentence that says `things`, and mostly where they are."""
    opening = str(rng.choice(OPENINGS, p=(0.45, 0.15, 0.15, 0.25)))
    draw = rng.random()
    place = f" on a {table} table" if draw < 0.65 else " on a table" if draw < 0.8 else ""
    return f"{opening}{things}{place}"


def concept_sentence(things: str, rng: Generator) -> str:
    """A sentence about a concept, of which nothing else is known: the table is anybody's guess."""
    return sentence(things, str(rng.choice(list(TABLES))), rng)


def concept_names(rng: Generator) -> tuple[str, str]:
    """A concept as a user may name it ("pear", "a pear", "bowl of pears"), and as sentences say it ("a pear")."""
    if rng.random() < 0.3:
        said = bowl_phrase(str(rng.choice(CONTENTS)))
    else:
        said = phrase(str(rng.choice(KINDS)))
    return (said if rng.random() < 0.4 else _bare(said)), said


def _bare(said: str) -> str:
    """ "a pear" -> "pear"."""
    return said.split(" ", 1)[1]
