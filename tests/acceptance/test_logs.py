"""Logs, errors and records hold no secrets, and text from outside cannot forge a log line."""

import json
import re
import traceback
from collections.abc import Callable

import pytest

from diffedit import Client, DiffEditError, Settings, State
from diffedit.contract.object_keys import submission_key
from diffedit.jobs.backend import redis_backend
from diffedit.jobs.dispatch import celery_app
from diffedit.objects.s3 import S3ObjectStore
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE, QUICK, a_job
from tests.support.services import log_of, redis_of
from tests.support.waiting import until

SECRET = "hunter2-f3a9c51e7b"
LANGUAGE = "diffedit.tiny.language"


def everything_about(error: BaseException) -> str:
    """Return what a traceback, a log or a crash reporter would show of an error and of its causes."""
    shown, link = ["".join(traceback.format_exception(error))], error
    while link is not None:
        shown += [str(link), repr(link), repr(vars(link)), repr(link.args)]
        link = link.__cause__ or link.__context__
    return "\n".join(shown)


REDIS = {
    "no server": "redis://user:{secret}@127.0.0.1:1/0",
    "no such host": "redis://:{secret}@nowhere.invalid:6379/0",
    "a wrong password": "redis://:{secret}@{address}",
    "a wrong user": "redis://{secret}:{secret}@{address}",
}


@pytest.mark.parametrize("url", REDIS.values(), ids=REDIS)
@pytest.mark.parametrize(
    "ask",
    [
        lambda settings: redis_backend(settings).job_store.ping(),
        lambda settings: redis_backend(settings).job_store.send(a_job()),
    ],
)
def test_no_redis_error_shows_the_password(stack: LocalServices, url: str, ask: Callable[[Settings], object]) -> None:
    address = stack.environment["DIFFEDIT_REDIS_URL"].rpartition("@")[2]
    with pytest.raises(DiffEditError) as caught:
        ask(Settings(redis_url=url.format(secret=SECRET, address=address)))
    assert SECRET not in everything_about(caught.value)


@pytest.mark.parametrize("change", [{}, {"s3_endpoint_url": "http://127.0.0.1:1"}, {"s3_bucket": "elsewhere"}])
@pytest.mark.parametrize("ask", ["ping", "get", "exists", "put"])
def test_no_s3_error_shows_the_key_or_the_signature(stack: LocalServices, change: dict[str, str], ask: str) -> None:
    settings = Settings.from_env({**stack.environment, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": SECRET})
    object_store, key = S3ObjectStore(settings.model_copy(update=change)), f"inputs/ab/{'ab' * 32}.png"
    arguments = {"ping": (), "put": (key, b"x")}.get(ask, (key,))
    with pytest.raises(DiffEditError) as caught:
        getattr(object_store, ask)(*arguments)
    shown = everything_about(caught.value)
    assert SECRET not in shown
    assert "Signature=" not in shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DIFFEDIT_REDIS_URL", f"http://:{SECRET}@host"),
        ("DIFFEDIT_REDIS_URL", f"unix:///socket?password={SECRET}"),
        ("DIFFEDIT_REDIS_URL", f"redis://host/{SECRET}"),
        ("DIFFEDIT_REDIS_URL", f"redis://host/0?password={SECRET}"),
        ("DIFFEDIT_REDIS_URL", f"redis://host/0?socket_timeout={SECRET}"),
        ("DIFFEDIT_S3_ENDPOINT_URL", f"https://user:{SECRET}@host"),
        ("DIFFEDIT_S3_ENDPOINT_URL", f"{SECRET}://host"),
    ],
)
def test_an_error_about_a_setting_does_not_show_its_value(name: str, value: str) -> None:
    with pytest.raises(DiffEditError, match=name) as caught:
        Settings.from_env({name: value})
    assert SECRET not in everything_about(caught.value)


