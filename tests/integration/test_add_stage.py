"""A stage is added by the rule of the documentation, and a job runs it. No further place may be needed.

The rule: name the new artifact in `Artifact`; name the stage in `Stage`, with its group and outputs; write one file in
`stages/`, named like the stage, with a function and its `DEFINITION`.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import diffedit
import diffedit_worker

ARTIFACT = ('    RESULT = "result"\n', '    RESULT = "result"\n    UPSCALED = "upscaled"\n')
STAGE = (
    "    group: ModelGroup\n",
    '    UPSCALE = "upscale", ModelGroup.DIFFUSION, {Artifact.UPSCALED: (Artifact.RESULT,)}\n\n    group: ModelGroup\n',
)
FILE = '''
"""Stage upscale: double the size of the result."""

from dataclasses import replace

from diffedit.contract.stages import Artifact
from diffedit_worker.codecs import RESULT
from diffedit_worker.stages.definition import Output, StageDefinition


def upscale(*, models, on_step, result):
    width, height = result.image.size
    on_step(1, 1)
    return {Artifact.UPSCALED: replace(result, image=result.image.resize((2 * width, 2 * height)))}


DEFINITION = StageDefinition(upscale, "diffusion", {Artifact.UPSCALED: Output(RESULT)})
'''

# Runs in the copy, as a client and a worker do.
RUN = """
from functools import cache

import torch

from diffedit.contract.job import Job, State
from diffedit.contract.object_keys import input_key
from diffedit.contract.request import EditParams, EditRequest
from diffedit.contract.stages import Artifact, Stage
from diffedit.jobs.workers import WorkerInfo
from diffedit.testing import MemoryObjectStore, memory_backend
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import SAMPLES, load_profiles
from diffedit_worker.pipeline import CODECS
from diffedit_worker.runtime.context import WorkerContext
from diffedit_worker.runtime.runner import Runner

torch.set_num_threads(1)
picture = (SAMPLES / "06.png").read_bytes()
image = input_key(picture, "png")
backend, object_store = memory_backend(), MemoryObjectStore()
object_store.put(image, picture)
backend.worker_registry.send_heartbeat(
    WorkerInfo(id="worker", name="worker", profile="tiny", device="cpu", queues=())
)
models_of = cache(lambda name: Models(load_profiles()[name], device="cpu"))
context = WorkerContext("worker", lambda job: None, shutting_down=lambda: False, release_slot=lambda: None)
runner = Runner(
    backend.job_store, backend.artifact_locks, object_store, models_of, context, s3_retry_timeout=0, cache_bytes=0
)
request = EditRequest(
    image=image,
    source_prompt="a photograph of a pear on a green table",
    target_prompt="a photograph of some cherries on a green table",
    goal=Artifact("upscaled"),
    params=EditParams(profile="tiny", num_inference_steps=2, num_maps_per_mask=1, seed=7),
)
job = Job(id="ab" * 16, request=request)
assert [stage.value for stage in job.stages_left] == ["embed", "mask", "invert", "edit", "upscale"]
backend.job_store.create_job(job)
for stage in job.stages_left:
    runner.run(stage, job.id)
status = backend.job_store.status(job.id)
assert status.state is State.SUCCEEDED, (status.state, status.error)
key = status.artifact_keys[Artifact("upscaled")]
assert key.startswith("artifacts/upscaled/"), key
assert CODECS[Artifact("upscaled")].decode(object_store.get(key)).image.size == (128, 128)
"""


def test_a_stage_that_is_added_by_the_rule_runs(tmp_path: Path) -> None:
    for package in (diffedit, diffedit_worker):
        (source,) = package.__path__
        shutil.copytree(source, tmp_path / package.__name__, ignore=shutil.ignore_patterns("__pycache__"))
    contract = tmp_path / "diffedit" / "contract" / "stages.py"
    text = contract.read_text()
    for before, after in (ARTIFACT, STAGE):
        assert text.count(before) == 1, f"the test cannot find its place: {before!r}"
        text = text.replace(before, after)
    contract.write_text(text)
    (tmp_path / "diffedit_worker" / "stages" / "upscale.py").write_text(FILE.lstrip())

    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", RUN], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100
    )

    assert done.returncode == 0, done.stderr
