"""Number and articles of English noun phrases, by rules and short lists of exceptions.

They are made for the things that a caption names. A word that no list holds is inflected as a regular one.
"""

import re
import unicodedata
from collections.abc import Mapping


def word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_VES = word_set("knife wife life leaf loaf wolf calf half shelf thief scarf hoof elf")
_OES = word_set("potato tomato hero echo torpedo volcano mosquito tornado domino")
_PLURALS = {
    "man": "men",
    "woman": "women",
    "child": "children",
    "person": "people",
    "foot": "feet",
    "tooth": "teeth",
    "goose": "geese",
    "mouse": "mice",
    "ox": "oxen",
    "die": "dice",
    "cactus": "cacti",
    "fungus": "fungi",
    "quiz": "quizzes",
    "bus": "buses",
    "gas": "gases",
    "lens": "lenses",
    "iris": "irises",
    "oasis": "oases",
    **{word: re.sub("fe?$", "ves", word) for word in _VES},
    **{word: f"{word}es" for word in _OES},
}
_SINGULARS = {many: one for one, many in _PLURALS.items()}
_ENDINGS = word_set("man woman child person foot tooth mouse wife shelf wolf knife leaf")
"""Words of `_PLURALS` that are also the end of longer ones: firemen, bookshelves."""
_NO_MEN = word_set("human german roman norman ottoman talisman shaman caiman omen specimen abdomen ramen stamen")

_SAME = word_set(
    "sheep deer moose bison salmon trout tuna cod shrimp squid swine elk aircraft spacecraft series species"
)
_ONLY_PLURAL = word_set(
    "scissors trousers pants jeans shorts tights leggings pajamas pyjamas binoculars pliers tongs tweezers glasses "
    "sunglasses eyeglasses goggles headphones earphones clothes police cattle groceries fries"
)
_MASS = word_set(
    "water coffee tea milk beer wine juice soup rice pasta bread butter cheese chocolate cereal meat beef pork "
    "bacon ham food fruit popcorn sugar salt snow ice sand grass hay mud fire smoke fog rain wood metal gold silver "
    "fur hair luggage furniture jewelry jewellery clothing broccoli lettuce spinach corn"
)
_SINGULAR_IN_S = word_set(
    "axis canvas atlas christmas tennis trellis chassis debris pelvis mantis ibis metropolis acropolis clematis "
    "amaryllis basis bias alias pancreas news pyrex thermos cosmos rhinoceros albatross asparagus chaos"
) | {word for word in _PLURALS if word.endswith("s")}
_PLURAL_IN_US = word_set("menus emus gnus tutus")
_SINGULAR_IN_E = word_set(
    "zombie cookie movie brownie genie selfie smoothie hoodie birdie prairie axe headache cache avalanche blouse spouse"
)

_AFTER_HEAD = re.compile(r"[ -](?:of|in|on|with|at|by|for|from|to|under|over|near|without)[ -]", re.IGNORECASE)


def is_plural(phrase: str) -> bool:
    """Return whether a noun phrase has the form of a plural. A word that has one form, as "sheep", has not."""
    word = _head(phrase)[1].casefold()
    if word in _ONLY_PLURAL or _irregular(word, _SINGULARS):
        return True
    if word in _SINGULAR_IN_S or len(word) < 4 or not word.endswith("s"):
        return False
    return word in _PLURAL_IN_US or not word.endswith(("ss", "us"))


def is_mass(phrase: str) -> bool:
    """Return whether a noun phrase names what is not counted, as "water"."""
    return _head(phrase)[1].casefold() in _MASS


def has_one_form(phrase: str) -> bool:
    """Return whether singular and plural of a noun phrase are the same, as of "sheep"."""
    word = _head(phrase)[1].casefold()
    return word in _SAME or word.endswith("fish")


def plural(phrase: str) -> str:
    """Return the plural of a noun phrase that is not one: "bowls of pears" for "bowl of pears"."""
    before, word, after = _head(phrase)
    return before + _plural(word) + after


def singular(phrase: str) -> str:
    """Return the singular of a noun phrase that `is_plural`, or the phrase itself if it has none."""
    before, word, after = _head(phrase)
    return before + _singular(word) + after


def indefinite_article(text: str) -> str:
    """Return "a" or "an", by the sound with which the text begins."""
    word = text.split(" ", 1)[0]
    plain = unicodedata.normalize("NFD", word).encode("ascii", "ignore").decode()
    if re.match(r"8|1[18](?!\d)", plain):
        return "an"
    # Letters that are read one by one, as in "an SUV", "an x-ray", "a UFO".
    if re.match(r"[A-Za-z](?:-|$)", plain) or (plain.isupper() and len(plain) <= 3):
        return "an" if plain[0].lower() in "aefhilmnorsx" else "a"
    if re.match(r"hour|honest|hono|heir", plain, re.IGNORECASE):
        return "an"
    if re.match(r"uni(?![nd]|mp)|u[bcfhjkqrst][aeiou]|eu|ew|one(?:$|-|sie)|once|ouija", plain, re.IGNORECASE):
        return "a"
    return "an" if plain[:1].lower() in tuple("aeiou") else "a"


def like(text: str, model: str) -> str:
    """Return the text in capitals, or with a capital first letter, if the model has that and the text no capitals."""
    if text != text.casefold():
        return text
    if model.isupper() and len(model) > 1:
        return text.upper()
    return text[:1].upper() + text[1:] if model[:1].isupper() else text


def _head(phrase: str) -> tuple[str, str, str]:
    """Split a noun phrase at its head: ("red ", "bowl", " of pears")."""
    after = _AFTER_HEAD.search(phrase, 1)
    end = after.start() if after else len(phrase)
    start = max(phrase.rfind(" ", 0, end), phrase.rfind("-", 0, end)) + 1
    return phrase[:start], phrase[start:end], phrase[end:]


def _irregular(word: str, table: Mapping[str, str]) -> str | None:
    """Return the entry of the table that the word, in lower case, is or ends with."""
    if word in table:
        return word
    if word.removesuffix("s") in _NO_MEN:
        return None
    fits = [entry for entry in table if word.endswith(entry) and _ENDINGS & {entry, table[entry]}]
    return max(fits, key=len, default=None)


def _plural(word: str) -> str:
    low = word.casefold()
    if has_one_form(word):
        return word
    if entry := _irregular(low, _PLURALS):
        return like(low.removesuffix(entry) + _PLURALS[entry], word)
    if re.search(r"(?:s|x|z|ch|sh)$", low) and not low.endswith(("stomach", "monarch", "epoch")):
        return f"{word}es"
    return f"{word[:-1]}ies" if re.search(r"[^aeiou]y$", low) else f"{word}s"


def _singular(word: str) -> str:
    low = word.casefold()
    if entry := _irregular(low, _SINGULARS):
        return like(low.removesuffix(entry) + _SINGULARS[entry], word)
    if low in _ONLY_PLURAL:
        return word
    if low[:-1] in _SINGULAR_IN_E or low.endswith("houses"):
        return word[:-1]
    if low.endswith("ies") and len(low) > 4:
        return f"{word[:-3]}y"
    return word[:-2] if low[:-2] in _SINGULAR_IN_S or re.search(r"(?:ss|x|zz|ch|sh|us)es$", low) else word[:-1]
