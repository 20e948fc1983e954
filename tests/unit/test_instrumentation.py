"""Benchmark workers replace the stage functions, but not what the cache keys are built from."""

from typing import Any

import pytest

from benchmarks.harness import instrumentation
from diffedit.contract.stages import Artifact, Stage
from diffedit_worker.pipeline import PIPELINE


def test_a_replaced_stage_function_keeps_the_inputs_and_the_params(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = dict(PIPELINE)
    monkeypatch.setattr(instrumentation, "PIPELINE", pipeline)

    def replacement(stage: Stage, function: instrumentation.StageFunction) -> instrumentation.StageFunction:
        def run(**arguments: Any) -> dict[Artifact, Any]:
            return dict.fromkeys(stage.gives, stage.value)

        return run

    instrumentation.replace_stage_functions(replacement)
    for stage, original in PIPELINE.items():
        replaced = pipeline[stage]
        assert replaced.run(models=None) == dict.fromkeys(stage.gives, stage.value)
        assert (replaced.needs, replaced.params) == (original.needs, original.params)
