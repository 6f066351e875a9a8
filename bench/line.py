"""The one form of a benchmark's result."""

from __future__ import annotations


def line(name: str, value: float, unit: str, *, against: str) -> str:
    """Return `name: value unit (against: ...)`."""
    return f"{name}: {value:.2f} {unit} (against: {against})"
