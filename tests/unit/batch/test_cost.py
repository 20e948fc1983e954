"""The cost that a dry run shows is what the bundled model then computes."""

import json
from pathlib import Path
from typing import Any

import pytest

from diffedit.batch.cost import cost_of
from diffedit.batch.manifest import Manifest
from tests.support.inline_worker import QUICK, SAMPLE, TEXTS, InlineWorker, tiny

WHOLE = {"feature_reuse": 1, "inversion_feature_reuse": 1}


@pytest.mark.parametrize(
    "common",
    [
        {"guidance_scale": 5, "num_inference_steps": 7},
        {"guidance_scale": 5, "guidance_interval": 0.5, "num_inference_steps": 7},
        {"guidance_scale": 1, "inversion_guidance_scale": 2},
        {"num_maps_per_mask": 3, "strength": 0.5, "scheduler": "dpmsolver++"},
    ],
)
def test_samples_and_stages_are_those_that_are_computed(tmp_path: Path, common: dict[str, Any]) -> None:
    # Two equal wishes but for the guidance or the seed share what does not depend on it.
    rows = [{"picture": str(SAMPLE), "seed": seed} for seed in (1, 2)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    worker, passes = InlineWorker(), list[int]()
    manifest = Manifest(tmp_path / "rows.jsonl", {**TEXTS, **QUICK, **WHOLE, **common})
    cost = cost_of(worker.client, manifest)
    assert not passes and not worker.client.jobs()
    hook = tiny("tiny").unet.register_forward_hook(lambda unet, inputs, output: passes.append(len(inputs[0])))
    try:
        statuses = [worker.client.edit(row.options.pop("picture"), **row.options).status() for row in manifest]
    finally:
        hook.remove()
    assert cost.samples == sum(passes)
    made = [stage.value for status in statuses for stage in status.stages if stage not in status.cache_hits]
    assert cost.stages == {stage: made.count(stage) for stage in dict.fromkeys(made)}
    assert (cost.rows, cost.refused, cost.workers) == (2, 0, 1)
