"""The boot deadline from earlier launch times."""

from __future__ import annotations

import pytest

from control.planning.boots import FLOOR_S, SAMPLES_MIN, deadline_s


@pytest.mark.parametrize(
    ("boots_s", "expected"),
    [
        ([], 180),
        ([5.0] * (SAMPLES_MIN - 1), 180),
        ([5.0] * SAMPLES_MIN, FLOOR_S),
        ([20.0] * 100, 40),
        ([5.0] * 99 + [70.0], FLOOR_S),  # one in a hundred is no rule
        ([5.0] * 98 + [70.0] * 2, 140),
        ([100.0] * 100, 180),
    ],
)
def test_the_deadline_is_twice_the_slowest_usual_boot_within_its_bounds(boots_s, expected):
    assert deadline_s(boots_s, ceiling_s=180) == expected


def test_a_ceiling_below_the_floor_wins():
    assert deadline_s([1.0] * 100, ceiling_s=20) == 20
