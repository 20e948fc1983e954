"""Prompts from a caption and two concepts: the caption, and the caption with one concept in place of the other.

The grammar is that of English: the sentence keeps its number ("two dogs" becomes "two apples") and gets the article
that fits ("a dog" becomes "an apple" or "some grapes"). The rest of the caption stays as it is.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum

from diffedit.contract.request import Prompts
from diffedit.contract.validation import MAX_TEXT_CHARS
from diffedit_worker.stages.english import (
    has_one_form,
    indefinite_article,
    is_mass,
    is_plural,
    like,
    plural,
    singular,
    word_set,
)
from diffedit_worker.stages.naming import (
    DEFINITE,
    INDEFINITE,
    OF_ONE,
    Mention,
    Sentence,
    is_determiner,
    is_of_many,
    mentions,
)

Replacement = tuple[int, int, str]
"""Start and end of a part of the caption, and the text that replaces it."""

_PUNCTUATION = " .,;:!?\"'\u201c\u201d\u2018\u2019"
_HERDS = word_set("herd flock group school bunch pair couple lot number row pack pile crowd")
_VERBS_OF_ONE = {"is": "are", "was": "were", "has": "have"}
_VERBS_OF_MANY = {many: one for one, many in _VERBS_OF_ONE.items()}


class Number(Enum):
    """How many things a noun phrase means. MASS is what is not counted, as in "some water"."""

    ONE = "one"
    MANY = "many"
    MASS = "mass"

    @classmethod
    def of(cls, noun: str) -> "Number":
        return cls.MASS if is_mass(noun) else cls.MANY if is_plural(noun) else cls.ONE


@dataclass(frozen=True)
class Concept:
    """A concept as the user wrote it: "an apple" is the noun "apple" with the determiner "an"."""

    determiner: str | None
    noun: str

    @classmethod
    def parse(cls, text: str) -> "Concept":
        text = text.strip(_PUNCTUATION)
        first, _, rest = text.partition(" ")
        return cls(first, rest) if rest and is_determiner(first.casefold()) else cls(None, text)

    @property
    def number(self) -> Number:
        determiner = (self.determiner or "").casefold()
        if is_of_many(determiner):
            return Number.MANY
        return Number.ONE if determiner in ("a", "an", "one", "1") else Number.of(self.noun)

    @property
    def names(self) -> Collection[str]:
        """The noun in singular and plural."""
        if is_plural(self.noun):
            return self.noun, singular(self.noun)
        return self.noun, plural(self.noun), f"{self.noun}s"

    @property
    def insists(self) -> bool:
        """Whether the determiner replaces that of the caption. "a" and "some" only say what kind of thing it is."""
        return self.determiner is not None and self.determiner.casefold() not in INDEFINITE


def caption_prompts(caption: str, source: str, target: str) -> Prompts | None:
    """Return the caption, and the caption with `target` where it names `source`.

    Letter case, articles, number, and hyphens for spaces make no difference. Every mention is replaced: a source that
    remained in the target prompt would ask for both.

    Returns:
        None if the caption does not name the source, if nothing would change, or if the target prompt would be longer
        than a text may be.
    """
    asked, wanted = Concept.parse(source), Concept.parse(target)
    if not wanted.noun:
        return None
    changed = caption
    replacements = [
        each for found in mentions(Sentence.of(caption), asked.names) for each in _replace(found, asked, wanted)
    ]
    for start, end, text in sorted(replacements, reverse=True):
        changed = changed[:start] + text + changed[end:]
    if changed.casefold() == caption.casefold() or len(changed) > MAX_TEXT_CHARS:
        return None
    return Prompts(source=(caption,), target=(changed,))


def _replace(found: Mention, asked: Concept, wanted: Concept) -> Iterator[Replacement]:
    """Yield what to replace for one mention: the noun, its determiner, and its verb."""
    text, words = found.sentence.text, found.sentence.words
    begin, start, end = words[found.phrase].start, words[found.first].start, words[found.last].end
    was = _number_of_mention(found)
    number = wanted.number if wanted.insists else _number_of_target(found, was, asked.number, wanted.number)
    noun = _inflected(wanted.noun, number)

    determiner = _determiner_of_target(found, was, number, wanted)
    if determiner in ("a", "an"):
        determiner = indefinite_article(text[begin:start] + noun)
    if determiner and found.determiner is None:
        yield begin, begin, f"{like(determiner, text[begin])} "
    elif found.determiner is not None and determiner and determiner != found.determiner_word:
        old = words[found.determiner]
        yield old.start, old.end, like(determiner, text[old.start])

    is_after_inserted = determiner is not None and found.determiner is None and begin == start
    if not (asked.noun[:1].isupper() or (is_after_inserted and not found.name.isupper())):
        noun = like(noun, found.name)
    if noun.endswith("s") and number is Number.MANY and text[end : end + 2] in ("'s", "\u2019s"):
        noun, end = noun + text[end], end + 2
    yield start, end, noun

    if (was is Number.MANY) != (number is Number.MANY) and not found.group:
        verbs = _VERBS_OF_ONE if number is Number.MANY else _VERBS_OF_MANY
        yield from ((word.start, word.end, verbs[word.folded]) for word in found.verbs if word.folded in verbs)


def _inflected(noun: str, number: Number) -> str:
    if number is Number.MANY:
        return noun if is_plural(noun) else plural(noun)
    return singular(noun) if number is Number.ONE and is_plural(noun) else noun


def _number_of_mention(found: Mention) -> Number:
    determiner = found.determiner_word
    if determiner and is_of_many(determiner):
        return Number.MANY
    if has_one_form(found.name):
        # "a herd of sheep" and "sheep on a hill" are several. "the sheep" and "a plate of fish" may be one.
        is_bare = determiner is None and found.group is None
        return Number.MANY if is_bare or found.group in _HERDS or determiner in ("some", "any") else Number.ONE
    if is_mass(found.name) and (determiner in ("a", "an") or determiner in OF_ONE):
        return Number.ONE
    return Number.of(found.name)


def _number_of_target(found: Mention, was: Number, asked: Number, wanted: Number) -> Number:
    """Return the number of the target: as the user wrote it, unless the caption has another number than the user."""
    if wanted is Number.MASS:
        return wanted
    if was is Number.MANY and (found.group or is_of_many(found.determiner_word or "")):
        return was
    return was if {asked, was} == {Number.ONE, Number.MANY} else wanted


def _determiner_of_target(found: Mention, was: Number, number: Number, wanted: Concept) -> str | None:
    """Return the determiner of the target, None for none. "a" stands for "an" as well."""
    if wanted.insists:
        return wanted.determiner
    determiner = found.determiner_word
    if determiner is None:
        is_needed = number is Number.ONE and not found.group and (wanted.determiner or was is not Number.ONE)
        return "a" if is_needed else None
    if determiner in DEFINITE:
        return determiner
    if number is Number.ONE:
        return "a" if determiner in INDEFINITE else determiner
    if determiner in ("a", "an", "one", "1") or (number is Number.MASS and is_of_many(determiner)):
        return "some"
    if number is Number.MANY:
        return {"this": "these", "that": "those", "another": "some other"}.get(determiner, determiner)
    return determiner
