"""The stages caption, prompts and embed on the bundled model."""

import json
import threading
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import save

from diffedit.contract.request import Prompts
from diffedit.contract.stages import Artifact
from diffedit.errors import ArtifactError, TextTooLong
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import SAMPLES, load_profiles
from diffedit_worker.stages.caption import caption, tidy
from diffedit_worker.stages.embed import embed
from diffedit_worker.stages.prompts import check, prompts

# When the machine has other work, two threads of a small model wait for each other much longer than they compute.
torch.set_num_threads(1)

SCENES = json.loads((SAMPLES / "scenes.json").read_text())


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(load_profiles()["tiny"], device="cpu")


def ignore(done: int, total: int) -> None:
    pass


class Cancelled(Exception):
    pass


def cancel_at(step: int):
    def on_step(done: int, total: int) -> None:
        if done == step:
            raise Cancelled

    return on_step


def picture(name: str) -> SimpleNamespace:
    return SimpleNamespace(image=Image.open(SAMPLES / name).convert("RGB"))


def assert_counts_up(steps: list[tuple[int, int]]) -> None:
    assert len({total for _, total in steps}) == 1
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert steps[-1][0] == steps[-1][1]


def batches_of(model: torch.nn.Module, run) -> list[int]:
    """How many texts went through the model in each of its forwards."""
    batches = []

    def count(module, args, kwargs):
        batches.append(len(args[0] if args else kwargs["input_ids"]))

    hook = model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        run()
    finally:
        hook.remove()
    return batches


# Caption


@pytest.mark.parametrize("scene", SCENES, ids=[scene["picture"] for scene in SCENES])
def test_the_caption_names_what_is_in_the_picture(models, scene):
    text = caption(models=models, on_step=ignore, image=picture(scene["picture"]))[Artifact.CAPTION]

    assert text.startswith("a photograph of ")
    assert scene["source_concept"] in text
    assert text == tidy(text)


def test_the_caption_reports_each_token(models):
    steps = []
    caption(models=models, on_step=lambda *step: steps.append(step), image=picture("00.png"))

    assert len(steps) > 3
    assert_counts_up(steps)


def test_a_cancelled_caption_stops(models):
    with pytest.raises(Cancelled):
        caption(models=models, on_step=cancel_at(2), image=picture("00.png"))


@pytest.mark.parametrize("size", [(1, 1), (500, 30)])
def test_pictures_of_any_size_get_a_caption(models, size):
    image = SimpleNamespace(image=Image.new("RGB", size))

    assert caption(models=models, on_step=ignore, image=image)[Artifact.CAPTION]


def test_tidy():
    assert tidy("  a\tphotograph \n of\x00 a\x7f dog ") == "a photograph of a dog"
    assert len(tidy("ab " * 1000)) <= 1000
    assert tidy(" \x00 ") == ""


# Prompts


def concepts(
    models: Models, on_step=ignore, num_prompts: int = 16, seed: int = 0, way: str = "sentences", caption: str = "a dog"
) -> Prompts:
    return prompts(
        models=models,
        on_step=on_step,
        caption=caption,
        target_prompt=None,
        source_concept="dog",
        target_concept="grapes",
        concept_prompts=way,
        num_prompts=num_prompts,
        seed=seed,
    )[Artifact.PROMPTS]


@pytest.mark.parametrize("num_prompts", [1, 16])
def test_concepts_become_sentences(models, num_prompts):
    made = concepts(models, num_prompts=num_prompts)

    assert len(made.source) == len(made.target) == num_prompts
    for concept, sentences in (("dog", made.source), ("grapes", made.target)):
        assert sum(concept in sentence for sentence in sentences) >= 0.8 * num_prompts
        assert all(sentence and sentence == tidy(sentence) for sentence in sentences)


def test_sentences_vary(models):
    assert len(set(concepts(models).source)) > 8


