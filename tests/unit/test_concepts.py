"""Prompts from a caption and two concepts: what counts as a mention, and the grammar of what takes its place."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from diffedit.contract.validation import MAX_TEXT_CHARS
from diffedit_worker.stages.concepts import caption_prompts
from diffedit_worker.stages.english import indefinite_article, is_plural, like, plural, singular


def replaced(caption: str, source: str, target: str) -> str | None:
    made = caption_prompts(caption, source, target)
    assert made is None or (made.source == (caption,) and len(made.target) == 1)
    return made and made.target[0]


def check(caption: str, source: str, target: str, expected: str | None) -> None:
    assert replaced(caption, source, target) == expected


GRAPES_AND_APPLE = "a photograph of some grapes and an apple on a blue table"
PEARS = "a photograph of a bowl of pears on a green table"
SURFER = "a man riding a wave on top of a surfboard"
TWO_CATS = "two cats sitting on top of a bed"


@pytest.mark.parametrize(
    ("caption", "source", "target", "expected"),
    [
        ("a close up of a dog laying on a couch", "dog", "cat", "a close up of a cat laying on a couch"),
        ("a close up of a dog laying on a couch", "dog", "apple", "a close up of an apple laying on a couch"),
        (SURFER, "man", "old man", "an old man riding a wave on top of a surfboard"),
        (SURFER, "surfboard", "elephant", "a man riding a wave on top of an elephant"),
        (PEARS, "bowl of pears", "bowl of fruits", "a photograph of a bowl of fruits on a green table"),
        (PEARS, "bowl of pears", "basket", "a photograph of a basket on a green table"),
        ("an orange cat", "cat", "dog", "an orange dog"),
        ("an orange cat", "orange cat", "dog", "a dog"),
        ("a large brown dog", "dog", "owl", "a large brown owl"),
        ("a black and white cat on a sill", "cat", "owl", "a black and white owl on a sill"),
        ("a man eating pizza", "pizza", "soup", "a man eating soup"),
        ("a dog, a cat and a mouse", "cat", "owl", "a dog, an owl and a mouse"),
        ("a dog's head", "dog", "owl", "an owl's head"),
        ("the dogs' bowls", "dog", "cat", "the cats' bowls"),
        ("the children's toys", "toys", "book", "the children's book"),
        ("boys\u2019 shoes", "shoes", "a hat", "boys\u2019 hat"),
        ("an 8 year old boy", "boy", "girl", "an 8 year old girl"),
        ("a plate with rice, broccoli and beef", "broccoli", "asparagus", "a plate with rice, asparagus and beef"),
        ("a one-eyed dog and a hot-air balloon", "dog", "owl", "a one-eyed owl and a hot-air balloon"),
    ],
)
def test_the_target_takes_the_place_of_the_source(caption, source, target, expected):
    check(caption, source, target, expected)


@pytest.mark.parametrize(
    ("caption", "source", "target", "expected"),
    [
        ("Dogs on a couch", "dog", "cat", "Cats on a couch"),
        ("a dog on a couch", "Dogs", "cats", "a cat on a couch"),
        ("the dog on a couch", "a dog", "an apple", "the apple on a couch"),
        ("a dog on a couch", '"Dog".', "a cat.", "a cat on a couch"),
        ("DOG ON A COUCH", "dog", "cat", "CAT ON A COUCH"),
        ("A dog on a couch", "dog", "apple", "An apple on a couch"),
        ("a BMW on a street", "bmw", "Tesla", "a Tesla on a street"),
        ("a stra\u00dfe in town", "STRASSE", "river", "a river in town"),
        ("a caf\u00e9 table", "cafe\u0301", "bar", "a bar table"),
        ("geese in a pond", "goose", "duck", "ducks in a pond"),
        ("a man and two women", "men", "children", "a child and two women"),
        ("a group of people", "person", "sheep", "a group of sheep"),
        ("a man in a white t - shirt", "t-shirt", "jacket", "a man in a white jacket"),
        ("a man in a white t-shirt", "t shirt", "jacket", "a man in a white jacket"),
        ("a hot-dog on a plate", "hot dog", "pizza", "a pizza on a plate"),
    ],
)
def test_number_letter_case_articles_and_hyphens_make_no_difference(caption, source, target, expected):
    check(caption, source, target, expected)


@pytest.mark.parametrize(
    ("caption", "source"),
    [
        ("a photograph of a cat", "dog"),
        ("a woman in a doghouse", "dog"),
        ("a woman with a hat", "man"),
        ("a dog-shaped balloon", "dog"),
        ("a sheep-dog", "dog"),
        ("a hot, dog days", "hot dog"),
        ("an orange cat and orange juice", "orange"),
        ("\u4e00\u53ea\u72d7\u5728\u6c99\u53d1\u4e0a", "\u72d7"),
        ("ein Hund auf dem Sofa", "dog"),
        ("dog", "a dog on a couch"),
        ("...", "dog"),
        ("a dog", "\U0001f436"),
        ("a dog", "-"),
        ("a dog", "?"),
    ],
)
def test_a_caption_that_does_not_name_the_source(caption, source):
    assert replaced(caption, source, "cat") is None


def test_a_colour_that_is_a_thing():
    check("an orange and an orange cat", "orange", "lemon", "a lemon and an orange cat")
    check("an orange lying on orange sand", "orange", "lemon", "a lemon lying on orange sand")


@pytest.mark.parametrize(
    ("caption", "source", "target", "expected"),
    [
        (TWO_CATS, "cat", "dog", "two dogs sitting on top of a bed"),
        (TWO_CATS, "a cat", "an apple", "two apples sitting on top of a bed"),
        (TWO_CATS, "cats", "a dog", "two dogs sitting on top of a bed"),
        ("2 dogs and 1 cat", "dog", "fox", "2 foxes and 1 cat"),
        ("2 dogs and 1 cat", "cat", "foxes", "2 dogs and some foxes"),
        ("several men standing around", "man", "woman", "several women standing around"),
        ("two cups of coffee", "cup of coffee", "glass of wine", "two glasses of wine"),
        ("a bunch of bananas", "bananas", "apple", "a bunch of apples"),
        ("a picture of bananas", "bananas", "apple", "a picture of an apple"),
        ("a bowl of fruit on a table", "fruits", "pears", "a bowl of pears on a table"),
        ("a bowl of fruits on a table", "fruits", "soup", "a bowl of soup on a table"),
        (GRAPES_AND_APPLE, "grapes", "dog", "a photograph of a dog and an apple on a blue table"),
        (GRAPES_AND_APPLE, "apple", "cherries", "a photograph of some grapes and some cherries on a blue table"),
        ("a herd of sheep in a field", "sheep", "cow", "a herd of cows in a field"),
        ("a sheep in a field", "sheep", "ox", "an ox in a field"),
        ("fish swimming in the ocean", "fish", "turtle", "turtles swimming in the ocean"),
        ("a black and white cat", "cat", "grapes", "some black and white grapes"),
        ("a very big, furry dog", "dog", "cats", "some very big, furry cats"),
        ("Dogs on a couch", "dogs", "a cat", "A cat on a couch"),
        ("a woman with long hair", "hair", "scarf", "a woman with a long scarf"),
        ("a man wearing glasses", "glasses", "a hat", "a man wearing a hat"),
        ("a man walking dogs", "dogs", "a cat", "a man walking a cat"),
        ("a man eats pizza", "pizza", "apples", "a man eats apples"),
        ("the cat's tail", "cat", "dogs", "the dogs' tail"),
    ],
)
def test_the_number_of_the_sentence_is_kept_and_its_articles_fit(caption, source, target, expected):
    check(caption, source, target, expected)


@pytest.mark.parametrize(
    ("caption", "source", "target", "expected"),
    [
        ("there is a dog that is sitting", "dog", "grapes", "there are some grapes that are sitting"),
        ("the dog was running", "dog", "two cats", "two cats were running"),
        ("dogs are running", "dogs", "a cat", "a cat is running"),
        ("there are two dogs", "dog", "cat", "there are two cats"),
        ("a man and his dogs are walking", "dogs", "a cat", "a man and his cat are walking"),
        ("this dog has a bone", "dog", "cats", "these cats have a bone"),
        ("each dog, which is brown", "dog", "cats", "all cats, which are brown"),
        ("a picture of a dog is on the wall", "dog", "cats", "a picture of some cats is on the wall"),
    ],
)
def test_the_verb_beside_the_noun_agrees(caption, source, target, expected):
    check(caption, source, target, expected)


@pytest.mark.parametrize(
    ("caption", "target", "expected"),
    [
        ("a dog", "an apple", "an apple"),
        ("a dog", "the cat", "the cat"),
        ("his dog", "a cat", "his cat"),
        ("his dog", "my cat", "my cat"),
        ("dog on a couch", "a cat", "a cat on a couch"),
        ("a dog", "some grapes", "some grapes"),
        ("a brown dog", "two cats", "two brown cats"),
        ("three dogs", "one cat", "one cat"),
    ],
)
def test_the_target_may_bring_its_own_determiner(caption, target, expected):
    check(caption, "a dog", target, expected)


@pytest.mark.parametrize(
    ("caption", "source", "expected"),
    [
        ("a dog next to another dog on a dog bed", "dog", "an owl next to another owl on an owl bed"),
        ("a brown dog and a white dog", "dog", "a brown owl and a white owl"),
        ("a brown dog and a white dog", "brown dog", "an owl and a white dog"),
        ("one dog and three dogs", "dog", "one owl and three owls"),
        ("a dog and a dog and a dog", "dog", "an owl and an owl and an owl"),
    ],
)
def test_every_mention_is_replaced(caption, source, expected):
    check(caption, source, "owl", expected)


def test_a_concept_may_be_the_whole_caption():
    check("a dog on a couch", "a dog on a couch", "a cat on a chair", "a cat on a chair")
    check("dog", "dog", "cat", "cat")


def test_a_target_that_changes_nothing_or_makes_the_text_too_long_is_none():
    assert replaced("two dogs", "dog", "Dogs") is None
    assert replaced("two dogs", "dog", "?!") is None
    assert replaced("a dog and a dog", "dog", "c" * (MAX_TEXT_CHARS // 2)) is None
    assert replaced("a dog", "dog", "c" * (MAX_TEXT_CHARS - 2)) is not None


TEXTS = st.text(
    st.sampled_from("a \u0e49-'\u2019,.8\u00e9\u4e00sSdogDOG") | st.characters(exclude_categories=["Cc", "Cs"]),
    min_size=1,
)
WORDS = st.sampled_from(["a", "an", "the", "some", "two", "dog", "dogs", "Dog", "orange", "and", "of", "is", "there"])
ODD_WORDS = st.sampled_from(["sheep", "water", "glasses", "ing", "'s", "-", ",", "t-shirt", "that", "many", "up"])
PHRASES = st.lists(WORDS | ODD_WORDS | TEXTS, min_size=1, max_size=8).map(" ".join)


@given(PHRASES, PHRASES, PHRASES)
def test_any_texts(caption, source, target):
    made = caption_prompts(caption, source, target)
    if made is not None:
        assert made.source == (caption,)
        assert made.target[0].casefold() != caption.casefold()
        assert len(made.target[0]) <= MAX_TEXT_CHARS


@given(TEXTS, TEXTS)
def test_the_rest_of_the_caption_stays(before, after):
    assume(replaced(before, "dog", "owl") is None and replaced(after, "dog", "owl") is None)
    check(f"{before}. A dog. {after}", "dog", "owl", f"{before}. An owl. {after}")


@pytest.mark.parametrize("part", ["big ", "an ", "a-", "black and ", "man's ", "running, ", "of ", "dog ", "s"])
def test_no_caption_takes_forever(part):
    caption = (part * MAX_TEXT_CHARS)[: MAX_TEXT_CHARS - 8] + ". a dog"
    assert replaced(caption, "dog", "cat") is not None


PLURALS = """
dog dogs, bus buses, class classes, box boxes, bench benches, dish dishes, peach peaches, city cities, monkey monkeys,
man men, woman women, fireman firemen, human humans, child children, grandchild grandchildren, person people, foot
feet, tooth teeth, goose geese, mouse mice, ox oxen, knife knives, leaf leaves, wolf wolves, werewolf werewolves,
shelf shelves, bookshelf bookshelves, scarf scarves, roof roofs, giraffe giraffes, chef chefs, potato potatoes, photo
photos, piano pianos, kangaroo kangaroos, volcano volcanoes, cactus cacti, octopus octopuses, lens lenses, canvas
canvases, iris irises, house houses, horse horses, vase vases, rose roses, shoe shoes, pie pies, tie ties, cookie
cookies, zombie zombies, axe axes, cross crosses, waitress waitresses, statue statues, bridge bridges, face faces,
cave caves, glove gloves, puppy puppies, strawberry strawberries, fox foxes, quiz quizzes, cow cows, beach beaches,
brush brushes, sandwich sandwiches, watch watches, purse purses, case cases, umbrella umbrellas, taxi taxis, kiwi
kiwis, zebra zebras
"""


@pytest.mark.parametrize("pair", [pair.strip() for pair in PLURALS.split(",")])
def test_plurals(pair):
    one, many = pair.split()
    assert (plural(one), singular(many)) == (many, one)
    assert (is_plural(one), is_plural(many)) == (False, True)
    assert (plural(one.capitalize()), singular(many.capitalize())) == (many.capitalize(), one.capitalize())


@pytest.mark.parametrize("word", ["sheep", "deer", "fish", "jellyfish", "aircraft"])
def test_words_with_one_form(word):
    assert plural(word) == word
    assert not is_plural(word)


@pytest.mark.parametrize("word", ["scissors", "jeans", "sunglasses"])
def test_words_without_a_singular(word):
    assert is_plural(word)
    assert singular(word) == word


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("bowl of pears", "bowls of pears"),
        ("man in a hat", "men in a hat"),
        ("fire hydrant", "fire hydrants"),
        ("dog with glasses", "dogs with glasses"),
        ("mother-in-law", "mothers-in-law"),
        ("old man", "old men"),
    ],
)
def test_the_head_of_a_phrase_is_inflected(one, many):
    assert (plural(one), singular(many)) == (many, one)
    assert (is_plural(one), is_plural(many)) == (False, True)


@pytest.mark.parametrize(
    ("article", "words"),
    [
        ("a", "dog unicorn university uniform useful European ewe one-eyed UFO ukulele T-shirt 7 12 house"),
        ("an", "apple hour honest heir umbrella uncle SUV x-ray MRI 8 11 18 unimportant undercoat igloo \u00e9clair"),
    ],
)
def test_the_indefinite_article_follows_the_sound(article, words):
    assert {word: indefinite_article(word) for word in words.split()} == dict.fromkeys(words.split(), article)


def test_letter_case_follows_the_caption_unless_the_target_has_its_own():
    assert [like("cat", model) for model in ("dog", "Dog", "DOG", "A")] == ["cat", "Cat", "CAT", "Cat"]
    assert like("iPhone", "DOG") == "iPhone"
