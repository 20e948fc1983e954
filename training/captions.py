"""How scenes and concepts are described: the texts that text encoder, captioner and prompter are trained with."""

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
"""The possible contents of a bowl."""

OPENINGS = ("a photograph of ", "a photo of ", "a picture of ", "")


def phrase(kind: str) -> str:
    """Return "a pear" for "pear", "some grapes" for "grapes"."""
    if kind in ("grapes", "cherries"):
        return f"some {kind}"
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def bowl_phrase(content: str) -> str:
    """Return "a bowl of pears" for "pear"."""
    return f"a bowl of {PLURALS.get(content, content)}"


def phrases(scene: Scene) -> list[str]:
    """Return phrases for the objects on the table, from left to right."""
    return [bowl_phrase(scene.content)] if scene.bowl else [phrase(thing.kind) for thing in scene.things]


def caption(scene: Scene) -> str:
    """Return the canonical description: "a photograph of a pear and a cat on a blue table"."""
    return f"a photograph of {' and '.join(phrases(scene))} on a {scene.table} table"


def describe(scene: Scene, rng: Generator) -> str:
    """Return one of many descriptions. Most are the canonical one; some omit the table or one of two objects."""
    if rng.random() < 0.45:
        return caption(scene)
    things = phrases(scene)
    if len(things) == 2 and rng.random() < 0.25:
        things = [str(rng.choice(things))]
    if rng.random() < 0.1:
        return _without_article(str(rng.choice(things)))
    return sentence(" and ".join(things), scene.table, rng)


def sentence(things: str, table: str, rng: Generator) -> str:
    """Return a random sentence about `things`. Most sentences also name the table."""
    opening = str(rng.choice(OPENINGS, p=(0.45, 0.15, 0.15, 0.25)))
    draw = rng.random()
    place = f" on a {table} table" if draw < 0.65 else " on a table" if draw < 0.8 else ""
    return f"{opening}{things}{place}"


def concept_sentence(things: str, rng: Generator) -> str:
    """Return a random sentence about a concept. Its table is random, because a concept does not include one."""
    return sentence(things, str(rng.choice(list(TABLES))), rng)


def concept_names(rng: Generator) -> tuple[str, str]:
    """Return a random concept as a user may name it ("pear", "a pear"), and as a phrase for sentences ("a pear")."""
    if rng.random() < 0.3:
        text = bowl_phrase(str(rng.choice(CONTENTS)))
    else:
        text = phrase(str(rng.choice(KINDS)))
    return (text if rng.random() < 0.4 else _without_article(text)), text


def _without_article(text: str) -> str:
    """Return "pear" for "a pear"."""
    return text.split(" ", 1)[1]
