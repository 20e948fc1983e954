"""The parts of a worker that need torch: its models and its runner, made from its settings when they are needed."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from diffedit.contract.stages import Stage
from diffedit.errors import DiffEditError
from diffedit.jobs.backend import JobBackend
from diffedit.objects.store import ObjectStore
from diffedit_worker.models.profiles import Profile, load_profiles, profile_named
from diffedit_worker.runtime.context import WorkerContext
from diffedit_worker.runtime.imports import without_collections
from diffedit_worker.runtime.logs import pass_on_library_logs
from diffedit_worker.settings import WorkerSettings

if TYPE_CHECKING:
    from diffedit_worker.models.loading import Models
    from diffedit_worker.runtime.runner import Runner
    from diffedit_worker.runtime.stage_report import Observer
    from diffedit_worker.stages.definition import StageDefinition


def default_batch_jobs(settings: WorkerSettings, profile: Profile) -> int:
    """Return how many stages suit the device. 1 if that cannot be found out; then the worker will not be ready."""
    try:
        from diffedit_worker.models import devices

        return devices.default_batch_jobs(profile, devices.resolve_device(settings.device))
    except (ImportError, DiffEditError):
        return 1


def make_models(
    settings: WorkerSettings, profile: str, batch_jobs: int, on_loaded: Callable[[str, float], object]
) -> "Models":
    """Return the models of a profile, none of them loaded. `on_loaded` is told each component and its seconds."""
    from diffedit_worker.models.devices import limit_cpu_threads
    from diffedit_worker.models.loading import Models
    from diffedit_worker.models.progress_bars import disable_progress_bars

    named = profile_named(load_profiles(settings.profiles_file), profile)
    models = Models(named, settings.device, settings.dtype, settings.vae_dtype, batch_jobs, on_loaded=on_loaded)
    limit_cpu_threads(named, models.device)
    if settings.log_format == "json":
        pass_on_library_logs()
    disable_progress_bars()
    return models


def make_runner(
    settings: WorkerSettings,
    backend: JobBackend,
    object_store: ObjectStore,
    models_of: "Callable[[str], Models]",
    context: WorkerContext,
    *,
    side_by_side: bool,
    pipeline: "Mapping[Stage, StageDefinition] | None",
    observers: "Sequence[Observer]",
) -> "Runner":
    """Return a runner on the services of the settings. `pipeline` replaces the functions of the stages."""
    with without_collections():
        from diffedit_worker.pipeline import PIPELINE
        from diffedit_worker.runtime.runner import Runner

    return Runner(
        backend.job_store,
        backend.artifact_locks,
        object_store,
        models_of,
        context,
        s3_retry_timeout=settings.s3_retry_timeout,
        cache_bytes=settings.cache_bytes,
        max_pixels=settings.max_pixels,
        side_by_side=side_by_side,
        pipeline=pipeline or PIPELINE,
        observers=observers,
    )
