"""Texts of more than 75 tokens on the bundled model: their windows, their embeddings, and what becomes of a picture."""

import copy
import logging
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.harness.baselines import diffusers_pipeline
from diffedit.contract.request import Prompts
from diffedit.contract.stages import Artifact
from diffedit.errors import TextTooLong
from diffedit.pictures import Picture, read_picture
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import SAMPLES, load_profiles
from diffedit_worker.models.text_encoding import encode_windows, split_into_windows
from diffedit_worker.stages.edit import edit
from diffedit_worker.stages.embed import embed
from diffedit_worker.stages.invert import invert
from diffedit_worker.stages.mask import mask

# When the machine has other work, two threads of a small model wait for each other much longer than they compute.
torch.set_num_threads(1)

SOURCE = "a photograph of a pear on a green table"
LONG = "a photograph of a pear on a green table and " * 8
WALK: dict[str, Any] = {"scheduler": "ddim", "num_inference_steps": 5, "strength": 0.8}
FROM_CAPTION: dict[str, Any] = {"inversion_guidance_scale": 1.5, "inversion_feature_reuse": 1}
FROM_TARGET: dict[str, Any] = {"guidance_scale": 7.5, "guidance_interval": 1.0, "feature_reuse": 1}


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(load_profiles()["tiny"], device="cpu")


@pytest.fixture(scope="module")
def picture() -> Picture:
    return read_picture((SAMPLES / "06.png").read_bytes())


def of_tokens(count: int) -> str:
    """Return a text of so many tokens: each of these words has one."""
    words = ("a", "photograph", "of", "a", "green", "table", "and", "a", "pear")
    return " ".join(words[i % len(words)] for i in range(count))


def ids_of(models: Models, text: str) -> list[int]:
    tokenizer, _ = models.text_encoder
    return tokenizer(text, add_special_tokens=False, verbose=False).input_ids


def truncated(tokenizer: Any, encoder: Any, *texts: str) -> torch.Tensor:
    """Return the embeddings as the tokenizer itself pads and cuts the texts, which is what version 1 stored."""
    inputs = tokenizer(list(texts), padding="max_length", max_length=77, truncation=True, return_tensors="pt")
    with torch.no_grad():
        return encoder(inputs.input_ids, attention_mask=None)[0]


def embedded(models: Models, target: str, caption: str = SOURCE, source: str = SOURCE, negative: str | None = None):
    prompts = Prompts(source=(source,), target=(target,))
    made = embed(models=models, on_step=lambda *_: None, prompts=prompts, caption=caption, negative_prompt=negative)
    return made[Artifact.EMBEDDINGS], made[Artifact.CAPTION_EMBEDDING]


# Windows


@pytest.mark.parametrize("text", ["", "a", SOURCE, of_tokens(74), of_tokens(75), "Crème brûlée, 猫 & 😀!", "a " * 75])
def test_a_text_of_up_to_75_tokens_has_one_window_and_the_embedding_that_it_always_had(models, text):
    windows = split_into_windows(models.text_encoder[0], text)

    assert len(windows) == 1
    assert torch.equal(encode_windows(*models.text_encoder, windows), truncated(*models.text_encoder, text))


@pytest.mark.parametrize(("tokens", "lengths"), [(76, [75, 1]), (150, [75, 75]), (151, [75, 75, 1]), (600, [75] * 8)])
def test_a_longer_text_has_more_windows(models, tokens, lengths):
    windows = split_into_windows(models.text_encoder[0], of_tokens(tokens))

    assert [len(window) for window in windows] == lengths
    assert list(chain(*windows)) == ids_of(models, of_tokens(tokens))


def test_a_window_ends_at_the_end_of_a_word(models):
    tokenizer, _ = models.text_encoder
    text = of_tokens(70) + " unforgettable pear"
    word = ids_of(models, "unforgettable")
    assert len(word) > 5

    windows = split_into_windows(tokenizer, text)

    assert windows == [ids_of(models, of_tokens(70)), [*word, *ids_of(models, "pear")]]


def test_only_a_word_that_is_longer_than_a_window_is_split(models):
    tokenizer, _ = models.text_encoder
    text = "a " + "zx" * 60 + " pear"
    ids = ids_of(models, text)
    assert len(ids) == 1 + 120 + 1

    windows = split_into_windows(tokenizer, text)

    assert windows == [ids[:1], ids[1:76], ids[76:]]


def test_the_tokenizer_does_not_warn_of_a_long_text(models, caplog, monkeypatch):
    tokenizer, _ = models.text_encoder
    monkeypatch.setattr(tokenizer, "deprecation_warnings", {})  # it warns once
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)

    split_into_windows(tokenizer, of_tokens(500))
    assert not caplog.records

    tokenizer(of_tokens(500))
    assert "longer than the specified maximum" in caplog.text


def test_each_window_is_what_the_pipeline_makes_of_its_words(models):
    pipe = diffusers_pipeline(models)
    text = of_tokens(120)
    words = text.split()

    of_pipeline = [
        pipe.encode_prompt(" ".join(part), "cpu", 1, do_classifier_free_guidance=False)[0][0]
        for part in (words[:75], words[75:])
    ]
    embeddings, _ = embedded(models, text)

    torch.testing.assert_close(embeddings["target"], torch.cat(of_pipeline)[None])


