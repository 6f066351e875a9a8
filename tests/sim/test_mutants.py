"""Each deliberate fault in the core is noticed by a world; a judge that sees none of them proves nothing.

`mutants.txt` holds for each mutant a seed whose world notices it, found by `python -m tests.sim --mutants`.
"""

from __future__ import annotations

import os

import pytest

from tests.sim.campaign import live
from tests.sim.database import Database
from tests.sim.mutants import HARMLESS_ALONE, MUTANTS, noticed_by, notices, swarm_for

SEEDS_MORE = 25
SLOW = {  # noticed only hours after the faults, when nothing has come to rest: `make soak` runs these
    "destroyed once and forgotten", "ended attempts keep machines", "no reaper", "no watch",
    "lists hide the destroyed", "no boot deadline",
}  # fmt: skip


# Their worlds shift with everything that changes the pace of the core, so `make soak` seeks them again.
soak = pytest.mark.skipif(os.environ.get("SIM_FULL") != "1", reason="a part of the soak: SIM_FULL=1")


@soak
@pytest.mark.parametrize("name", [name for name in noticed_by() if name not in SLOW])
def test_a_mutant_is_noticed(database: Database, name: str):
    seeds = (noticed_by()[name], *range(1, SEEDS_MORE))
    assert any(notices(database, name, seed) for seed in seeds), f"no world notices {name}"


def test_every_mutant_is_noticed_alone_or_in_a_pair_or_is_explained():
    noticed = {one for names in noticed_by() for one in names.split(" + ")}
    assert set(MUTANTS) == noticed | set(HARMLESS_ALONE)
    assert len([name for name in noticed_by() if " + " not in name]) >= 20


@soak
@pytest.mark.parametrize("name", noticed_by())
def test_the_core_itself_holds_in_the_world_that_notices_the_mutant(database: Database, name: str):
    seed = noticed_by()[name]
    failure = live(database, seed, swarm_for(name, seed))[1]
    assert failure is None, failure
