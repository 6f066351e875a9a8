"""Decides which bytes a request asks for: Range and the conditional headers of RFC 9110. PURE."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ONE_RANGE = re.compile(r"bytes=[ \t]*(\d*)-(\d*)[ \t]*", re.ASCII | re.IGNORECASE)


def names(etags: str | None, etag: str) -> bool:
    """Return whether an If-Match or If-None-Match header contains `etag` (quoted) or `*`."""
    words = {word.strip().removeprefix("W/") for word in (etags or "").split(",")}
    return bool(words & {etag, "*"})


class Unsatisfiable(ValueError):
    """The range starts after the end: 416."""


@dataclass(frozen=True)
class Span:
    """The bytes `start <= i < stop`."""

    start: int
    stop: int


def wanted(size_bytes: int, *, etag: str, range_: str | None, if_range: str | None) -> Span | None:
    """Return the range to answer with 206, or None for a 200 with the whole content.

    The RFC allows the whole content for an invalid header and for several ranges. It requires it if If-Range
    holds a date or an ETag other than `etag` (quoted). Raises Unsatisfiable.
    """
    if range_ is None or (if_range is not None and if_range.strip() != etag):
        return None
    found = _ONE_RANGE.fullmatch(range_.strip())
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        return _last(int(last), size_bytes)
    start, stop = int(first), int(last) + 1 if last else size_bytes
    if stop <= start and last:
        return None
    if start >= size_bytes:
        raise Unsatisfiable
    return Span(start, min(stop, size_bytes))


def _last(count: int, size_bytes: int) -> Span:
    if count == 0 or size_bytes == 0:
        raise Unsatisfiable
    return Span(max(0, size_bytes - count), size_bytes)
