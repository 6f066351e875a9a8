"""Sizes as people say them. PURE."""

from __future__ import annotations

_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_MOST = 10**18  # larger numbers, which no float holds in the end, are made up


def in_words(size_bytes: int) -> str:
    """Return a size with two or three digits, such as `3.2 GB`, as the page shows sizes."""
    if size_bytes > _MOST:
        return f"more than {in_words(_MOST)}"
    size, unit = float(size_bytes), 0
    while size >= 999.5 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.{1 if unit and size < 99.5 else 0}f} {_UNITS[unit]}"
