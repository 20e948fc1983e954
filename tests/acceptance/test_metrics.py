"""A worker, the exporter, Celery's events and the log tell the same story of the same edits."""

import json
import signal
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from diffedit import JobFailed, JobHandle, NoWorkerWarning, Settings, Stage, State
from diffedit.jobs.dispatch import celery_app
from diffedit_worker.local.process_group import Process
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE, QUICK
from tests.support.services import WorkerGroup, log_of
from tests.support.waiting import until

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
STAGES = [Stage.EMBED, Stage.MASK, Stage.INVERT, Stage.EDIT]
OWNER = "ada"


class Observed:
    """A worker that logs JSON and is scraped, and the events that Celery sent of it."""

    def __init__(self, workers: WorkerGroup) -> None:
        self.stack, self.client = workers.stack, workers.client
        (self.process,) = workers.start(DIFFEDIT_METRICS_PORT="0", DIFFEDIT_LOG_FORMAT="json")
        self.name = next(iter(workers.processes))
        self.events: list[dict[str, Any]] = []
        self.app = celery_app(Settings.from_env(workers.stack.environment))
        self.app.control.enable_events(reply=True, timeout=10, limit=1)
        self.thread = threading.Thread(target=self._receive, daemon=True)
        self.thread.start()
        # Nothing that happens before the receiver listens would reach it.
        until(self._hears_itself, "an event of Celery's")

    def _receive(self) -> None:
        with self.app.connection_for_read() as connection:
            self.receiver = self.app.events.Receiver(connection, handlers={"*": self.events.append})
            self.receiver.capture(limit=None, wakeup=False)

    def close(self) -> None:
        self.receiver.should_stop = True
        self.thread.join()

    def _hears_itself(self) -> bool:
        with self.app.connection_for_write() as connection:
            self.app.events.Dispatcher(connection).send("test-event")
        return any(event["type"] == "test-event" for event in list(self.events))

    @property
    def log(self) -> list[dict[str, Any]]:
        """All lines of the log. Fails if one of them is no JSON object."""
        return json_log_of(self.stack, self.name)

    @property
    def port(self) -> int:
        (line,) = [line for line in self.log if line["message"].startswith("serving /")]
        return int(line["message"].rpartition(" ")[2])

    def kinds(self) -> Counter[str]:
        return Counter(event["type"] for event in list(self.events))


def json_log_of(stack: LocalServices, name: str) -> list[dict[str, Any]]:
    """Return the lines of a log, without the one of those who started the process. Fails if another is no JSON."""
    first, *lines = log_of(stack, name).splitlines()
    assert first.startswith(f"--- {name} starts")
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    with LocalServices(tmp_path_factory.mktemp("metrics")) as stack:
        yield stack


@pytest.fixture(scope="module")
def observed(stack: LocalServices) -> Iterator[Observed]:
    workers = WorkerGroup(stack)
    observed = Observed(workers)
    yield observed
    observed.close()
    workers.stop()


@pytest.fixture(scope="module")
def edits(observed: Observed) -> tuple[JobHandle, JobHandle]:
    """An edit that succeeded, and one that failed in its second stage."""
    client = observed.client.for_owner(OWNER)
    made = client.edit(PICTURE, **PEAR, **QUICK)
    assert made.wait(timeout=60).state is State.SUCCEEDED
    failed = client.edit(PICTURE, **PEAR, **{**QUICK, "mask_thresholding_ratio": 100.0}, lane="batch")
    with pytest.raises(JobFailed):
        failed.wait(timeout=60)
    return made, failed


def scrape(port: int) -> Samples:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((f"diffedit_{name}", frozenset(labels.items())))


def test_the_metrics_of_a_worker_show_the_edits(observed: Observed, edits: tuple[JobHandle, JobHandle]) -> None:
    last = {"profile": "tiny", "stage": "mask", "lane": "batch", "outcome": "failed", "code": "empty_mask"}
    until(lambda: value(scrape(observed.port), "stages_total", **last) == 1, "the stage that failed")
    first = {"profile": "tiny", "stage": "edit", "lane": "interactive", "outcome": "made", "code": ""}
    until(lambda: value(scrape(observed.port), "stages_total", **first) == 1, "the last stage of the other job")
    samples = scrape(observed.port)
    for stage in STAGES:
        where = {"profile": "tiny", "stage": stage.value, "lane": "interactive"}
        assert value(samples, "stages_total", **where, outcome="made", code="") == 1
        assert value(samples, "stage_duration_seconds_count", **where) == 1
        assert value(samples, "stage_wait_seconds_count", **where) == 1
    assert value(samples, "store_request_seconds_count", operation="put")
    assert value(samples, "store_request_seconds_count", operation="get")
    assert value(samples, "model_load_seconds_count", profile="tiny", component="unet") == 1
    assert value(samples, "recoveries_total", profile="tiny") == 0
    ((_, labels),) = [key for key in samples if key[0] == "diffedit_worker_info"]
    assert dict(labels)["worker"].startswith(f"{observed.name}@") and dict(labels)["device"] == "cpu"
    assert not any(job.id in str(samples) for job in edits)


