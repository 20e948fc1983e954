"""Whole jobs with the S3 users of SECURITY.md, over TLS, on a server that enforces their permissions."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from diffedit import Client, Settings, State
from diffedit.contract.object_keys import SUBMISSIONS
from diffedit.contract.stages import Artifact
from diffedit.objects.s3 import S3ObjectStore
from diffedit_worker.local.stack import LocalServices
from diffedit_worker.runtime.fitness import UNFIT_EXIT_CODE
from tests.support.factories import PEAR, PICTURE, QUICK
from tests.support.moto_server import MotoServer, permissions_of_security
from tests.support.services import log_of
from tests.support.waiting import until


@dataclass(frozen=True)
class SecuredServices:
    """Valkey, and an S3 server with users. `bundle` is the certificate of its authority."""

    stack: LocalServices
    server: MotoServer
    bundle: Path

    def settings(self, user: str) -> Settings:
        return Settings.from_env({**self.stack.environment, **self.server.environment(user)})

    def environment(self, user: str) -> dict[str, str]:
        """Return the variables of a worker."""
        return {**self.server.environment(user), "AWS_CA_BUNDLE": str(self.bundle)}


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredServices]:
    directory, authority = tmp_path_factory.mktemp("s3-users"), trustme.CA()
    bundle, users = directory / "authority.pem", permissions_of_security()
    authority.cert_pem.write_to_path(bundle)
    with LocalServices(directory / "stack") as stack, MotoServer(authority) as server:
        server.create_bucket(verify=str(bundle))
        for name in ("client", "worker"):
            server.add_user(name, users[name], verify=str(bundle))
        blind = {action: resources for action, resources in users["worker"].items() if action != "s3:ListBucket"}
        server.add_user("a worker that may not list", blind, verify=str(bundle))
        server.enforce_permissions()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_CA_BUNDLE", str(bundle))
            yield SecuredServices(stack, server, bundle)


def test_a_client_and_a_worker_do_all_their_work(services: SecuredServices) -> None:
    worker = services.stack.start_worker("good", environment=services.environment("worker"))
    client = Client(services.settings("client"))
    until(lambda: client.health().ok, "a ready worker")
    first = client.edit(PICTURE, **{**PEAR, "source_prompt": None}, **QUICK, seed=1)
    result = first.result(timeout=60)
    assert result.image.size == result.mask.size == (64, 64)
    assert result.caption and result.prompts and result.manifest
    # A damaged artifact is deleted and made again, and so is a deleted one.
    keys = first.status().artifact_keys
    workers_store = S3ObjectStore(services.settings("worker"))
    workers_store.put(keys[Artifact.MASK], b"garbage")
    workers_store.delete(keys[Artifact.TRAJECTORY])
    workers_store.delete(keys[Artifact.RESULT])
    status = first.retry().wait(timeout=60)
    assert set(status.created_artifacts) == {Artifact.MASK, Artifact.TRAJECTORY, Artifact.RESULT}
    assert status.state is State.SUCCEEDED
    assert status.retries == 0
    # The client stores the copies of submissions, and the worker deletes them.
    until(lambda: not workers_store.stored_in(SUBMISSIONS), "the deletion of the copies")
    assert client.restore("1h", dry_run=True).present == 0
    services.stack.stop(worker)


@pytest.mark.parametrize(
    ("user", "change", "reason"),
    [
        ("a worker that may not list", {}, "s3:ListBucket"),
        ("client", {}, "s3:PutObject"),
        ("worker", {"AWS_CA_BUNDLE": ""}, "AWS_CA_BUNDLE"),
    ],
)
def test_a_worker_that_lacks_something_says_what_and_does_not_start(
    services: SecuredServices, user: str, change: dict[str, str], reason: str
) -> None:
    environment = {**services.environment(user), **change}
    worker = services.stack.start_worker("sick", environment=environment)
    until(lambda: worker.poll() is not None, "the end of the worker")
    assert worker.poll() == UNFIT_EXIT_CODE
    assert reason in log_of(services.stack, "sick")
    services.stack.stop(worker)
