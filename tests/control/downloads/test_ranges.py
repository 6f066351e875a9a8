"""Ranges as RFC 9110 reads them."""

from __future__ import annotations

import pytest

from control.downloads.ranges import Span, Unsatisfiable, names, wanted

ETAG = '"abc"'


def of_1000(range_: str | None, if_range: str | None = None) -> Span | None:
    return wanted(1000, etag=ETAG, range_=range_, if_range=if_range)


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-0", (0, 1)),
        ("bytes=0-499", (0, 500)),
        ("bytes=500-", (500, 1000)),
        ("bytes=0-", (0, 1000)),
        ("bytes=999-5000", (999, 1000)),
        ("bytes=-1", (999, 1000)),
        ("bytes=-5000", (0, 1000)),
        ("Bytes= 1-2 ", (1, 3)),
        (f"bytes=1-{'9' * 30}", (1, 1000)),
    ],
)
def test_one_range_is_answered_with_its_bytes(header: str, span: tuple[int, int]) -> None:
    assert of_1000(header) == Span(*span)


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", "bytes", "bytes=", "bytes=-", "bytes=2-1", "bytes=a-b", "lines=0-1", "bytes=0-1,5-6"),
        *("bytes=٣-٤", "bytes=1 -2", "bytes=--1"),
    ],
)
def test_invalid_and_several_ranges_are_answered_with_the_whole_content(header: str | None) -> None:
    assert of_1000(header) is None


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=1000-1001", "bytes=-0", f"bytes={'9' * 30}-"])
def test_a_range_after_the_end_is_unsatisfiable(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        of_1000(header)


def test_a_range_holds_only_for_the_archive_that_if_range_names() -> None:
    assert of_1000("bytes=5-", ETAG) == Span(5, 1000)
    for other in ('"abd"', "abc", 'W/"abc"', "Sat, 21 Nov 2026 12:00:00 GMT"):
        assert of_1000("bytes=5-", other) is None
        assert of_1000("bytes=1000-", other) is None, "without its If-Range a range is no reason for a 416"


@pytest.mark.parametrize("condition", ['"abc"', 'W/"abc"', '"x", "abc"', "*"])
def test_a_condition_names_an_etag(condition: str) -> None:
    assert names(condition, ETAG)
    assert not names('"x", "y"', ETAG)
    assert not names(None, ETAG)


def test_nothing_has_no_range() -> None:
    with pytest.raises(Unsatisfiable):
        wanted(0, etag=ETAG, range_="bytes=-5", if_range=None)
