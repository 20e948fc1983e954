"""Where a caption names a thing: one pattern finds the name and the noun phrase around it, by English grammar."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import regex

from diffedit_worker.stages.english import Number, has_one_form, is_mass, is_plural, word_set

INDEFINITE = word_set("a an some any")
_DEFINITE = word_set("the my your his her its our their")
_OF_ONE = word_set("a an 1 one this that another each every")
_OF_MANY = word_set(
    "two three four five six seven eight nine ten eleven twelve many several few both these those various multiple "
    "numerous"
)
_DETERMINERS = INDEFINITE | _DEFINITE | _OF_ONE | _OF_MANY
_NO_ADJECTIVES = _DETERMINERS | word_set(
    "and or but of in on at with by for from to into onto over under near behind beside beneath between against across "
    "around through along above below inside outside up down off out next front top back is are was were be has have "
    "had which who while as like it they he she there not"
)
_COLOURS = word_set("black white brown red green blue yellow orange pink purple grey gray tan gold silver")
_HERDS = word_set("herd flock group school bunch pair couple lot number row pack pile crowd")
_VIEWS = word_set("photo photograph picture image closeup up view shot painting drawing portrait sketch front top back")
"""What may stand before "of" without a number of things: "a picture of", in contrast to "a bunch of"."""

_HYPHENS = r"\-\u2010\u2011"
_NOUN_PHRASE = r"""
    (?<! \w | \w['\u2019HYPHENS] )                                        # the start of a word
    (?: (?P<before> (?: and | or | \w++\sof )\s ) | (?P<there> there\s(?:is|are|was|were)\s ) )?
    (?: (?P<determiner> \L<determiners> | \d+ | \w++ (?: ['\u2019]s | (?<=s)['\u2019] ) )\s )?
    (?P<adjectives>
        (?: (?<= \b\L<determiners>\s ) \w++(?<=ing) ,?\s )?               # "a sleeping dog", no "man walking dogs"
        (?: (?! \L<no_adjectives> ,?\s ) \w[\wHYPHENS]*+ (?<! ing | [^s]s ) ,?\s
          | \L<colours>\sand\s (?= \L<colours>\b )                        # "a black and white dog"
        ){0,4}?
    )
    (?P<name> NAMES ) (?! \w | [HYPHENS]\w )
    (?: (?<! \b\L<colours> ) | (?! \s\w )                                 # not "an orange cat", but
      | (?= \s(?: \L<no_adjectives>\b | \w++(?<=ing) ) ) )                # "an orange on a table", "an orange lying"
    (?P<possessive> ['\u2019]s\b )?
    (?P<verb> (?: ,?\s(?:that|which|who) )? \s(?:is|are|was|were|has|have)\b )?
"""
"""A name with its determiner and adjectives, and the words beside them that tell or follow their number."""


@dataclass(frozen=True)
class Mention:
    """Where a caption names a thing: the groups of `_NOUN_PHRASE`, "" for those that are not there."""

    before: str
    there: str
    determiner: str
    adjectives: str
    name: str
    possessive: str
    verb: str

    @property
    def group(self) -> str:
        """What the things form, if the caption says so: "bunch" for the grapes of "a bunch of grapes"."""
        group, of, _ = self.before.casefold().partition(" of")
        return group if of and not self.determiner and group not in _VIEWS else ""

    @property
    def number(self) -> Number:
        # "a herd of sheep" and "sheep on a hill" are several. "the sheep" and "a plate of fish" may be one.
        if has_one_form(self.name) and self.determiner.casefold() in ("", "some", "any"):
            return Number.MANY if self.group in _HERDS | {""} else Number.ONE
        return number_of(self.determiner, self.name)


def number_of(determiner: str, noun: str) -> Number:
    """Return how many things a noun with a determiner, or with none (""), means."""
    if is_of_many(determiner) or is_plural(noun):
        return Number.MANY
    return Number.MASS if is_mass(noun) and determiner.casefold() not in _OF_ONE else Number.ONE


def is_definite(determiner: str) -> bool:
    """Return whether a determiner fits every number: "the", "my", "the man's"."""
    return determiner.casefold() in _DEFINITE or any(apostrophe in determiner for apostrophe in "'\u2019")


def is_of_many(determiner: str) -> bool:
    return determiner.casefold() in _OF_MANY or (determiner.isdecimal() and determiner != "1")


def is_determiner(word: str) -> bool:
    return word.casefold() in _DETERMINERS or word.isdecimal()


def mention_pattern(names: Iterable[str]) -> "regex.Pattern[str]":
    """Return the pattern of what names a thing by one of these names. Its groups are the fields of `Mention`.

    Letter case makes no difference, nor do hyphens for spaces. Only whole words count, and not a part of a word with
    hyphens.
    """
    gap = rf"[\ {_HYPHENS}]+"
    forms = {unicodedata.normalize(form, name) for name in names for form in ("NFC", "NFD")}
    any_name = "|".join(gap.join(map(regex.escape, regex.split(gap, form))) for form in forms)
    return regex.compile(
        _NOUN_PHRASE.replace("NAMES", any_name).replace("HYPHENS", _HYPHENS),
        regex.IGNORECASE | regex.FULLCASE | regex.VERBOSE,
        determiners=_DETERMINERS,
        no_adjectives=_NO_ADJECTIVES,
        colours=_COLOURS,
    )