def test_padding_and_attention_mask_are_those_of_the_checkpoint(models):
    """Stable Diffusion 2 pads with another token than that of the end, and some encoders want the mask."""
    tokenizer, encoder = (copy.deepcopy(each) for each in models.text_encoder)
    tokenizer.pad_token = "pear</w>"
    encoder.config.use_attention_mask = True
    inputs = tokenizer([SOURCE, "a"], padding="max_length", max_length=77, return_tensors="pt")
    assert inputs.input_ids[0, -1] != tokenizer.eos_token_id
    with torch.no_grad():
        expected = encoder(inputs.input_ids, attention_mask=inputs.attention_mask)[0]
        assert not torch.equal(expected, encoder(inputs.input_ids)[0])

    windows = [window for text in (SOURCE, "a") for window in split_into_windows(tokenizer, text)]

    assert torch.equal(encode_windows(tokenizer, encoder, windows), expected)


# Embeddings


def test_the_texts_of_an_edit_are_padded_to_the_longest_one_and_the_caption_is_not(models):
    alone, of_caption = embedded(models, "a cat", negative="a dog")
    (empty,) = encode_windows(*models.text_encoder, [[]])

    embeddings, of_same_caption = embedded(models, of_tokens(160), negative="a dog")

    for name in ("source", "negative"):
        torch.testing.assert_close(embeddings[name], torch.cat([alone[name], empty[None], empty[None]], dim=1))
    assert embeddings["target"].shape == (1, 3 * 77, 96)
    assert {name: tensor.shape[1] for name, tensor in of_same_caption.items()} == {"caption": 77, "unconditional": 77}
    torch.testing.assert_close(of_same_caption, of_caption)


@pytest.mark.parametrize("name", ["source", "negative"])
def test_source_and_negative_count_as_well(models, name):
    embeddings, of_caption = embedded(models, "a cat", **{name: of_tokens(80)})

    assert {tensor.shape[1] for tensor in embeddings.values()} == {2 * 77}
    assert {tensor.shape[1] for tensor in of_caption.values()} == {77}


def test_a_long_caption_lengthens_the_unconditional_embedding_only(models):
    embeddings, of_caption = embedded(models, "a cat", caption=of_tokens(80))

    assert {tensor.shape[1] for tensor in embeddings.values()} == {77}
    assert {tensor.shape[1] for tensor in of_caption.values()} == {2 * 77}


def test_long_and_short_sentences_are_averaged(models):
    texts = ("a pear", of_tokens(80))
    prompts = Prompts(source=texts, target=("a cat",))
    made = embed(models=models, on_step=lambda *_: None, prompts=prompts, caption="", negative_prompt=None)
    single = [embedded(models, of_tokens(80), source=text)[0]["source"] for text in texts]

    torch.testing.assert_close(made[Artifact.EMBEDDINGS]["source"], torch.cat(single).mean(dim=0, keepdim=True))


def test_600_tokens_are_taken(models):
    embeddings, _ = embedded(models, of_tokens(600))

    assert embeddings["target"].shape == (1, 8 * 77, 96)


@pytest.mark.parametrize(
    ("named", "name"),
    [
        ({"target": of_tokens(601)}, "target prompt"),
        ({"target": "a cat", "source": of_tokens(601)}, "source prompt"),
        ({"target": "a cat", "caption": of_tokens(601)}, "caption"),
        ({"target": "a cat", "negative": of_tokens(601)}, "negative prompt"),
    ],
)
def test_a_text_of_more_tokens_is_refused_with_the_count(models, named, name):
    with pytest.raises(TextTooLong) as caught:
        embedded(models, **named)

    assert str(caught.value) == f"the {name} has 601 tokens, and the model takes 600 at most; shorten it"


# Pictures


def test_two_targets_that_differ_after_77_tokens_give_different_masks_and_pictures(models, picture):
    source, first, second = LONG, LONG + "some cherries", LONG + "a blue ball"
    assert len({tuple(ids_of(models, text)[:75]) for text in (first, second)}) == 1
    results = []
    for target in (first, second):
        embeddings, of_caption = embedded(models, target, source=source, caption=source)
        common = {"models": models, "on_step": lambda *_: None, "image": picture}
        (found,) = mask(
            **common,
            embeddings=embeddings,
            seed=0,
            scheduler="ddim",
            num_inference_steps=5,
            num_maps_per_mask=2,
            mask_encode_strength=0.5,
            mask_thresholding_ratio="otsu",
            mask_cleanup=False,
        ).values()
        inverted = invert(**common, caption_embedding=of_caption, **FROM_CAPTION, **WALK)
        (result,) = edit(
            **common,
            mask=found,
            trajectory=inverted[Artifact.TRAJECTORY],
            embeddings=embeddings,
            **FROM_TARGET,
            **WALK,
        ).values()
        results.append((embeddings["target"], np.asarray(found), np.asarray(result.image)))

    for one, other in zip(*results, strict=True):
        assert one.shape == other.shape
        assert (np.asarray(one) != np.asarray(other)).any()
