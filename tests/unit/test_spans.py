"""What is read off the spans that a worker writes down."""

import pytest

from benchmarks.spans import Span, segments, shares

KINDS = ("forward", "upload")


def pieces(*spans: Span) -> list[tuple[str, float, float]]:
    return [(piece.kind, piece.began, piece.ended) for piece in segments(spans, 10, 20, KINDS, rest="rest")]


def test_a_time_without_spans_is_all_rest() -> None:
    assert pieces() == [("rest", 10, 20)]


def test_each_moment_belongs_to_the_first_kind_that_has_it() -> None:
    spans = Span("upload", "put", 12, 16), Span("forward", "unet", 11, 13), Span("forward", "vae", 15, 17)
    assert pieces(*spans) == [
        ("rest", 10, 11),
        ("forward", 11, 13),
        ("upload", 13, 15),
        ("forward", 15, 17),
        ("rest", 17, 20),
    ]


def test_neighbours_of_a_kind_are_one_and_what_is_nested_counts_once() -> None:
    spans = Span("forward", "outer", 11, 14), Span("forward", "inner", 12, 13), Span("forward", "next", 14, 15)
    assert pieces(*spans) == [("rest", 10, 11), ("forward", 11, 15), ("rest", 15, 20)]


def test_what_lies_outside_of_the_time_is_cut_off_and_other_kinds_are_not_looked_at() -> None:
    spans = Span("forward", "early", 5, 12), Span("upload", "late", 19, 25), Span("stage", "mask", 11, 18)
    assert pieces(*spans, Span("forward", "before", 1, 2)) == [
        ("forward", 10, 12),
        ("rest", 12, 19),
        ("upload", 19, 20),
    ]


def test_the_shares_of_a_time_are_one_together() -> None:
    found = shares(
        segments([Span("forward", "unet", 11, 13), Span("upload", "put", 14, 15)], 10, 20, KINDS, rest="rest")
    )
    assert found == pytest.approx({"rest": 0.7, "forward": 0.2, "upload": 0.1})
