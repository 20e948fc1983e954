"""Where a caption names a thing: the words of a text, and the noun phrases around a name, by English grammar."""

import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from diffedit_worker.stages.english import word_set

INDEFINITE = word_set("a an some any")
OF_ONE = word_set("1 one this that another each every")
_OF_MANY = word_set(
    "two three four five six seven eight nine ten eleven twelve many several few both these those various multiple "
    "numerous"
)
DEFINITE = word_set("the my your his her its our their")

_HYPHENS = "-\u2010\u2011"
_BETWEEN_NOUN_PHRASES = word_set(
    "and or but of in on at with by for from to into onto over under near behind beside beneath between against across "
    "around through along above below inside outside up down off out next front top back is are was were be has have "
    "had which who while as like it they he she there not"
)
"""Words that cannot stand between a determiner and its noun."""
_COLOURS = word_set("black white brown red green blue yellow orange pink purple grey gray tan gold silver")
_VIEWS = word_set("photo photograph picture image closeup up view shot painting drawing portrait sketch front top back")
"""What may stand before "of" without a number of things: "a picture of", in contrast to "a bunch of"."""
_MOST_ADJECTIVES = 4


@dataclass(frozen=True)
class Word:
    """A word of a text: its place, its form for comparisons, and whether a hyphen joins it to the word before."""

    start: int
    end: int
    folded: str
    is_joined: bool


@dataclass(frozen=True)
class Sentence:
    """A text and its words."""

    text: str
    words: tuple[Word, ...]

    @classmethod
    def of(cls, text: str) -> "Sentence":
        """Split a text into words. Hyphens and apostrophes separate words, so "dog's" names a dog."""
        words: list[Word] = []
        start = None
        for place, char in enumerate(f"{text} "):
            # A mark belongs to the letter before it.
            if unicodedata.category(char)[0] in "LMN" or char == "_":
                start = place if start is None else start
            elif start is not None:
                folded = unicodedata.normalize("NFKC", text[start:place]).casefold()
                is_joined = bool(words) and text[words[-1].end : start] in tuple(_HYPHENS)
                words.append(Word(start, place, folded, is_joined))
                start = None
        return cls(text, tuple(words))

    def gap(self, number: int) -> str:
        """Return what stands between this word and the next one."""
        return self.text[self.words[number].end : self.words[number + 1].start]


@dataclass(frozen=True)
class Mention:
    """Where a sentence names a thing, as numbers of words.

    Attributes:
        first, last: the words of the name.
        phrase: the first word of the name with its adjectives.
        determiner: the article, number or other determiner before them, if there is one.
    """

    sentence: Sentence
    first: int
    last: int
    phrase: int
    determiner: int | None

    @property
    def name(self) -> str:
        words = self.sentence.words
        return self.sentence.text[words[self.first].start : words[self.last].end]

    @property
    def determiner_word(self) -> str | None:
        return None if self.determiner is None else self.sentence.words[self.determiner].folded

    @property
    def group(self) -> str | None:
        """What the things form, if the sentence says so: "bunch" for the grapes of "a bunch of grapes"."""
        before = [word.folded for word in self.sentence.words[max(0, self.phrase - 2) : self.phrase]]
        is_group = self.determiner is None and before[1:] == ["of"] and before[0] not in _VIEWS
        return before[0] if is_group else None

    @property
    def verbs(self) -> list[Word]:
        """The words beside the phrase that may be its verb: "there is a dog", "a dog is", "a dog that is".

        The verb after "a man and a dog" is not the dog's alone.
        """
        words, found = self.sentence.words, []
        begin = self.phrase if self.determiner is None else self.determiner
        if begin > 1 and words[begin - 2].folded == "there":
            found.append(words[begin - 1])
        if begin and words[begin - 1].folded in ("and", "or"):
            return found
        after = self.last + 1
        if after + 1 < len(words) and words[after].folded in ("that", "which", "who"):
            after += 1
        if after < len(words) and self.sentence.gap(after - 1) == " ":
            found.append(words[after])
        return found


def is_determiner(word: str) -> bool:
    return word in INDEFINITE | OF_ONE | DEFINITE or is_of_many(word)


def is_of_many(word: str) -> bool:
    """Return whether a determiner says that there are several things."""
    return word in _OF_MANY or (word.isdecimal() and int(word) > 1)


def mentions(sentence: Sentence, names: Collection[str]) -> Iterator[Mention]:
    """Yield where the sentence has one of the names, from left to right. The longest name counts.

    Letter case makes no difference, nor do hyphens for spaces. Only whole words count, and not a part of a word with
    hyphens.
    """
    folded = sorted({tuple(word.folded for word in Sentence.of(name).words) for name in names} - {()}, key=len)
    number = free_from = 0
    while number < len(sentence.words):
        length = next((len(name) for name in reversed(folded) if _stands_at(sentence, number, name)), 0)
        if length:
            phrase, determiner = _start_of_phrase(sentence, number, free_from)
            yield Mention(sentence, number, number + length - 1, phrase, determiner)
            free_from = number + length
        number += length or 1


def _stands_at(sentence: Sentence, first: int, name: tuple[str, ...]) -> bool:
    words, end = sentence.words, first + len(name)
    if tuple(word.folded for word in words[first:end]) != name:
        return False
    if words[first].is_joined or (end < len(words) and words[end].is_joined):
        return False
    if any(sentence.gap(number).strip(_HYPHENS + " ") for number in range(first, end - 1)):
        return False
    if name[-1] in _COLOURS and end < len(words) and sentence.gap(end - 1) == " ":
        # "an orange cat" names no orange, but "an orange on a table" and "an orange lying there" do.
        following = words[end].folded
        return following in _BETWEEN_NOUN_PHRASES or is_determiner(following) or following.endswith("ing")
    return True


def _start_of_phrase(sentence: Sentence, noun: int, free_from: int) -> tuple[int, int | None]:
    """Return where the adjectives before a noun begin, and their determiner.

    A word that may be no adjective ends the search, so that "a man riding horses" does not give "a" to the horses.
    """
    words = sentence.words
    for number in range(noun - 1, max(free_from, noun - 2 - _MOST_ADJECTIVES) - 1, -1):
        word, after = words[number].folded, words[number + 1].folded
        before = words[number - 1].folded if number > free_from else ""
        if re.fullmatch(f",? |[{_HYPHENS}]", sentence.gap(number)) is None:
            return number + 1, None
        if is_determiner(word):
            return number + 1, number
        is_between = word in _BETWEEN_NOUN_PHRASES and not (word == "and" and {before, after} <= _COLOURS)
        is_verb = word.endswith("ing") and not is_determiner(before)
        is_other_noun_or_verb = word.endswith("s") and not word.endswith("ss")
        if is_between or is_verb or is_other_noun_or_verb:
            return number + 1, None
    return max(free_from, noun - 1 - _MOST_ADJECTIVES, 0), None
