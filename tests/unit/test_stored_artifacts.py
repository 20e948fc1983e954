"""The count of uploads that `make chaos` reads from the workers' logs."""

import logging
from collections import Counter
from pathlib import Path
from typing import cast

import pytest

from benchmarks.chaos.stored_artifacts import count_stored_artifacts
from diffedit.contract.request import Prompts
from diffedit.contract.stages import Artifact, Stage
from diffedit.testing import MemoryObjectStore
from diffedit_worker.models.loading import Models
from diffedit_worker.runtime.artifacts import JobArtifacts
from diffedit_worker.runtime.byte_cache import ByteCache
from tests.support.factories import a_job, done


def test_the_uploads_are_found_in_the_log_of_a_worker(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    job = done(a_job(), Stage.CAPTION, Stage.PROMPTS)
    values = {Artifact.CAPTION: "a pear", Artifact.PROMPTS: Prompts(source=("a pear",), target=("a fig",))}
    with caplog.at_level(logging.INFO):
        JobArtifacts(MemoryObjectStore(), ByteCache(0), job, lambda keys: {}, cast(Models, None)).save(values, job)
    (tmp_path / "worker1.log").write_text(caplog.text)
    (tmp_path / "worker2.log").write_text(caplog.text)
    (tmp_path / "s3.log").write_text(caplog.text)
    stems = [key.removesuffix(".json") for key in job.artifact_keys.values()]
    assert count_stored_artifacts(tmp_path) == Counter(dict.fromkeys(stems, 2))
    assert len(stems) == 2
