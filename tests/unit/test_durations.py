"""Every command and method reads a duration in the same way."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from diffedit.durations import duration
from diffedit.errors import InvalidRequest
from diffedit.testing import memory_client

WRITTEN = {
    "90s": timedelta(seconds=90),
    "30m": timedelta(minutes=30),
    "1.5h": timedelta(hours=1.5),
    "7d": timedelta(days=7),
    "36:00:00": timedelta(hours=36),
    "PT2H": timedelta(hours=2),
}
READERS: dict[str, Callable[[str], object]] = {
    "admin.jobs": lambda since: memory_client().admin.jobs(since=since),
    "admin.cancel": lambda age: memory_client().admin.cancel(older_than=age),
    "collect_garbage": lambda age: memory_client().collect_garbage(age),
    "restore": lambda since: memory_client().restore(since),
    "usage": lambda since: memory_client().usage(since),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_a_duration_is_read(text: str) -> None:
    assert duration("since", text) == WRITTEN[text]


@pytest.mark.parametrize("text", ["", "2", "2 h", "h", "1e3d", "2h\n"])
def test_what_is_not_a_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidRequest, match='^since: .* is not a duration; write it like "30m"'):
        duration("since", text)


def test_a_duration_cannot_be_negative() -> None:
    with pytest.raises(InvalidRequest, match="since: a duration cannot be negative"):
        duration("since", "-PT2H")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("text", ["120m", "2h", "7d", "PT2H"])
def test_each_method_that_takes_a_duration_reads_it(reader: str, text: str) -> None:
    READERS[reader](text)


@pytest.mark.parametrize("reader", READERS)
def test_each_method_that_takes_a_duration_refuses_another_text(reader: str) -> None:
    with pytest.raises(InvalidRequest, match="since: .soon. is|older_than: .soon. is"):
        READERS[reader]("soon")
