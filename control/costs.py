"""From seconds of a machine to money. PURE, over the data file `infra/prices.json`."""

from __future__ import annotations

import json
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any


@cache
def _prices() -> dict[str, Any]:
    prices: dict[str, Any] = json.loads(files("infra").joinpath("prices.json").read_text())
    return prices


def sizes() -> frozenset[str]:
    """Return the guest presets that have a price."""
    return frozenset(_prices()["presets"])


def memory_bytes(size: str) -> int:
    """Return the memory of a guest preset, as `infra.fly` asks for it."""
    return int(_prices()["presets"][size]["min_memory_mb"]) << 20


def machine_usd(*, size: str, region: str | None, seconds: float) -> float:
    """Return what a machine of a guest preset costs for `seconds` in state `started`, in USD.

    An unknown region counts as the dearest, so that an estimate is never too low.
    """
    multipliers: dict[str, float] = _prices()["region_multiplier"]
    multiplier = multipliers.get(region or "", max(multipliers.values()))
    return float(_prices()["presets"][size]["usd_second"]) * multiplier * seconds


def machine_seconds(boot_from: datetime | None, until: datetime) -> float:
    """Return for how long a machine may have been billed: from the first create that may have succeeded."""
    return 0.0 if boot_from is None else (until - boot_from).total_seconds()
