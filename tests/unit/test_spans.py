"""How the spans that a worker writes are divided and counted."""

import pytest

from benchmarks.harness.spans import Span, shares, without_overlap

KINDS = ("forward", "upload")


def divided(*spans: Span) -> list[tuple[str, float, float]]:
    return [(span.kind, span.began, span.ended) for span in without_overlap(spans, 10, 20, KINDS, rest="rest")]


def test_a_time_without_spans_is_all_rest() -> None:
    assert divided() == [("rest", 10, 20)]


def test_each_moment_counts_for_the_first_kind_that_is_active() -> None:
    spans = Span("upload", "put", 12, 16), Span("forward", "unet", 11, 13), Span("forward", "vae", 15, 17)
    assert divided(*spans) == [
        ("rest", 10, 11),
        ("forward", 11, 13),
        ("upload", 13, 15),
        ("forward", 15, 17),
        ("rest", 17, 20),
    ]


def test_adjacent_and_nested_spans_of_one_kind_are_merged() -> None:
    spans = Span("forward", "outer", 11, 14), Span("forward", "inner", 12, 13), Span("forward", "next", 14, 15)
    assert divided(*spans) == [("rest", 10, 11), ("forward", 11, 15), ("rest", 15, 20)]


def test_spans_are_cut_at_the_limits_and_other_kinds_are_ignored() -> None:
    spans = Span("forward", "early", 5, 12), Span("upload", "late", 19, 25), Span("stage", "mask", 11, 18)
    assert divided(*spans, Span("forward", "before", 1, 2)) == [
        ("forward", 10, 12),
        ("rest", 12, 19),
        ("upload", 19, 20),
    ]


def test_the_shares_add_up_to_one() -> None:
    found = shares(
        without_overlap([Span("forward", "unet", 11, 13), Span("upload", "put", 14, 15)], 10, 20, KINDS, rest="rest")
    )
    assert found == pytest.approx({"rest": 0.7, "forward": 0.2, "upload": 0.1})
