"""What documents say that idle costs is what prices.json and fly.control.toml make of it."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
PRICES = json.loads((ROOT / "infra/prices.json").read_text())
CONTROL = tomllib.loads((ROOT / "fly.control.toml").read_text())
OPERATIONS = (ROOT / "docs/operations.md").read_text()
ROW = re.compile(r"^\| (.+?) \| (.*?) ?\| (?:\$([\d.]+) )?\| (?:\$([\d.]+) )?\|$", re.MULTILINE)


def machine_usd(memory_mb: int) -> float:
    preset = PRICES["presets"][CONTROL["vm"][0]["size"]]
    more_gb = (memory_mb - preset["min_memory_mb"]) / 1024
    per_s = preset["usd_second"] + more_gb * PRICES["extra_ram_usd_per_gb_second"]
    return per_s * PRICES["month_seconds"]


def stated() -> Iterator[tuple[str, str, float | None, float | None]]:
    """Yield part, size, and the amounts always on and asleep, of each row of the table."""
    table = OPERATIONS.split("### What idle costs")[1].split("## ")[0]
    for part, size, on, asleep in ROW.findall(table):
        yield part, size, float(on) if on else None, float(asleep) if asleep else None


def usd(amount: float) -> float:
    """Return an amount in cents; half a cent counts as one."""
    return round(amount + 1e-9, 2)


def gb(size: str) -> float:
    return float(size.removesuffix(" GB"))


def test_the_idle_prices_of_the_documents_follow_from_the_prices_and_the_machine_that_is_asked_for():
    rows = {part: (size, on, asleep) for part, size, on, asleep in stated()}
    machine, its_files, volume, holders, together = rows.values()
    memory_mb = int(CONTROL["vm"][0]["memory"].removesuffix("mb"))
    awake_usd = machine_usd(memory_mb)
    volume_usd = gb(volume[0]) * PRICES["volume_usd_gb_month"]
    files_usd = gb(its_files[0]) * PRICES["stopped_rootfs_usd_gb_month"]
    holders_usd = gb(holders[0]) * PRICES["stopped_rootfs_usd_gb_month"]
    on_usd, asleep_usd = awake_usd + volume_usd + holders_usd, files_usd + volume_usd + holders_usd

    assert machine == (f"{CONTROL['vm'][0]['size']}, {memory_mb} MB", usd(awake_usd), None)
    assert its_files[1:] == (None, usd(files_usd))
    size = CONTROL["mounts"][0]["initial_size"].upper().replace("GB", " GB")
    assert volume == (size, usd(volume_usd), usd(volume_usd))
    assert holders[1:] == (usd(holders_usd), usd(holders_usd))
    assert together[1:] == (usd(on_usd), usd(asleep_usd))

    smaller = usd(machine_usd(256) + volume_usd + holders_usd)
    assert f"256 MB would\ncost ${smaller} in all" in OPERATIONS
    assert "Each hour awake costs half a cent" in OPERATIONS
    assert round(awake_usd * 3600 / PRICES["month_seconds"], 3) == 0.005
    readme = (ROOT / "README.md").read_text()
    assert f"with {memory_mb} MB: **${usd(on_usd)} a month**" in readme
    assert f"**${usd(asleep_usd)} a month** asleep" in readme
