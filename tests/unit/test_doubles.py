"""The doubles keep the promises of the real ones."""

import pytest

from diffedit.testing import MemoryJobStore, MemoryObjectStore
from tests.support.job_store_behaviour import JobStoreBehaviour
from tests.support.object_store_behaviour import ObjectStoreBehaviour


class TestMemoryJobStore(JobStoreBehaviour):
    @pytest.fixture
    def job_store(self) -> MemoryJobStore:
        return MemoryJobStore()


class TestMemoryObjectStore(ObjectStoreBehaviour):
    @pytest.fixture
    def object_store(self) -> MemoryObjectStore:
        return MemoryObjectStore()
