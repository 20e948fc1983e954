"""Whole edits from two concepts on the bundled model: which way the prompts were made, and what is made again."""

from typing import Any

import pytest

from diffedit.contract.request import Prompts
from diffedit.contract.stages import Stage
from diffedit_worker.models.loading import Models
from tests.support.inline_worker import TEXTS, InlineWorker

CONCEPTS: dict[str, Any] = {**dict.fromkeys(TEXTS), "source_concept": "Pears", "target_concept": "an orange"}
BY_CAPTION = Prompts(
    source=("a photograph of a pear on a green table",), target=("a photograph of an orange on a green table",)
)


@pytest.fixture
def worker() -> InlineWorker:
    return InlineWorker()


def prompts_of(worker: InlineWorker, **asked: Any) -> Prompts:
    return worker.edit(**{**CONCEPTS, **asked}).result(timeout=1).prompts


def test_the_caption_makes_the_prompts_without_the_language_model(
    worker: InlineWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Models, "prompter", property(lambda models: pytest.fail("the prompter is loaded")))
    assert prompts_of(worker) == BY_CAPTION


def test_the_results_are_those_of_the_two_prompts(worker: InlineWorker) -> None:
    texts = {"source_prompt": BY_CAPTION.source[0], "target_prompt": BY_CAPTION.target[0]}
    by_caption, by_prompts = (worker.edit(**asked).result(timeout=1) for asked in (CONCEPTS, texts))
    assert by_caption.image.tobytes() == by_prompts.image.tobytes()
    assert by_caption.mask.tobytes() == by_prompts.mask.tobytes()


def test_the_users_caption_counts(worker: InlineWorker) -> None:
    caption = "two pears on a table"
    assert prompts_of(worker, caption=caption) == Prompts(source=(caption,), target=("two oranges on a table",))


@pytest.mark.parametrize("asked", [{"caption": "a fruit on a table"}, {"concept_prompts": "sentences"}])
def test_the_language_model_writes_if_the_caption_does_not_name_the_source_or_the_user_asks(
    worker: InlineWorker, asked: dict[str, Any]
) -> None:
    made = prompts_of(worker, num_prompts=3, **asked)
    assert len(made.source) == len(made.target) == 3
    assert any("orange" in sentence for sentence in made.target)


def test_another_way_makes_the_prompts_again_and_keeps_the_inversion(worker: InlineWorker) -> None:
    worker.edit(**CONCEPTS)
    status = worker.edit(**CONCEPTS, concept_prompts="sentences", num_prompts=2).status()
    assert set(status.cache_hits) == {Stage.CAPTION, Stage.INVERT}
    assert worker.edit(**CONCEPTS).status().cache_hits == tuple(Stage)
