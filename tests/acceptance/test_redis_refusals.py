"""A Redis that answers and refuses what writes, or everything: workers wait, lose nothing and go on."""

from collections.abc import Iterator

import pytest

from diffedit_worker.local.stack import LocalServices
from tests.support.redis_refusal_behaviour import RedisRefusalBehaviour


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    with LocalServices(tmp_path_factory.mktemp("refusals")) as stack:
        yield stack


class TestValkey(RedisRefusalBehaviour):
    """Over the embedded server."""
