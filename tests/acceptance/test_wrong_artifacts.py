"""Stored artifacts that are not those of the job, and whose content nobody knows, with a real worker."""

import uuid

from diffedit import Client, Settings
from diffedit.contract.stages import Artifact
from diffedit.objects.s3 import S3ObjectStore
from diffedit_worker.local.stack import LocalServices
from tests.support.factories import PEAR, PICTURE, QUICK
from tests.support.services import redis_of
from tests.support.wrong_artifacts import WRONG

CHANGES = {
    Artifact.EMBEDDINGS: "float8",
    Artifact.MASK: "another size",
    Artifact.TRAJECTORY: "too few steps",
}


def test_wrong_artifacts_of_unknown_content_are_made_again(stack: LocalServices, client: Client) -> None:
    store = S3ObjectStore(Settings.from_env(stack.environment))
    job = client.edit(PICTURE, **PEAR, **QUICK, caption=f"a pear {uuid.uuid4().hex}")
    keys = job.wait(timeout=60).artifact_keys
    intact = {key: store.get(key) for key in keys.values()}
    for artifact, how in CHANGES.items():
        store.put(keys[artifact], WRONG[artifact][how](intact[keys[artifact]]))
    store.delete(keys[Artifact.RESULT])
    assert redis_of(stack).delete(*(f"diffedit:content:{key}" for key in intact)) == len(intact)
    again = job.retry()
    status = again.wait(timeout=60)
    assert set(status.created_artifacts) == {*CHANGES, Artifact.RESULT}
    assert status.attempts == dict.fromkeys(status.stages, 1)
    assert {key: store.get(key) for key in intact} == intact
    assert again.result().image.size == again.result().original.size
