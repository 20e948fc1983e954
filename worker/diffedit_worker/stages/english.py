"""English nouns: singular and plural, the indefinite article, and letter case.

The rules and most exceptions are those of `pluralizer`. Here are words for things in pictures that it gets wrong.
"""

import re
import unicodedata
from enum import Enum

from pluralizer import Pluralizer


def word_set(text: str) -> frozenset[str]:
    return frozenset(text.split())


_IRREGULAR = """
lens lenses, rhinoceros rhinoceroses, thermos thermoses, oasis oases, mantis mantises, ibis ibises,
pelvis pelvises, trellis trellises, clematis clematises, amaryllis amaryllises, acropolis acropolises, bias biases,
virus viruses, gnu gnus, tutu tutus, guru gurus, taxi taxis, safari safaris, toga togas, café cafés, gulf gulfs,
mosquito mosquitoes, domino dominoes, larva larvae, stomach stomachs, monarch monarchs, waltz waltzes, fuse fuses,
daisy daisies, selfie selfies, hoodie hoodies, beanie beanies, onesie onesies, birdie birdies, doggie doggies,
magpie magpies, bowtie bowties, prairie prairies, headache headaches, cache caches, moustache moustaches,
mustache mustaches, avalanche avalanches, quiche quiches, niche niches, german germans, roman romans, norman normans,
ottoman ottomans, shaman shamans, talisman talismans, caiman caimans, omen omens, specimen specimens,
abdomen abdomens, squid squid, spacecraft spacecraft, hovercraft hovercraft, species species, chaos chaos,
cosmos cosmos
"""
_ONLY_PLURAL = word_set(
    "scissors trousers pants jeans shorts tights leggings pajamas pyjamas binoculars pliers tongs tweezers glasses "
    "sunglasses eyeglasses goggles headphones earphones clothes police cattle groceries fries"
)
_MASS = word_set(
    "water coffee tea milk beer wine juice soup rice pasta bread butter cheese chocolate cereal meat beef pork "
    "bacon ham food fruit popcorn sugar salt snow ice sand grass hay mud fire smoke fog rain wood metal gold silver "
    "fur hair luggage furniture jewelry jewellery clothing broccoli lettuce spinach corn asparagus ramen music "
    "traffic garbage graffiti wildlife equipment debris chaos tennis"
)
_AFTER_HEAD = re.compile(r"[ -](?:of|in|on|with|at|by|for|from|to|under|over|near|without)[ -]", re.IGNORECASE)

_nouns = Pluralizer()  # type: ignore[no-untyped-call]
for _pair in _IRREGULAR.split(","):
    _nouns.add_irregular_rule(*_pair.split())
for _word in _ONLY_PLURAL:
    _nouns.add_uncountable_rule(_word)


class Number(Enum):
    """How many things a noun phrase means. MASS is what is not counted, as in "some water"."""

    ONE = "one"
    MANY = "many"
    MASS = "mass"


def is_plural(phrase: str) -> bool:
    """Return whether a noun phrase has the form of a plural. A word that has one form, as "sheep", has not."""
    word = _head(phrase)[1]
    has_form = len(word) > 2 and _nouns.is_plural(word) and not _nouns.is_singular(word)
    return has_form or word.casefold() in _ONLY_PLURAL


def is_mass(phrase: str) -> bool:
    """Return whether a noun phrase names what is not counted, as "water"."""
    return _head(phrase)[1].casefold() in _MASS


def has_one_form(phrase: str) -> bool:
    """Return whether singular and plural of a noun phrase are the same, as of "sheep"."""
    return plural(phrase) == phrase and not is_plural(phrase) and not is_mass(phrase)


def plural(phrase: str) -> str:
    """Return the plural of a noun phrase that is not one: "bowls of pears" for "bowl of pears"."""
    before, word, after = _head(phrase)
    return before + (f"{word}s" if word.isupper() else _nouns.plural(word)) + after


def singular(phrase: str) -> str:
    """Return the singular of a noun phrase that `is_plural`, or the phrase itself if it has none."""
    before, word, after = _head(phrase)
    return before + _nouns.singular(word) + after


def inflected(phrase: str, number: Number) -> str:
    """Return a noun phrase in a number."""
    if is_plural(phrase):
        return singular(phrase) if number is Number.ONE else phrase
    return plural(phrase) if number is Number.MANY else phrase


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
