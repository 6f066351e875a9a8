"""Many worlds, one after another, for a given time."""

from __future__ import annotations

import time
from itertools import count
from pathlib import Path

from tests.sim.database import Database
from tests.sim.swarm import APART, LASTING, OFTEN, Swarm
from tests.sim.world import Report, World

HITS_MIN = 50  # of each fault site, or a soak proves nothing of it
REGRESSIONS = Path(__file__).with_name("regressions.txt")


def regressions() -> list[int]:
    """Return the seeds that once found something."""
    lines = REGRESSIONS.read_text().splitlines()
    return [int(line.split()[0]) for line in lines if line and not line.startswith("#")]


def live(database: Database, seed: int, swarm: Swarm | None = None) -> tuple[Report, str | None]:
    """Live one world; return its report, and what went wrong with how to see it again."""
    world = World(seed, database, swarm=swarm)
    try:
        return world.run(), None
    except Exception as error:  # noqa: BLE001 - a crash of the core is a finding like any other
        again = f".venv/bin/python -m tests.sim --seed {seed}"
        return world.report, f"{type(error).__name__}: {error}\n    again: {again}"


def campaign(seconds: float, *, first: int) -> int:
    """Live worlds for so long, print what was covered; return 1 if one failed or a site was seldom hit."""
    database, total, failures = Database(), Report(), []
    began = time.monotonic()
    for seed in count(first):
        if time.monotonic() - began > seconds:
            break
        report, failure = live(database, seed)
        total.add(report)
        if failure:
            failures.append(failure)
            print(failure, flush=True)
    print(summary(total, time.monotonic() - began))
    seldom = {
        str(fail_point): total.hits[fail_point]
        for fail_point in (*OFTEN, *LASTING, *APART)
        if total.hits[fail_point] < HITS_MIN
    }
    print(f"hit less than {HITS_MIN} times: {seldom or 'none'}; failures: {len(failures)}")
    return 1 if failures or seldom else 0


def summary(report: Report, seconds: float) -> str:
    """Return what worlds covered, in a few lines."""
    hits = ", ".join(f"{fail_point} {count}" for fail_point, count in sorted(report.hits.items()))
    jobs = ", ".join(f"{status} {count}" for status, count in sorted(report.jobs.items()))
    return (
        f"{report.worlds} worlds in {seconds:.0f} s, {report.events} events, "
        f"{report.virtual_s / 3600:.1f} simulated hours, {report.crash_points} crash points, "
        f"{report.machines} machines; jobs: {jobs}\nhits: {hits}"
    )