def test_the_seed_decides(models):
    assert concepts(models, seed=5) == concepts(models, seed=5) != concepts(models, seed=6)


def test_the_seed_decides_in_threads_as_well(models):
    alone = {seed: concepts(models, seed=seed) for seed in (1, 2)}
    together, start = {}, threading.Barrier(2)

    def run(seed: int) -> None:
        start.wait()
        together[seed] = [concepts(models, seed=seed) for _ in range(3)]

    threads = [threading.Thread(target=run, args=(seed,)) for seed in alone]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert together == {seed: [made] * 3 for seed, made in alone.items()}


def test_the_global_generator_is_not_used(models):
    before = torch.random.get_rng_state()
    concepts(models)

    assert torch.equal(torch.random.get_rng_state(), before)


def test_prompts_report_each_token_and_stop(models):
    steps = []
    concepts(models, on_step=lambda *step: steps.append(step))
    assert_counts_up(steps)

    with pytest.raises(Cancelled):
        concepts(models, on_step=cancel_at(3))


def test_all_sentences_come_from_one_call(models):
    batches = batches_of(models.prompter[1].encoder, lambda: concepts(models))

    assert batches == [16 + 16]


def test_an_empty_sentence_falls_back_to_the_concept(models, monkeypatch):
    tokenizer, _ = models.prompter
    monkeypatch.setattr(tokenizer, "batch_decode", lambda *_, **__: ["", "a big dog", " \n", "some grapes"])

    assert concepts(models, num_prompts=2) == Prompts(source=("dog", "a big dog"), target=("grapes", "some grapes"))


def test_a_concept_that_the_prompter_would_not_read_to_its_end_is_refused_with_the_count(models):
    tokenizer, _ = models.prompter
    with pytest.raises(TextTooLong, match=r"the instruction with the target concept has \d+ tokens") as caught:
        ask(models, source_concept="dog", target_concept="grapes and a dog " * tokenizer.model_max_length)

    assert f"takes {tokenizer.model_max_length} at most" in str(caught.value)


def ask(models, on_step=ignore, **asked):
    texts = dict.fromkeys(("target_prompt", "source_concept", "target_concept"))
    given = {**texts, "concept_prompts": "sentences", **asked}
    return prompts(models=models, on_step=on_step, caption="a dog", num_prompts=4, seed=0, **given)


def test_a_target_alone_needs_no_language_model():
    made = ask(object(), target_prompt="a cat")

    assert made == {Artifact.PROMPTS: Prompts(source=("a dog",), target=("a cat",))}


def test_a_caption_that_names_the_source_needs_no_language_model():
    steps = []
    caption = "a photograph of a dog on a blue table"
    made = concepts(object(), lambda *step: steps.append(step), way="caption", caption=caption)

    assert made == Prompts(source=(caption,), target=("a photograph of some grapes on a blue table",))
    assert steps == [(1, 1)]


def test_a_caption_that_does_not_name_the_source_gives_the_sentences_of_the_language_model(models):
    made = concepts(models, num_prompts=2, way="caption", caption="a photograph of a cat")

    assert made == concepts(models, num_prompts=2)


CAPTION, SENTENCES = ("a dog",), ("a dog", "a big dog", "the dog")


@pytest.mark.parametrize(
    ("way", "concept", "source", "target", "is_fine"),
    [
        ("caption", "dog", CAPTION, CAPTION, True),
        ("caption", "dog", SENTENCES, SENTENCES, True),
        ("caption", "dog", SENTENCES, CAPTION, False),
        ("caption", "dog", SENTENCES[:2], SENTENCES[:2], False),
        ("caption", None, SENTENCES, SENTENCES, False),
        ("sentences", "dog", CAPTION, CAPTION, False),
        ("sentences", "dog", SENTENCES, SENTENCES, True),
        ("sentences", None, CAPTION, CAPTION, True),
    ],
)
def test_prompts_have_as_many_sentences_as_the_stage_may_give(way, concept, source, target, is_fine):
    with nullcontext() if is_fine else pytest.raises(ArtifactError, match="sentences instead of"):
        check(Prompts(source=source, target=target), source_concept=concept, concept_prompts=way, num_prompts=3)


