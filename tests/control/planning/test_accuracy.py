"""The range in which a bill is likely to lie."""

from __future__ import annotations

from control.planning.accuracy import JOBS_MIN, likely_range


def test_with_too_few_jobs_nothing_is_said() -> None:
    assert likely_range([1.1] * (JOBS_MIN - 1)) is None


def test_the_range_leaves_out_the_tenth_at_each_end() -> None:
    ratios = [0.2, 0.3, *[0.9 + number / 100 for number in range(16)], 3.0, 9.0]
    assert likely_range(ratios) == (0.9, 1.05)


def test_a_quote_lies_in_its_own_range() -> None:
    assert likely_range([1.1, 1.2] * 10) == (1.0, 1.2)
    assert likely_range([0.8, 0.9] * 10) == (0.8, 1.0)
