"""Seconds, bytes and requests to money, against the published prices (infra/prices.json says from when)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from importlib.resources import files

import pytest

from control.planning.prices import (
    cpus,
    dearest,
    egress_usd,
    machine_seconds,
    machine_usd,
    requests_usd,
    sizes,
)

MONTH_S = 30 * 24 * 3600
PUBLISHED_USD = {  # a month in iad: https://fly.io/pricing.md, re-read 2026-10-09
    "shared-cpu-1x": 2.19,
    "shared-cpu-2x": 4.39,
    "shared-cpu-4x": 8.78,
    "shared-cpu-6x": 13.16,
    "shared-cpu-8x": 17.55,
    "performance-1x": 33.00,
    "performance-2x": 66.00,
    "performance-4x": 132.01,
    "performance-6x": 198.01,
    "performance-8x": 264.01,
    "performance-10x": 330.01,
    "performance-12x": 396.02,
    "performance-14x": 462.02,
    "performance-16x": 528.02,
}


@pytest.mark.parametrize(("size", "month_usd"), PUBLISHED_USD.items())
def test_a_month_of_a_preset_costs_to_the_cent_what_fly_publishes(size, month_usd):
    assert round(machine_usd(size=size, region="iad", seconds=MONTH_S), 2) == month_usd


def test_every_published_preset_has_a_price_and_no_other_has():
    assert sizes() == PUBLISHED_USD.keys()


def test_prices_have_their_date_and_source():
    prices = json.loads(files("infra").joinpath("prices.json").read_text())
    assert datetime.fromisoformat(prices["date"])
    assert "https://fly.io/" in prices["source"]


def test_every_region_with_a_price_for_machines_has_one_for_bytes():
    prices = json.loads(files("infra").joinpath("prices.json").read_text())
    assert prices["region_multiplier"].keys() <= prices["egress_zone"].keys()
    assert set(prices["egress_zone"].values()) == prices["egress_usd_gb"].keys()


def test_a_dearer_region_costs_its_multiplier():
    assert machine_usd(size="performance-1x", region="gru", seconds=MONTH_S) == pytest.approx(
        33 * 1.615, abs=0.02
    )


def test_an_unknown_region_is_never_too_cheap():
    unknown = machine_usd(size="performance-1x", region=None, seconds=1)
    assert unknown == machine_usd(size="performance-1x", region="gru", seconds=1)
    assert egress_usd(region="zzz", size_bytes=10**9) == 0.12


def test_bytes_cost_what_their_zone_costs():
    assert [egress_usd(region=region, size_bytes=10**9) for region in ("iad", "nrt", "jnb")] == [
        0.02,
        0.04,
        0.12,
    ]


def test_an_output_costs_a_put_a_head_and_its_share_of_a_fetch():
    assert requests_usd(outputs=1000) == pytest.approx(0.006)


def test_the_dearest_of_the_regions_is_found():
    assert dearest(("iad", "fra", "sjc")) == "sjc"
    assert dearest(("iad", "ewr")) == "iad"


def test_a_preset_has_as_many_cores_as_its_name_says():
    assert [cpus(f"performance-{n}x") for n in (1, 2, 8)] == [1, 2, 8]


def test_a_machine_that_never_was_costs_nothing():
    assert machine_seconds(None, datetime.now(UTC)) == 0


def test_a_machine_is_billed_from_the_first_create_that_may_have_succeeded():
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert machine_seconds(start, start + timedelta(seconds=90)) == 90


def test_the_default_sizes_have_prices():
    assert {"performance-1x", "performance-2x", "performance-4x", "performance-8x"} <= sizes()
