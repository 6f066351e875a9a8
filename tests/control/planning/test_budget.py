"""The share of the remaining money that a machine may use."""

from __future__ import annotations

import pytest

from control.planning.budget import (
    ROOM,
    ROOM_S,
    SLACK_S,
    Budget,
    CostEstimate,
    InsufficientBudget,
    least_s,
    wall_s,
)

LIMIT_S = 4200.0
PER_S = 1.2731e-05


def estimate(seconds: float = 100.0) -> CostEstimate:
    return CostEstimate(size="performance-1x", region="iad", seconds=seconds, bytes_max=10e6, outputs=4)


def budget(cap: float, *, spent: float = 0, reserved: float = 0, **more: object) -> Budget:
    return Budget(name="day", cap_usd=cap, spent_usd=spent, reserved_usd=reserved, **more)  # type: ignore[arg-type]


def test_a_reserve_is_all_that_the_machine_can_cost():
    assert estimate().reserve_usd(100) == pytest.approx(
        (100 + SLACK_S) * PER_S + 10e6 * 0.02 / 1e9 + 4 * 6e-6
    )


def test_money_pays_for_the_deadline_whose_reserve_it_is():
    assert estimate().pays_s(estimate().reserve_usd(123)) == pytest.approx(123)


def test_without_a_purse_only_the_limit_counts():
    assert wall_s(estimate(), [], limit_s=LIMIT_S) == LIMIT_S


def test_a_full_purse_pays_for_the_limit():
    assert wall_s(estimate(), [budget(10)], limit_s=LIMIT_S) == LIMIT_S


def test_the_deadline_is_what_the_money_left_pays_for():
    left = estimate().reserve_usd(1000)
    assert wall_s(estimate(), [budget(5 + left, spent=4, reserved=1)], limit_s=LIMIT_S) == pytest.approx(1000)


def test_the_lightest_purse_counts():
    light = budget(estimate().reserve_usd(500))
    assert wall_s(estimate(), [budget(10), light], limit_s=LIMIT_S) == pytest.approx(500)


def test_jobs_that_wait_share_what_is_left_but_each_gets_what_it_needs():
    left = estimate().reserve_usd(1000)
    assert wall_s(estimate(), [budget(left, sharers=2)], limit_s=LIMIT_S) < 500
    assert wall_s(estimate(), [budget(left, sharers=9)], limit_s=LIMIT_S) == ROOM * 100 + ROOM_S


def test_while_others_hold_money_a_job_waits_for_it():
    for is_own in (True, False):
        with pytest.raises(InsufficientBudget) as insufficient:
            wall_s(estimate(), [budget(0.01, reserved=0.0099, is_own=is_own)], limit_s=LIMIT_S)
        assert not insufficient.value.for_good


def test_a_spent_day_is_waited_out_and_a_spent_batch_is_not():
    with pytest.raises(InsufficientBudget) as insufficient:
        wall_s(estimate(), [budget(1, spent=1)], limit_s=LIMIT_S)
    assert not insufficient.value.for_good
    with pytest.raises(InsufficientBudget) as insufficient:
        wall_s(estimate(), [budget(1, spent=1, is_own=True)], limit_s=LIMIT_S)
    assert insufficient.value.for_good


def test_the_last_of_a_batch_s_money_pays_for_a_part_of_a_long_job_but_not_for_nothing():
    own = budget(estimate(1000).reserve_usd(61), is_own=True)
    assert wall_s(estimate(1000), [own], limit_s=LIMIT_S) == pytest.approx(61)
    with pytest.raises(InsufficientBudget):
        wall_s(estimate(1000), [budget(estimate(1000).reserve_usd(59), is_own=True)], limit_s=LIMIT_S)


def test_a_cap_just_large_enough_for_the_job_lets_it_start():
    for is_own in (True, False):
        tight = budget(
            estimate().reserve_usd(least_s(estimate(), LIMIT_S, is_own=is_own)) + 1e-12, is_own=is_own
        )
        assert wall_s(estimate(), [tight], limit_s=LIMIT_S) >= least_s(estimate(), LIMIT_S, is_own=is_own)


def test_each_grant_fits_every_budget():
    for cap in (0.0005, 0.001, 0.002, 0.01, 0.1):
        for spent in (0, 0.0003, 0.005):
            for reserved in (0, 0.0004):
                for is_own in (True, False):
                    each = budget(cap, spent=spent, reserved=reserved, sharers=3, is_own=is_own)
                    try:
                        granted = wall_s(estimate(), [each], limit_s=LIMIT_S)
                    except InsufficientBudget:
                        continue
                    assert estimate().reserve_usd(granted) <= each.left_usd + 1e-12
