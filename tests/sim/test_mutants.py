"""Each deliberate fault in the core is noticed by a world; a judge that sees none of them proves nothing.

`mutants.txt` holds for each mutant a seed whose world notices it, found by `python -m tests.sim --mutants`.
"""

from __future__ import annotations

import pytest

from tests.sim.campaign import live
from tests.sim.database import Database
from tests.sim.mutants import HARMLESS_ALONE, MUTANTS, mutated, noticed_by

SEEDS_MORE = 25


@pytest.mark.parametrize("name", noticed_by())
def test_a_mutant_is_noticed(database: Database, name: str):
    with mutated(*name.split(" + ")):
        for seed in (*noticed_by()[name], *range(1, SEEDS_MORE)):
            if live(database, seed)[1]:
                return
    pytest.fail(f"no world notices {name}")


def test_every_mutant_is_noticed_alone_or_in_a_pair_or_is_explained():
    noticed = {one for names in noticed_by() for one in names.split(" + ")}
    assert set(MUTANTS) == noticed | set(HARMLESS_ALONE)
    assert len([name for name in noticed_by() if " + " not in name]) >= 20
