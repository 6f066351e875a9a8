"""How far the bill of a batch may be from its quote, by the bills of finished jobs. PURE."""

from __future__ import annotations

from collections.abc import Sequence

JOBS_MIN = 10  # with fewer jobs nothing is said
OUTSIDE = 10  # one of so many jobs was cheaper than the range, and one was dearer


def likely_range(ratios: Sequence[float]) -> tuple[float, float] | None:
    """Return the lowest and the highest likely bill as multiples of the quote, or None with too few jobs.

    A ratio is the bill of a job divided by its estimate. The range holds the middle eight of ten ratios, and
    always 1, so that a quote lies in its own range.
    """
    if len(ratios) < JOBS_MIN:
        return None
    ordered = sorted(ratios)
    outside = len(ordered) // OUTSIDE
    return min(1.0, ordered[outside]), max(1.0, ordered[-1 - outside])
