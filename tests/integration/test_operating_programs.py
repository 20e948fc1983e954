"""The programs that only watch or serve: what a scrape costs Redis, a Redis that hangs, and logs of JSON."""

import json
import socket
from pathlib import Path

import httpx
import pytest
import redis
from prometheus_client import CollectorRegistry

from diffedit import Settings
from diffedit.contract.stages import ModelGroup, queue_name
from diffedit.exporter import collector
from diffedit.exporter.collector import FleetCollector
from diffedit.jobs import keys
from diffedit.jobs.backend import redis_backend
from diffedit.retries import EXPORTER_REDIS_POLICY
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import a_job
from tests.support.waiting import until
from tests.support.web_server import served_process

QUEUE = queue_name("tiny", ModelGroup.LANGUAGE)
WAITING = {"profile": "tiny", "group": "language", "lane": "interactive"}


def registry_of(settings: Settings) -> CollectorRegistry:
    backend, registry = redis_backend(settings, policy=EXPORTER_REDIS_POLICY), CollectorRegistry()
    registry.register(FleetCollector(backend.census, backend.job_store.usage, owners=10))
    return registry


def commands(server: redis.Redis) -> int:
    """Return how many commands the server has carried out."""
    return int(server.info("stats")["total_commands_processed"])


@pytest.fixture
def server(settings: Settings) -> redis.Redis:
    server = redis.Redis.from_url(settings.redis_url.get_secret_value(), decode_responses=True)
    server.flushdb()
    return server


def test_a_scrape_costs_the_same_whatever_waits(settings: Settings, server: redis.Redis) -> None:
    registry, store = registry_of(settings), redis_backend(settings).job_store
    store.create_job(a_job())

    def cost() -> int:
        registry.get_sample_value("diffedit_redis_up")
        before = commands(server)
        registry.get_sample_value("diffedit_redis_up")
        return commands(server) - before

    one = cost()
    server.zadd(keys.WAITING + QUEUE, {f"{number:032x}": 1000.0 + number for number in range(10_000)})
    assert registry.get_sample_value("diffedit_jobs_waiting", WAITING) == 10_001
    assert cost() == one
    assert one < 40


def test_a_damaged_key_hides_no_other_metric(settings: Settings, server: redis.Redis) -> None:
    registry, store = registry_of(settings), redis_backend(settings).job_store
    store.create_job(a_job())
    for key in (keys.PAUSED, keys.DRAINING, keys.RUNNING_IN + QUEUE, keys.DURATIONS + "tiny", keys.WEBHOOKS):
        server.set(key, "no set")
    server.sadd(keys.WAITING_QUEUES, "no.queue")
    assert registry.get_sample_value("diffedit_jobs_waiting", WAITING) == 1
    assert registry.get_sample_value("diffedit_jobs_running", WAITING) == 0
    assert registry.get_sample_value("diffedit_damaged_keys") == 5
    server.flushdb()


def test_a_redis_that_never_answers_is_told_as_one_that_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "SCRAPE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        registry = registry_of(Settings(redis_url=f"redis://127.0.0.1:{silent.getsockname()[1]}/0"))
        assert [family.name for family in registry.collect()] == ["diffedit_redis_up"]
        assert registry.get_sample_value("diffedit_redis_up") == 0


def test_the_web_server_logs_json(stack: LocalServices, tmp_path: Path) -> None:
    with served_process({**stack.environment, "DIFFEDIT_LOG_FORMAT": "json"}, tmp_path) as served:
        assert httpx.get(f"{served.url}/v1/models?key=dk_secret", timeout=30).status_code == 401
        lines = [json.loads(line) for line in served.log.splitlines()]
    assert {line["logger"] for line in lines} >= {"uvicorn.error", "uvicorn.access"}
    (access,) = [line for line in lines if line["logger"] == "uvicorn.access"]
    assert "GET /v1/models" in access["message"] and access["message"].endswith("401")


def test_the_sender_of_webhooks_logs_json(stack: LocalServices) -> None:
    secret = "whsec_" + "A" * 32
    environment = {"DIFFEDIT_LOG_FORMAT": "json", "DIFFEDIT_WEBHOOK_SECRETS": secret}
    sender = stack.start_program("sender", "webhooks", environment=environment)
    log = stack.directory / "logs" / "sender.log"
    until(lambda: "sending webhooks" in log.read_text(), "the start of the sender")
    stack.stop(sender)
    _, line = log.read_text().splitlines()
    assert json.loads(line)["message"] == "sending webhooks"
