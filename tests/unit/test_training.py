"""The parts of the trainings: the loop that can be interrupted, the scale of the latents, the scenes and their texts.

No pictures are drawn here, because the emoji font is not installed everywhere.
"""

from pathlib import Path

import pytest
import torch
from numpy.random import default_rng
from torch import Tensor, nn

from training.captions import caption, concept_names, concept_sentence, describe
from training.denoiser import AVERAGED, EMPTY, draw_texts, new_tokenizer
from training.loop import fit
from training.scenes import FRUITS, LAYOUTS, Bowl, Scene, Thing, scenes, swaps, with_kind
from training.vae import LATENT_STD, fold_scale, new_vae, whiten

PEAR_AND_CAT = Scene("blue", 0, (Thing("pear", 16, 30, 28, 0), Thing("cat", 47, 30, 28, 0)))
FRUIT_BOWL = Scene(
    "wooden", 0, tuple(Thing(kind, 30, 30, 24, 0) for kind in ("apple", "pear", "lemon")), Bowl(32, 34, 52)
)


class Interrupted(Exception):
    pass


def train(directory: Path, *, stop: int | None = None) -> tuple[Tensor, int]:
    """Fit a line for 40 steps, or until step `stop`. Return the weight and the number of steps of this call."""
    torch.manual_seed(3)
    line = nn.Linear(4, 1)
    steps = 0

    def loss(generator: torch.Generator) -> Tensor:
        nonlocal steps
        if steps == stop:
            raise Interrupted
        steps += 1
        x = torch.randn(8, 4, generator=generator)
        return (line(nn.functional.dropout(x, 0.1)) - x.sum(dim=1, keepdim=True)).square().mean()

    fit("line", line, loss, directory=directory, seed=5, steps=40, lr=0.3)
    return line.weight.detach().clone(), steps


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("training.loop.SAVE_EVERY", 10)
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    whole.mkdir()
    halves.mkdir()
    expected, _ = train(whole)
    with pytest.raises(Interrupted):
        train(halves, stop=25)
    resumed, steps = train(halves)
    assert steps == 20  # it was interrupted at 25 and had saved at 20
    assert torch.equal(resumed, expected)
    assert (expected - 1).abs().max() < 0.3  # it has learnt the line


def test_a_finished_training_is_not_repeated(tmp_path):
    first, _ = train(tmp_path)
    again, steps = train(tmp_path)
    assert steps == 0
    assert torch.equal(again, first)


@pytest.fixture(scope="module")
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.nn.functional.interpolate(
        torch.randn(16, 3, 8, 8, generator=generator).clamp(-1, 1), 64, mode="bilinear"
    )


def test_whitening_makes_independent_latents_of_unit_variance(images):
    torch.manual_seed(0)
    vae = new_vae()
    whiten(vae, images)
    with torch.no_grad():
        z = vae.encode(images).latent_dist.mode().permute(1, 0, 2, 3).flatten(1)
    assert torch.allclose(torch.cov(z), torch.eye(4), atol=0.02)


def test_folding_the_scale_changes_the_latents_but_not_the_pictures(images):
    torch.manual_seed(0)
    vae = new_vae()
    with torch.no_grad():
        vae.quant_conv.bias += 3.0
        before = vae.decode(vae.encode(images).latent_dist.mode()).sample
        fold_scale(vae, images)
        posterior = vae.encode(images).latent_dist
        after = vae.decode(posterior.mode()).sample
    z0 = posterior.mode() * vae.config.scaling_factor
    assert torch.allclose(z0.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-3)
    assert torch.allclose(z0.std(dim=(0, 2, 3)), torch.full((4,), LATENT_STD), atol=1e-3)
    assert torch.allclose(after, before, atol=1e-4)
    assert (posterior.std.amax(dim=(2, 3)) - posterior.std.amin(dim=(2, 3))).max() < 1e-6


def test_a_seed_gives_the_same_scenes_each_time():
    assert list(scenes(7, 20)) == list(scenes(7, 40))[:20]
    assert list(scenes(7, 20)) != list(scenes(8, 20))
    assert {scene.layout for scene in scenes(7, 60)} == set(LAYOUTS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_swap_changes_only_the_object_at_its_index(layout):
    for swap in swaps(7, 40, layout):
        assert swap.before.layout == swap.after.layout == layout
        assert swap.source != swap.target
        assert with_kind(swap.before, swap.index, swap.target) == swap.after
        changed = [a != b for a, b in zip(swap.before.things, swap.after.things, strict=True)]
        assert any(changed) if layout == "bowl" else changed.count(True) == 1 and changed[swap.index]
        kinds = [thing.kind for thing in swap.after.things]
        assert layout == "bowl" or len(set(kinds)) == len(kinds)


def test_scenes_are_described_from_left_to_right():
    assert caption(PEAR_AND_CAT) == "a photograph of a pear and a cat on a blue table"
    assert caption(with_kind(PEAR_AND_CAT, 1, "grapes")) == "a photograph of a pear and some grapes on a blue table"
    assert caption(FRUIT_BOWL) == "a photograph of a bowl of fruits on a wooden table"
    assert caption(with_kind(FRUIT_BOWL, 0, "cherries")) == "a photograph of a bowl of cherries on a wooden table"


def test_no_description_names_an_object_that_is_not_there():
    rng = default_rng(0)
    others = [f" {kind}" for kind in FRUITS if kind != "pear"] + ["dog", "ball", "red", "green", "bowl"]
    for _ in range(200):
        words = f" {describe(PEAR_AND_CAT, rng)} "
        assert "pear" in words or "cat" in words
        assert not any(other in words for other in others)


def test_concept_sentences_contain_the_concept_in_each_of_its_forms():
    rng = default_rng(0)
    for _ in range(200):
        name, phrase = concept_names(rng)
        assert name in phrase
        assert phrase in concept_sentence(phrase, rng)


def test_empty_texts_averages_and_descriptions_are_drawn_in_their_shares():
    rng = default_rng(0)
    drawn = [draw_texts(PEAR_AND_CAT, rng) for _ in range(2000)]
    assert abs(sum(texts == [""] for texts in drawn) / 2000 - EMPTY) < 0.03
    assert abs(sum(len(texts) > 1 for texts in drawn) / 2000 - AVERAGED) < 0.03


def test_the_tokenizer_works_like_clips_and_accepts_any_text():
    tokenizer = new_tokenizer(list(scenes(0, 200)))
    text = "a photograph of a pear on a blue table"
    ids = tokenizer(text, padding="max_length", return_tensors="pt").input_ids
    assert ids.shape == (1, 77)
    assert ids[0, 0] == tokenizer.bos_token_id
    assert ids[0, -1] == tokenizer.pad_token_id == tokenizer.eos_token_id
    assert tokenizer.decode(ids[0], skip_special_tokens=True).strip() == text
    assert tokenizer.unk_token not in tokenizer.tokenize("Übergröße, 7 €!")
    # Without our sorting, the library would number the letters differently each time.
    assert new_tokenizer(list(scenes(0, 200))).get_vocab() == tokenizer.get_vocab()
