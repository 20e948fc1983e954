"""The doubles keep the promises of the real ones."""

import pytest

from api_client.testing import MemoryBoard, MemoryStore
from tests.board_behaviour import BoardBehaviour
from tests.store_behaviour import StoreBehaviour


class TestMemoryBoard(BoardBehaviour):
    @pytest.fixture
    def board(self) -> MemoryBoard:
        return MemoryBoard()


class TestMemoryStore(StoreBehaviour):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()
