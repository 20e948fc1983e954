"""Why a job is where it is, in words."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from diffedit.admin.models import Explanation
from diffedit.admin.queues import advice_for_pause
from diffedit.contract.job import JobStatus, State
from diffedit.errors.jobs import CODES_OF_THE_REQUEST
from diffedit.jobs.administration import Waiting
from diffedit.jobs.backend import JobBackend
from diffedit.jobs.filters import stage_of
from diffedit.jobs.queues import Pause
from diffedit.jobs.workers import Trouble, WorkerInfo


def explain(backend: JobBackend, job_id: str) -> Explanation:
    """Say what a job waits for, since when, and which workers could run it; or how it ended.

    Raises JobNotFound, BadRecord.
    """
    store = backend.job_store
    status, place = store.queue_status(job_id), store.waiting_of(job_id)
    if status.is_terminal or place is None:
        return Explanation(id=job_id, state=status.state, reasons=tuple(_end_of(status)))
    now, workers = store.now(), backend.worker_registry.workers()
    able = [each for each in workers if place.queue in each.queues and each.contract >= status.contract]
    since = None if place.since is None else datetime.fromtimestamp(place.since, UTC)
    if place.worker:
        reasons = _running(status, place, workers)
    else:
        troubles = {trouble.name: trouble for trouble in backend.worker_registry.troubles()}
        pause = store.paused_queues().get(place.queue)
        limits = store.owner_limits(status.owner) or store.owner_limits(None) if status.owner else None
        reasons = [
            *_waiting(status, place, now, limits.max_running if limits else None),
            *_held_up(status, place, pause),
            _who_could(status, place, workers, troubles),
        ]
    return Explanation(
        id=job_id,
        state=status.state,
        reasons=tuple(reasons),
        stage=stage_of(status),
        queue=place.queue,
        waiting_since=since,
        ahead=status.position,
        workers=tuple(each.name for each in able if not each.paused),
    )


def _end_of(status: JobStatus) -> Iterator[str]:
    at = f" {_moment(status.finished_at)}" if status.finished_at else ""
    if status.state is State.SUCCEEDED:
        yield f"It succeeded{at}."
    elif status.state is State.FAILED and status.error:
        stage = f" in stage {status.error.stage.value}" if status.error.stage else ""
        yield f"It failed{at}{stage} with {status.error.code}: {status.error.message}"
        if status.error.code in CODES_OF_THE_REQUEST:
            yield "The request is the cause, so the same request fails again: submit another one."
        else:
            yield f"When the cause is removed, `diffedit admin retry {status.id}` lets it start over."
    elif status.state is State.EXPIRED:
        limits = {"start_timeout": status.options.start_timeout, "deadline": status.options.deadline}
        named = " or ".join(f"its {name} of {value:g} s" for name, value in limits.items() if value is not None)
        yield f"It expired{at}, because it exceeded {named or 'its time limit'}."
        yield f"`diffedit admin retry {status.id} --no-deadline` lets it start over without time limits."
    else:
        yield f"It was {status.state.value}{at}."
        yield f"`diffedit admin retry {status.id}` lets it start over."


def _running(status: JobStatus, place: Waiting, workers: list[WorkerInfo]) -> list[str]:
    stage = status.stage.value if status.stage else "its first stage"
    name = next((each.name for each in workers if each.id == place.worker), None)
    if name is None:
        return [
            f"A worker that sends no heartbeat ran stage {stage}: {place.worker}.",
            "The leader among the live workers lets the job wait again; without a live worker, nobody does.",
        ]
    steps = f", step {status.step} of {status.steps}" if status.steps else ""
    return [f"Worker {name} runs stage {stage}{steps}."]


def _waiting(status: JobStatus, place: Waiting, now: float, max_running: int | None) -> Iterator[str]:
    stage = stage_of(status)
    since = f" since {_moment(place.since)} ({_seconds(now - place.since)})" if place.since is not None else ""
    yield f"It waits for stage {stage.value if stage else '-'} in queue {place.queue}{since}."
    if place.parked:
        limit = f"max_running is {max_running}" if max_running else "max_running"
        yield f"As many jobs of its owner {status.owner} have started as may run at the same time ({limit})."
    elif status.position:
        turn = "; owners take turns" if place.held_back else ""
        yield f"{status.position} job{'s are' if status.position > 1 else ' is'} ahead of it{turn}."


def _held_up(status: JobStatus, place: Waiting, pause: Pause | None) -> Iterator[str]:
    if pause:
        reason = f": {pause.reason}" if pause.reason else ""
        yield f"The queue is paused since {_moment(pause.since)}{reason}. {advice_for_pause(place.queue)}"
    if status.refusal:
        stage = stage_of(status)
        names = status.refused_by.get(stage, ()) if stage else ()
        yield f"{', '.join(names) or 'A worker'} could not run this stage: {status.refusal.message}"


def _who_could(status: JobStatus, place: Waiting, workers: list[WorkerInfo], troubles: Mapping[str, Trouble]) -> str:
    reading = [each for each in workers if place.queue in each.queues]
    if not reading:
        return f"No live worker reads this queue; start one for profile {status.request.params.profile}."
    described = ", ".join(f"{each.name} ({_state(each, status, troubles.get(each.name))})" for each in reading)
    return f"{len(reading)} live worker{'s read' if len(reading) > 1 else ' reads'} this queue: {described}."


def _state(worker: WorkerInfo, status: JobStatus, trouble: Trouble | None) -> str:
    if worker.contract < status.contract:
        return f"cannot serve the job: version {worker.version or '0.2.0'} is too old"
    if worker.state == "paused" and trouble:
        return f"paused since {_moment(trouble.since)}: {trouble.code}"
    jobs = len(worker.running_jobs)
    return f"busy with {jobs} of {worker.batch_jobs} stages" if worker.state == "busy" and jobs else worker.state


def _moment(at: datetime | float) -> str:
    moment = at if isinstance(at, datetime) else datetime.fromtimestamp(at, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _seconds(seconds: float) -> str:
    minutes, rest = divmod(max(int(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min" if minutes else f"{rest} s"
