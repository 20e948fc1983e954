"""A client and a runner in one thread, over the memory doubles and the bundled model."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from diffedit import Client, JobHandle, Settings
from diffedit.contract.job import Job
from diffedit.contract.stages import Stage
from diffedit.testing import MemoryObjectStore, memory_backend
from diffedit_worker.models.loading import Models
from diffedit_worker.models.profiles import SAMPLES, load_profiles
from diffedit_worker.runtime.runner import Runner
from tests.support.contexts import a_context
from tests.support.factories import a_worker

# When the machine has other work, two threads of a small model wait for each other much longer than they compute.
torch.set_num_threads(1)

SAMPLE = SAMPLES / "06.png"
TEXTS = {
    "source_prompt": "a photograph of a pear on a green table",
    "target_prompt": "a photograph of some cherries on a green table",
}
QUICK = {"num_inference_steps": 3, "num_maps_per_mask": 1, "seed": 7, "profile": "tiny"}


@cache
def tiny(profile: str) -> Models:
    """Return the models of a profile on the CPU, the same ones for all tests of a process."""
    return Models(load_profiles(None)[profile], device="cpu")


class InlineWorker:
    """A client whose jobs run in this thread when they are submitted, stage by stage, as the queue would send them.

    Attributes:
        before_stage: called before each stage.
        shutting_down: whether the worker shuts down.
        models_of: returns the models of a profile. A change takes effect at `restart`.
        object_store: the bucket. A change takes effect at `restart`.
    """

    def __init__(self) -> None:
        self.backend, self.object_store = memory_backend(), MemoryObjectStore()
        self.job_store, self.worker_registry = self.backend.job_store, self.backend.worker_registry
        self.artifact_locks = self.backend.artifact_locks
        self.worker_registry.send_heartbeat(a_worker(id="rig", profile_params=load_profiles()["tiny"].params))
        self.shutting_down = False
        self.models_of: Callable[[str], Models] = tiny
        self.before_stage: Callable[[Stage, Job], object] = lambda stage, job: None
        self.restart()

    def restart(self, *, context: dict[str, Any] | None = None, **options: Any) -> None:
        """Replace the runner by another one with these options."""
        self.runner = self.a_runner(context, **options)
        self.client = Client(Settings(), backend=self.backend, object_store=self.object_store, send=self.send)

    def a_runner(self, context: dict[str, Any] | None = None, **options: Any) -> Runner:
        """Return a runner over the same doubles."""
        fields = {"enqueue": self.send, "shutting_down": lambda: self.shutting_down, **(context or {})}
        return Runner(
            self.job_store,
            self.artifact_locks,
            self.object_store,
            self.models_of,
            a_context(**fields),
            **{"s3_retry_timeout": 60, "cache_bytes": 0, "report_interval": 0, "hand_back_pause": 0, **options},
        )

    def send(self, job: Job) -> None:
        """Run the stages that are left, each if the one before returned the job."""
        current: Job | None = job
        for stage in job.stages_left:
            self.before_stage(stage, job)
            current = current and self.runner.run(stage, current.id)

    def edit(self, **asked: Any) -> JobHandle:
        return self.client.edit(SAMPLE, **{**TEXTS, **QUICK, **asked})

    def before_report(self, callback: Callable[[str, int], object]) -> None:
        """Call `callback(job_id, step)` before each progress report to the job store."""
        report_step = self.job_store.report_step

        def called_before(job_id: str, step: int, *rest: Any) -> Any:
            callback(job_id, step)
            return report_step(job_id, step, *rest)

        self.job_store.report_step = called_before

    def stage_of(self, job_id: str) -> Stage | None:
        """Return the stage that the job's record names as the current one."""
        return self.job_store.status(job_id).stage
