"""Benchmark workers replace the stage functions, but not what the cache keys are built from."""

from typing import Any

from benchmarks.harness.instrumentation import StageFunction, pipeline_with
from diffedit.contract.stages import Artifact, Stage
from diffedit_worker.pipeline import PIPELINE


def test_a_replaced_stage_function_keeps_the_inputs_and_the_params() -> None:
    def replacement(stage: Stage, function: StageFunction) -> StageFunction:
        def run(**arguments: Any) -> dict[Artifact, Any]:
            return dict.fromkeys(stage.gives, stage.value)

        return run

    pipeline = pipeline_with(replacement)
    assert pipeline.keys() == PIPELINE.keys()
    for stage, original in PIPELINE.items():
        replaced = pipeline[stage]
        assert replaced.run(models=None) == dict.fromkeys(stage.gives, stage.value)
        assert (replaced.needs, replaced.params) == (original.needs, original.params)
        assert original.run is not replaced.run
