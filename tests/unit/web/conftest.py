"""The HTTP API over the doubles, in this process."""

from collections.abc import AsyncIterator

import pytest

from tests.support.web_api import WebApi, web_api


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def api() -> AsyncIterator[WebApi]:
    async with web_api() as api:
        yield api