# Embed


def encoded(models: Models, *texts: str) -> torch.Tensor:
    """Straight from the encoder, one text at a time."""
    tokenizer, encoder = models.text_encoder
    rows = []
    for text in texts:
        ids = tokenizer(text, padding="max_length", truncation=True, return_tensors="pt").input_ids
        with torch.no_grad():
            rows.append(encoder(ids).last_hidden_state)
    return torch.cat(rows)


def run_embed(models, source=("a dog",), target=("a cat",), caption="a dog on a table", negative=None, on_step=ignore):
    made = embed(
        models=models,
        on_step=on_step,
        prompts=Prompts(source=source, target=target),
        caption=caption,
        negative_prompt=negative,
    )
    return made[Artifact.EMBEDDINGS], made[Artifact.CAPTION_EMBEDDING]


def test_the_shapes_and_types_of_embeddings(models):
    embeddings, of_caption = run_embed(models)

    assert set(embeddings) == {"source", "target", "negative"}
    assert set(of_caption) == {"caption", "unconditional"}
    for tensor in (*embeddings.values(), *of_caption.values()):
        assert tensor.shape == (1, 77, 96)
        assert (tensor.dtype, tensor.device.type) == (torch.float32, "cpu")
        assert torch.isfinite(tensor).all()


def test_several_sentences_are_averaged(models):
    source = ("a dog", "a big dog", "a dog on a blue table")
    embeddings, of_caption = run_embed(models, source=source)

    torch.testing.assert_close(embeddings["source"], encoded(models, *source).mean(dim=0, keepdim=True))
    torch.testing.assert_close(embeddings["target"], encoded(models, "a cat"))
    torch.testing.assert_close(of_caption["caption"], encoded(models, "a dog on a table"))
    torch.testing.assert_close(of_caption["unconditional"], encoded(models, ""))


def test_a_repeated_sentence_counts_twice(models):
    embeddings, _ = run_embed(models, source=("a dog", "a dog", "a cat"))

    wanted = encoded(models, "a dog", "a dog", "a cat").mean(dim=0, keepdim=True)
    torch.testing.assert_close(embeddings["source"], wanted)


def test_the_source_is_the_negative_unless_one_is_given(models):
    without, _ = run_embed(models, source=("a dog", "a big dog"))
    given, _ = run_embed(models, source=("a dog", "a big dog"), negative="a blue table")

    assert torch.equal(without["negative"], without["source"])
    torch.testing.assert_close(given["negative"], encoded(models, "a blue table"))


def test_safetensors_saves_the_embeddings(models):
    for tensors in run_embed(models):
        assert save(tensors)


def test_all_texts_of_an_edit_with_the_default_number_of_prompts_go_in_one_batch(models):
    source, target = (tuple(f"a {animal} number {number}" for number in range(16)) for animal in ("dog", "cat"))
    batches = batches_of(
        models.text_encoder[1], lambda: run_embed(models, source=source, target=target, negative="a blue table")
    )

    assert batches == [16 + 16 + len(("caption", "negative prompt", "the empty text"))]


def test_many_and_long_texts_go_in_batches(models):
    steps = []
    source = tuple(f"a dog number {number} {'and a cat ' * 40}" for number in range(70))
    embeddings, _ = run_embed(models, source=source, on_step=lambda *step: steps.append(step))

    assert embeddings["source"].shape == (1, 2 * 77, 96)
    assert steps == [(64, 143), (128, 143), (143, 143)]


def test_a_cancelled_embed_stops(models):
    with pytest.raises(Cancelled):
        run_embed(models, on_step=cancel_at(4))
