"""I11, I12: worlds with room for a few batches meet the cap, and keep what has ended for its grace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from tests.sim.campaign import live
from tests.sim.database import Database
from tests.sim.mutants import swarm_for
from tests.sim.swarm import Mishap

WORLDS_MAX = 8
WANTED = {Mishap.STORAGE_FULL: 5, Mishap.EVICTED: 2, Mishap.EXPIRED: 2, Mishap.SHARE: 20}


def test_worlds_with_little_storage_meet_its_cap_and_hold(
    database: Database, record_property: Callable[[str, object], None]
):
    hits = Counter[str]()
    for seed in range(1, WORLDS_MAX + 1):
        swarm = swarm_for("a ticket opens every batch", seed)
        settings = {**swarm.settings, "retention_hours": 0.03}
        report, failure = live(database, seed, replace(swarm, settings=settings))
        assert failure is None, failure
        hits.update(report.hits)
        if all(hits[mishap] >= least for mishap, least in WANTED.items()):
            break
    met = {str(mishap): hits[mishap] for mishap in WANTED}
    record_property("storage", f"{seed} worlds: {met}")
    assert all(hits[mishap] >= least for mishap, least in WANTED.items()), met
