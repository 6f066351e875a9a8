"""Seconds to money, against the published prices (infra/prices.json tells their date and source)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from control.costs import machine_seconds, machine_usd, sizes

MONTH_S = 30 * 24 * 3600


@pytest.mark.parametrize(
    ("size", "month_usd"), [("performance-1x", 33.00), ("performance-8x", 264.01), ("shared-cpu-1x", 2.19)]
)
def test_a_month_of_a_preset_costs_what_fly_publishes(size, month_usd):
    assert machine_usd(size=size, region="iad", seconds=MONTH_S) == pytest.approx(month_usd, abs=0.01)


def test_a_dearer_region_costs_its_multiplier():
    assert machine_usd(size="performance-1x", region="gru", seconds=MONTH_S) == pytest.approx(
        33 * 1.615, abs=0.02
    )


def test_an_unknown_region_is_never_too_cheap():
    unknown = machine_usd(size="performance-1x", region=None, seconds=1)
    assert unknown == machine_usd(size="performance-1x", region="gru", seconds=1)


def test_a_machine_that_never_was_costs_nothing():
    assert machine_seconds(None, datetime.now(UTC)) == 0


def test_a_machine_is_billed_from_the_first_create_that_may_have_succeeded():
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert machine_seconds(start, start + timedelta(seconds=90)) == 90


def test_the_default_sizes_have_prices():
    assert {"performance-1x", "performance-2x", "performance-4x", "performance-8x"} <= sizes()