def test_celerys_events_tell_which_stages_succeeded_and_which_failed(
    observed: Observed, edits: tuple[JobHandle, JobHandle]
) -> None:
    until(lambda: observed.kinds()["task-failed"] == 1, "the event of the stage that failed")
    until(lambda: observed.kinds()["task-succeeded"] == len(STAGES) + 1, "those of the stages that are done")
    assert observed.kinds()["task-started"] == len(STAGES) + 2
    assert observed.kinds()["task-retried"] == 0
    (failed,) = [event for event in observed.events if event["type"] == "task-failed"]
    assert failed["exception"] == "StageFailed('stage mask failed: empty_mask')"
    (received,) = [event for event in observed.events if event.get("uuid") == failed["uuid"] and "name" in event]
    assert received["name"] == "diffedit.mask"
    assert "pear" not in json.dumps(observed.events)


def test_each_line_of_the_log_is_json_and_each_stage_has_one(
    observed: Observed, edits: tuple[JobHandle, JobHandle]
) -> None:
    until(lambda: sum("stage" in line for line in observed.log) == len(STAGES) + 2, "a line for each stage")
    made, failed = edits
    lines = [line for line in observed.log if "stage" in line]
    assert [line["stage"] for line in lines if line["job"] == made.id] == [stage.value for stage in STAGES]
    (embed, mask) = [line for line in lines if line["job"] == failed.id]
    assert embed["outcome"] == "found" and embed["code"] == ""
    assert (mask["outcome"], mask["code"], mask["lane"], mask["owner"]) == ("failed", "empty_mask", "batch", OWNER)
    assert mask["worker"].startswith(f"{observed.name}@") and mask["attempt"] == 1 and mask["profile"] == "tiny"
    assert mask["seconds"] > 0 and mask["waited"] >= 0
    assert {"time", "level", "logger", "message", "trace_id"} <= mask.keys()
    assert "pear" not in log_of(observed.stack, observed.name)


def exporter_of(stack: LocalServices, name: str, **environment: str) -> tuple[Process, int]:
    """Start an exporter. Returns its process and its port."""
    variables = {"DIFFEDIT_LOG_FORMAT": "json", **environment}
    words = ("exporter", "--host", "127.0.0.1", "--port", "0")
    process = stack.start_program(name, *words, environment=variables)
    until(lambda: "serving /metrics" in log_of(stack, name), "the port of the exporter")
    (line,) = json_log_of(stack, name)
    return process, int(line["message"].rpartition(" ")[2])


def test_the_exporter_tells_of_the_fleet(
    stack: LocalServices, observed: Observed, edits: tuple[JobHandle, JobHandle]
) -> None:
    process, port = exporter_of(stack, "exporter")
    language = {"profile": "tiny", "group": "language"}
    samples = scrape(port)
    assert value(samples, "redis_up") == 1
    assert value(samples, "jobs_waiting", **language, lane="interactive") == 0
    (version,) = {dict(labels)["version"] for name, labels in samples if name == "diffedit_workers"}
    until(lambda: value(scrape(port), "workers", **language, state="idle", version=version) == 1, "an idle worker")
    observed.process.send_signal(signal.SIGTERM)
    until(lambda: not observed.client.health().workers, "the end of the worker")
    with pytest.warns(NoWorkerWarning):
        observed.client.edit(PICTURE, **PEAR, **QUICK, seed=8)
    samples = scrape(port)
    assert value(samples, "jobs_waiting", **language, lane="interactive") == 1
    work, oldest = (value(samples, f"{name}_seconds", **language, lane="interactive") for name in
                    ("work", "oldest_waiting"))  # fmt: skip
    assert work and oldest
    stack.stop(process)
    until(lambda: observed.process.poll() is not None, "the end of the worker's process")
    assert any("Warm shutdown" in line["message"] for line in observed.log), "its last words are JSON as well"


def test_without_redis_the_exporter_says_so_and_lives(stack: LocalServices) -> None:
    process, port = exporter_of(stack, "blind", DIFFEDIT_REDIS_URL="redis://127.0.0.1:1/0")
    for _ in range(2):
        assert value(scrape(port), "redis_up") == 0
    assert process.poll() is None
    stack.stop(process)
