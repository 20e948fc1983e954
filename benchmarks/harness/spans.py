"""Spans: what a worker did when. Workers write them to a file (`instrumentation.py`), benchmarks read them.

Times are from `time.monotonic`, which on Linux is the same clock in all processes.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

UNET, VAE, TEXT = "UNet", "VAE", "text models"
S3, RECORD, STAGE = "S3", "job record", "stage"
MODELS = (UNET, VAE, TEXT)
"""The kinds of spans that are forward passes of a model."""


@dataclass(frozen=True)
class Span:
    """Something that went on from `began` to `ended`, in seconds."""

    kind: str
    name: str
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


def read_spans(path: Path) -> list[Span]:
    """Return the spans of a file that workers have written."""
    return [Span(*json.loads(line)) for line in path.read_text().splitlines()]


def without_overlap(spans: Sequence[Span], began: float, ended: float, kinds: Sequence[str], rest: str) -> list[Span]:
    """Divide the time from `began` to `ended` into consecutive spans without names.

    Each moment gets the first of `kinds` that has a span at that moment, or the kind `rest`. Other kinds are ignored.
    """
    inside = [span for span in spans if span.kind in kinds and span.ended > began and span.began < ended]
    times = (min(max(time, began), ended) for span in inside for time in (span.began, span.ended))
    divided: list[Span] = []
    for start, end in itertools.pairwise(sorted({began, ended, *times})):
        active = {span.kind for span in inside if span.began <= start and span.ended >= end}
        kind = next((kind for kind in kinds if kind in active), rest)
        if divided and divided[-1].kind == kind:
            start = divided.pop().began
        divided.append(Span(kind, "", start, end))
    return divided


def shares(spans: Sequence[Span]) -> dict[str, float]:
    """Return the share of each kind, from 0 to 1, in the total time of spans that do not overlap."""
    total = sum(span.seconds for span in spans)
    kinds = dict.fromkeys(span.kind for span in spans)
    return {kind: sum(span.seconds for span in spans if span.kind == kind) / total for kind in kinds}
