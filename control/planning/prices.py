"""From seconds of a machine, bytes and requests to money. PURE, over the data file `infra/prices.json`.

What is not known (a region that is not in the list) counts as the dearest, so that nothing is ever too low.
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
    """Return the memory of a guest preset, as `infra.fly.client` asks for it."""
    return int(_prices()["presets"][size]["min_memory_mb"]) << 20


def machine_usd(*, size: str, region: str | None, seconds: float) -> float:
    """Return what a machine of a guest preset costs for `seconds` in state `started`, in USD."""
    return float(_prices()["presets"][size]["usd_second"]) * _multiplier(region) * seconds


def _multiplier(region: str | None) -> float:
    multipliers: dict[str, float] = _prices()["region_multiplier"]
    return multipliers.get(region or "", max(multipliers.values()))


def egress_usd(*, region: str | None, size_bytes: float) -> float:
    """Return what it costs a machine to send so many bytes to the bucket, in USD.

    Fly bills it; by which of its rates is not confirmed (2026-06), so this is the one to the internet.
    """
    zones: dict[str, dict[str, float]] = _prices()["egress_usd_gb"]
    dearest = max(zone["internet"] for zone in zones.values())
    zone = zones.get(_prices()["egress_zone"].get(region, ""))
    return (zone["internet"] if zone else dearest) * size_bytes / GB


def requests_usd(*, outputs: int) -> float:
    """Return what the bucket's requests of so many outputs cost, in USD: each one PUT, one HEAD, one GET."""
    tigris: dict[str, float] = _prices()["tigris"]
    return outputs * (tigris["class_a_per_1k"] + 2 * tigris["class_b_per_1k"]) / 1000


def dearest(regions: Iterable[str]) -> str:
    """Return the region whose machines, and then whose bytes, cost most: where a machine may come up."""
    return max(regions, key=lambda region: (_multiplier(region), egress_usd(region=region, size_bytes=1)))


def machine_seconds(boot_from: datetime | None, until: datetime) -> float:
    """Return for how long a machine may have been billed: from the first create that may have succeeded."""
    return 0.0 if boot_from is None else (until - boot_from).total_seconds()
