"""What `diffedit exporter` tells Prometheus. docs/guides/monitoring.md says what each metric means."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from diffedit.contract.usage import Usage
from diffedit.deadline import deadline
from diffedit.errors import ServiceError
from diffedit.exporter.usage import MonthlyUsage, UsageOf
from diffedit.jobs.census import Census, FleetCensus, queues_of, work_seconds
from diffedit.jobs.workers import TroubleKind

log = logging.getLogger(__name__)

SCRAPE_SECONDS = 8.0
"""Seconds in which Redis has to answer all that a scrape asks. Prometheus waits for 10 by default."""
QUEUE = ("profile", "group", "lane")
ENDINGS = ("succeeded", "failed", "cancelled", "expired")


class FleetCollector(Collector):
    """Counts the fleet anew at each scrape. `usage_of` and `owners`: as in `MonthlyUsage`."""

    def __init__(self, census: Census, usage_of: UsageOf, owners: int) -> None:
        self._census = census
        self._usage = MonthlyUsage(usage_of, owners)
        self._was_up = True

    def collect(self) -> Iterator[Metric]:
        try:
            with deadline(SCRAPE_SECONDS):
                fleet = self._census.take()
                usage = self._usage.read(fleet.at)
        except ServiceError as error:
            self._note(False, error)
            yield _gauge("redis_up", "Whether Redis answered.", 0)
            return
        self._note(True)
        yield _gauge("redis_up", "Whether Redis answered.", 1)
        yield from _queue_metrics(fleet)
        yield from _worker_metrics(fleet)
        yield from _other_metrics(fleet)
        yield from _usage_metrics(usage)

    def _note(self, up: bool, reason: object = "Redis answers again") -> None:
        if up is not self._was_up:
            self._was_up = up
            log.log(logging.INFO if up else logging.WARNING, "%s", reason)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"diffedit_{name}", text, value)


def _labelled(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"diffedit_{name}", text, labels=labels)


def _queue_metrics(fleet: FleetCensus) -> Iterator[Metric]:
    waiting = _labelled("jobs_waiting", "Jobs that wait for a worker.", *QUEUE)
    running = _labelled("jobs_running", "Jobs of which a stage runs.", *QUEUE)
    oldest = _labelled("oldest_waiting_seconds", "Seconds for which the first waiting job has waited.", *QUEUE)
    work = _labelled("work_seconds", "Seconds of work of waiting and running jobs, for one worker.", *QUEUE)
    paused = _labelled("queue_paused", "Whether the queue is paused.", *QUEUE)
    for queue, counted in fleet.queues.items():
        labels = [queue.profile, queue.group.value, queue.lane.value]
        waiting.add_metric(labels, counted.waiting)
        running.add_metric(labels, counted.running)
        oldest.add_metric(labels, counted.oldest or 0.0)
        work.add_metric(labels, work_seconds(queue.group, counted, fleet.durations.get(queue.profile, {})))
        paused.add_metric(labels, counted.paused)
    yield from (waiting, running, oldest, work, paused)


def _worker_metrics(fleet: FleetCensus) -> Iterator[Metric]:
    workers = _labelled("workers", "Live workers, by what they do.", "profile", "group", "state", "version")
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for worker in fleet.workers:
        state = "draining" if worker.id in fleet.draining else worker.state
        for group in {queue.group for queue in queues_of(worker)}:
            counts[worker.profile, group.value, state, worker.version] += 1
    for labels, number in sorted(counts.items()):
        workers.add_metric(labels, number)
    yield workers
    troubles = _labelled("worker_troubles", "Workers that reported a trouble in the last hour, by its kind.", "kind")
    for kind in TroubleKind:
        troubles.add_metric([kind.value], fleet.troubles.get(kind, 0))
    yield troubles


def _other_metrics(fleet: FleetCensus) -> Iterator[Metric]:
    events = _labelled("webhook_events", "Events of webhooks: those to send now, and all undelivered ones.", "state")
    events.add_metric(["due"], fleet.due_events)
    events.add_metric(["unsent"], fleet.unsent_events)
    yield events
    yield _gauge("webhook_sender_up", "Whether a sender of webhooks runs.", fleet.has_sender)
    yield _gauge("damaged_keys", "Keys in Redis that could not be read in the last hour.", fleet.damaged)
    yield _gauge("jobs_overdue", "Jobs whose time limit is over and that nobody has ended yet.", fleet.overdue)


def _usage_metrics(used: Sequence[Usage]) -> Iterator[Metric]:
    where = ["owner", "profile"]
    seconds = CounterMetricFamily("diffedit_usage_gpu_seconds", "Seconds of devices, this month.", labels=where)
    jobs = CounterMetricFamily("diffedit_usage_jobs", "Jobs that have ended, this month.", labels=[*where, "outcome"])
    text = "Pixels of the pictures of jobs that succeeded, this month."
    pixels = CounterMetricFamily("diffedit_usage_pixels", text, labels=where)
    for each in used:
        labels = [each.owner or "", each.profile or ""]
        seconds.add_metric(labels, each.gpu_seconds)
        pixels.add_metric(labels, each.pixels)
        for outcome in ENDINGS:
            jobs.add_metric([*labels, outcome], getattr(each, outcome))
    yield from (seconds, jobs, pixels)
