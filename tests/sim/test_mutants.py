"""Each deliberate fault in the core is noticed by a world; a judge that sees none of them proves nothing.

`mutants.txt` holds for each mutant, or pair, a seed whose small world notices it. Such a world may shift with
the pace of the core, so others of its kind are tried before a mutant counts as unnoticed; `make soak` prints
the seeds of now.
"""

from __future__ import annotations

import pytest

from tests.sim.campaign import live
from tests.sim.database import Database
from tests.sim.mutants import DEFENDED, FOCUS, MUTANTS, mutated, noticed_by, notices, swarm_for

SEEDS_MORE = 20
PAIRS = [name for name in FOCUS if " + " in name]


@pytest.mark.parametrize("name", FOCUS)
def test_a_mutant_is_noticed_where_the_core_holds(database: Database, name: str):
    for seed in dict.fromkeys((noticed_by()[name], *range(1, SEEDS_MORE))):
        if said := notices(database, name, seed):
            assert said.startswith("Violation: "), f"a broken mutant, not a broken invariant: {said}"
            failure = live(database, seed, swarm_for(name, seed))[1]
            assert failure is None, f"the core itself: {failure}"
            return
    pytest.fail(f"no world notices {name}: {said}")


@pytest.mark.parametrize("pair", PAIRS)
def test_of_a_pair_one_alone_stays_hidden_in_the_world_that_notices_both(database: Database, pair: str):
    seeds = dict.fromkeys((noticed_by()[pair], *range(1, SEEDS_MORE)))
    seed = next(seed for seed in seeds if notices(database, pair, seed))
    for name in pair.split(" + "):
        with mutated(name):
            assert live(database, seed, swarm_for(pair, seed))[1] is None, name


def test_every_mutant_is_noticed_alone_or_in_a_pair_and_each_pair_is_explained():
    alone = {name for name in FOCUS if name not in PAIRS}
    in_pairs = {one for pair in PAIRS for one in pair.split(" + ")}
    assert set(FOCUS) == set(noticed_by())
    assert set(MUTANTS) == alone | in_pairs
    assert in_pairs - alone == set(DEFENDED)
    assert len(alone) >= 20