def test_no_part_of_a_client_shows_its_secrets(stack: LocalServices) -> None:
    client = Client(Settings.from_env(stack.environment))
    job_store, object_store = client._job_store, client._object_store
    for part in (
        client,
        client._settings,
        job_store,
        job_store._redis,
        object_store,
        object_store._s3,
        client._recorder,
        client._recorder._send,
        client.job("0" * 32),
    ):
        assert stack.environment["AWS_SECRET_ACCESS_KEY"] not in repr(part) + str(part)


def test_a_worker_with_wrong_credentials_logs_and_records_no_secret(stack: LocalServices, client: Client) -> None:
    """One worker has a wrong password for Redis, another a wrong key for S3."""
    address = stack.environment["DIFFEDIT_REDIS_URL"].rpartition("@")[2]
    no_redis = stack.start_worker("no-redis", environment={"DIFFEDIT_REDIS_URL": f"redis://:{SECRET}@{address}"})
    no_s3 = stack.start_worker("no-s3", environment={"AWS_SECRET_ACCESS_KEY": SECRET})
    try:
        until(lambda: no_s3.poll() is not None, "the end of the worker that S3 refuses")
        until(lambda: "Cannot connect to" in log_of(stack, "no-redis"), "a refused connection")
    finally:
        for worker in (no_redis, no_s3):
            stack.stop(worker)
    assert "store_refused" in {trouble.code for trouble in client.health().troubles}
    assert SECRET not in client.health().model_dump_json()
    assert "S3 refused the request" in log_of(stack, "no-s3")
    for name in ("no-redis", "no-s3"):
        assert SECRET not in log_of(stack, name)
        assert stack.environment["AWS_SECRET_ACCESS_KEY"] not in log_of(stack, name)


def test_no_record_object_or_log_holds_a_secret(stack: LocalServices, client: Client) -> None:
    job = client.edit(PICTURE, **PEAR, **QUICK)
    link = job.result(timeout=60).url(expires=60)
    # Others are deleted together with it.
    until(lambda: not redis_of(stack).zcard("diffedit:settled"), "the deletion of the copies of submissions")
    assert not client._object_store.exists(submission_key(job.id))
    # These include Valkey's append-only file, which holds every write.
    files = [path for path in stack.directory.rglob("*") if path.is_file() and path.name != "state.json"]
    holders = {path.relative_to(stack.directory).parts[0] for path in files if job.id.encode() in path.read_bytes()}
    assert holders == {"valkey", "logs"}
    for secret in (stack.environment["AWS_SECRET_ACCESS_KEY"], SECRET, link.rpartition("Signature=")[2]):
        assert [path for path in files if secret.encode() in path.read_bytes()] == []


ESC = "\x1b[2J\x1b]0;title\x07\x9b1m\u202e"
FORGERY = f"x\n[2026-01-01 00:00:00,000: INFO/MainProcess] job forged\r\x85job forged{ESC}"


def test_text_from_outside_cannot_forge_a_log_line_or_control_a_terminal(stack: LocalServices, client: Client) -> None:
    app, names = celery_app(Settings.from_env(stack.environment)), {"shadow": FORGERY, "argsrepr": FORGERY}
    for task in ("diffedit.embed", f"diffedit.{FORGERY}"):
        for job in ({"id": FORGERY}, {"id": "0" * 32}, {"id": "0" * 32, FORGERY: FORGERY}):
            app.send_task(task, args=(job,), queue=LANGUAGE, task_id=FORGERY, headers=names, **names)
    # The error of this record quotes the field that no version knows.
    odd = a_job()
    redis_backend(Settings.from_env(stack.environment)).job_store.create_job(odd)
    server = redis_of(stack)
    asked = json.loads(odd.request.model_dump_json())
    server.hset(f"diffedit:job:{odd.id}", "request", json.dumps({**asked, FORGERY: 1}))
    redis_backend(Settings.from_env(stack.environment)).job_store.send(odd)
    assert client.edit(PICTURE, **PEAR, **QUICK).wait(timeout=60).state is State.SUCCEEDED
    server.zrem("diffedit:jobs", odd.id)

    log = log_of(stack, "worker")
    assert "job forged" in log and odd.id in log
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", log.replace("\t", ""))
    assert not [line for line in log.splitlines() if line.startswith(("[2026-01-01", "job forged"))]
