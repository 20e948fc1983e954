"""The share of a job's time that is not spent in the models."""

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import spans
from benchmarks.harness.environment import TRACED_WORKER, midsize_environment
from benchmarks.harness.results import ResultRow, measurement


def overhead(jobs: int = 1) -> Iterator[ResultRow]:
    """Measure the share of the time outside of forward passes: mid-size model, one warm worker."""
    with (
        tempfile.NamedTemporaryFile() as file,
        midsize_environment(TRACED_WORKER, SPANS=file.name) as (env, _),
    ):
        shares = []
        for _ in range(jobs):
            began = time.monotonic()
            env.time_edit(**env.new_edit(), num_inference_steps=20)
            divided = spans.without_overlap(
                spans.read_spans(Path(file.name)), began, time.monotonic(), spans.MODELS, rest="overhead"
            )
            shares.append(spans.shares(divided)["overhead"])
    yield ResultRow(
        "time outside of the models, submission to result, mid-size model at 20 steps, one warm worker",
        measurement(100 * statistics.median(shares), "{} %"),
        target="5 % or less",
    )
