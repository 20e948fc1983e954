"""The password of a Redis user is changed as the runbook says, while clients work."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from diffedit import BrokerUnavailable, Settings
from diffedit.jobs.backend import JobBackend, redis_backend
from diffedit.retries import RedisPolicy
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import a_job

USER = "diffedit-client"
SECURITY = Path(__file__).parents[2] / "SECURITY.md"


@pytest.fixture
def admin(stack: LocalServices) -> Iterator[redis.Redis]:
    """Return a connection of the default user, beside a user of SECURITY.md with the password "old"."""
    server = redis.Redis.from_url(stack.environment["DIFFEDIT_REDIS_URL"], decode_responses=True)
    found = re.search(rf"^user {USER} (.*)$", SECURITY.read_text(), flags=re.MULTILINE)
    assert found
    rules = [">old" if rule == ">CLIENT_PASSWORD" else rule for rule in found[1].split()]
    server.execute_command("ACL", "SETUSER", USER, "reset", *rules)
    yield server
    server.acl_deluser(USER)


def client_with(stack: LocalServices, password: str) -> JobBackend:
    host = stack.environment["DIFFEDIT_REDIS_URL"].rpartition("@")[2]
    settings = Settings.from_env({**stack.environment, "DIFFEDIT_REDIS_URL": f"redis://{USER}:{password}@{host}"})
    return redis_backend(settings, policy=RedisPolicy(retries=0, seconds=5))


def test_two_passwords_are_valid_until_the_old_one_is_removed(stack: LocalServices, admin: redis.Redis) -> None:
    # Given a client that works with the old password
    old = client_with(stack, "old")
    job = a_job()
    old.job_store.create_job(job, send=True)

    # When the new one is added, then both clients work
    admin.execute_command("ACL", "SETUSER", USER, ">new")
    new = client_with(stack, "new")
    assert new.job_store.status(job.id).id == job.id
    assert client_with(stack, "old").job_store.status(job.id).id == job.id

    # When the old one is removed, then open connections stay, and new ones are refused
    admin.execute_command("ACL", "SETUSER", USER, "<old")
    assert old.job_store.status(job.id).id == job.id
    with pytest.raises(BrokerUnavailable):
        client_with(stack, "old").job_store.status(job.id)

    # When the connections of the user are closed, then only the new password comes back
    admin.execute_command("CLIENT", "KILL", "USER", USER)
    with pytest.raises(BrokerUnavailable):
        old.job_store.status(job.id)
    assert client_with(stack, "new").job_store.status(job.id).id == job.id


def test_without_acls_there_is_no_moment_with_two_passwords(stack: LocalServices, admin: redis.Redis) -> None:
    """Why the runbook says: use ACLs."""
    admin.execute_command("ACL", "SETUSER", USER, "resetpass", ">new")
    with pytest.raises(BrokerUnavailable):
        client_with(stack, "old").job_store.ping()
    client_with(stack, "new").job_store.ping()
