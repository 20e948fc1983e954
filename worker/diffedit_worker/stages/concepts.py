"""Prompts from a caption and two concepts: the caption, and the caption with one concept in place of the other.

The grammar is that of English: the sentence keeps its number ("two dogs" becomes "two apples") and gets the article
that fits ("a dog" becomes "an apple" or "some grapes"). The rest of the caption stays as it is.
"""

import re
from dataclasses import dataclass

from diffedit.contract.request import Prompts
from diffedit.contract.validation import MAX_TEXT_CHARS
from diffedit_worker.stages.english import Number, indefinite_article, inflected, is_plural, like, plural, singular
from diffedit_worker.stages.naming import (
    INDEFINITE,
    Mention,
    is_definite,
    is_determiner,
    is_of_many,
    mention_pattern,
    number_of,
)

_PUNCTUATION = " .,;:!?\"'\u201c\u201d\u2018\u2019-\u2010\u2011"
_DETERMINERS_OF_MANY = {"this": "these", "that": "those", "another": "some other", "each": "all", "every": "all"}
_VERBS_OF_MANY = {"is": "are", "was": "were", "has": "have"}
_VERBS_OF_ONE = {many: one for one, many in _VERBS_OF_MANY.items()}


@dataclass(frozen=True)
class Concept:
    """A concept as the user wrote it: "an apple" is the noun "apple" with the determiner "an", "apple" has ""."""

    determiner: str
    noun: str

    @classmethod
    def parse(cls, text: str) -> "Concept":
        text = text.strip(_PUNCTUATION)
        first, _, rest = text.partition(" ")
        return cls(first, rest) if rest and is_determiner(first) else cls("", text)

    @property
    def number(self) -> Number:
        return number_of(self.determiner, self.noun)

    @property
    def names(self) -> set[str]:
        """The noun in singular and plural."""
        return {self.noun, f"{self.noun}s", (singular if is_plural(self.noun) else plural)(self.noun)}

    @property
    def insists(self) -> bool:
        """Whether the determiner replaces that of the caption. "a" and "some" only say what kind of thing it is."""
        return self.determiner.casefold() not in INDEFINITE | {""}


def caption_prompts(caption: str, source: str, target: str) -> Prompts | None:
    """Return the caption, and the caption with `target` where it names `source`.

    Letter case, articles, number, and hyphens for spaces make no difference. Every mention is replaced: a source that
    remained in the target prompt would ask for both.

    Returns:
        None if the caption does not name the source, if nothing would change, or if the target prompt would be longer
        than a text may be.
    """
    asked, wanted = Concept.parse(source), Concept.parse(target)
    if not asked.noun or not wanted.noun:
        return None
    mentions = mention_pattern(asked.names)
    changed = mentions.sub(lambda match: _swapped(Mention(**match.groupdict("")), asked, wanted), caption)
    if changed.casefold() == caption.casefold() or len(changed) > MAX_TEXT_CHARS:
        return None
    return Prompts(source=(caption,), target=(changed,))


def _swapped(found: Mention, asked: Concept, wanted: Concept) -> str:
    """Return a mention with the target as its noun, and with the determiner and the verb that agree with it."""
    number = _number_of_target(found, asked, wanted)
    noun = inflected(wanted.noun, number)
    determiner = _determiner_of_target(found, number, wanted)
    if determiner in ("a", "an"):
        determiner = indefinite_article(found.adjectives + noun)

    # The capital letter of a name, as "Tesla", stays with it. That of a first word passes to an inserted determiner.
    is_inserted_before = determiner and not found.determiner and not found.adjectives
    if not asked.noun[:1].isupper() and (found.name.isupper() or not is_inserted_before):
        noun = like(noun, found.name)
    if determiner:
        determiner = like(determiner, found.determiner or found.adjectives or found.name) + " "

    there, verb, possessive = found.there, found.verb, found.possessive
    # The verb after "a man and a dog" is not the dog's alone, and that after "a bunch of grapes" is the bunch's.
    if (found.number is Number.MANY) != (number is Number.MANY) and not found.before:
        there, verb = _agreeing(there, number), _agreeing(verb, number)
    if number is Number.MANY and noun.endswith("s"):
        possessive = possessive[:1]
    return f"{found.before}{there}{determiner}{found.adjectives}{noun}{possessive}{verb}"


def _agreeing(words: str, number: Number) -> str:
    """Return the words, as " that is", with the verb for one or for many things."""
    verbs = _VERBS_OF_MANY if number is Number.MANY else _VERBS_OF_ONE
    return re.sub(r"\w+", lambda word: verbs.get(word[0].casefold(), word[0]), words)


def _number_of_target(found: Mention, asked: Concept, wanted: Concept) -> Number:
    """Return the number of the target: as the user wrote it, unless the caption has another number than the user."""
    if wanted.insists or wanted.number is Number.MASS:
        return wanted.number
    is_counted = found.number is Number.MANY and (found.group or is_of_many(found.determiner))
    return found.number if is_counted or {asked.number, found.number} == {Number.ONE, Number.MANY} else wanted.number


def _determiner_of_target(found: Mention, number: Number, wanted: Concept) -> str:
    """Return the determiner of the target, "" for none. "a" stands for "an" as well."""
    determiner = found.determiner.casefold()
    if wanted.insists:
        return wanted.determiner
    if not determiner:
        is_needed = number is Number.ONE and not found.group and (wanted.determiner or found.number is not Number.ONE)
        return "a" if is_needed else ""
    if is_definite(determiner):
        return determiner
    if number is Number.ONE:
        return "a" if determiner in INDEFINITE else determiner
    if determiner in ("a", "an", "one", "1") or (number is Number.MASS and is_of_many(determiner)):
        return "some"
    if number is Number.MANY:
        return _DETERMINERS_OF_MANY.get(determiner, determiner)
    return determiner
