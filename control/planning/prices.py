"""Costs of machine seconds, bytes and requests. PURE, from the data file `infra/prices.json`.

A region that is not in the file counts as the most expensive one, so no estimate is too low.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any

GB = 10**9


@cache
def _prices() -> dict[str, Any]:
    prices: dict[str, Any] = json.loads(files("infra").joinpath("prices.json").read_text())
    return prices


def sizes() -> frozenset[str]:
    """Return the guest presets that have a price."""
    return frozenset(_prices()["presets"])


def cpus(size: str) -> int:
    """Return how many cores a guest preset has."""
    return int(_prices()["presets"][size]["cpus"])


def memory_bytes(size: str) -> int:
    """Return the memory of a guest preset, as `infra.fly.client` requests it."""
    return int(_prices()["presets"][size]["min_memory_mb"]) << 20


def machine_usd(*, size: str, region: str | None, seconds: float) -> float:
    """Return the cost in USD of a machine of a guest preset for `seconds` in state `started`."""
    return float(_prices()["presets"][size]["usd_second"]) * _multiplier(region) * seconds


def _multiplier(region: str | None) -> float:
    multipliers: dict[str, float] = _prices()["region_multiplier"]
    return multipliers.get(region or "", max(multipliers.values()))


def egress_usd(*, region: str | None, size_bytes: float) -> float:
    """Return the cost in USD of sending this many bytes from a machine to the bucket.

    Fly bills it. Which of its rates applies is not confirmed (2026-06), so this is the rate to the internet.
    """
    zones: dict[str, dict[str, float]] = _prices()["egress_usd_gb"]
    dearest = max(zone["internet"] for zone in zones.values())
    zone = zones.get(_prices()["egress_zone"].get(region, ""))
    return (zone["internet"] if zone else dearest) * size_bytes / GB


def requests_usd(*, outputs: int) -> float:
    """Return the cost in USD of the bucket requests of this many outputs: one PUT, HEAD and GET for each."""
    tigris: dict[str, float] = _prices()["tigris"]
    return outputs * (tigris["class_a_per_1k"] + 2 * tigris["class_b_per_1k"]) / 1000


def dearest(regions: Iterable[str]) -> str:
    """Return the most expensive of the regions, by the price of machines, then of egress."""
    return max(regions, key=lambda region: (_multiplier(region), egress_usd(region=region, size_bytes=1)))


def machine_seconds(boot_from: datetime | None, until: datetime) -> float:
    """Return how long a machine may have been billed: from the first create call that may have succeeded."""
    return 0.0 if boot_from is None else (until - boot_from).total_seconds()
