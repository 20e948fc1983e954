"""Several calls at the same time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from benchmarks.harness.results import seconds_of


def seconds_of_calls(run: Callable[[int], object], calls: int, at_once: int) -> float:
    """Call `run` with each number below `calls`, `at_once` of them at a time; return the seconds for all.

    Raises:
        Exception: that of a call that failed.
    """
    with ThreadPoolExecutor(at_once) as executor:
        return seconds_of(lambda: list(executor.map(run, range(calls))))
