"""Replay a world (`--seed N`), live new ones (`--minutes 60`), or search for `--mutants`.

`--worlds 100000 --ledger FILE` lives the seeds from 1, and goes on where it was stopped; `--jobs 2` does it
in two processes.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.sim.campaign import JUDGED, campaign, summary
from tests.sim.database import Database
from tests.sim.mutants import FOCUS, hunt
from tests.sim.oracle import Violation
from tests.sim.world import World
from tests.support.ledger import Ledger, code_of


def replay(seed: int) -> int:
    """Live one world and print what happened."""
    database = Database()
    world = World(seed, database)
    world.log = []
    print(world.swarm)
    try:
        report = world.run()
    except Exception as error:
        print(*world.log, sep="\n")
        print(f"{type(error).__name__}: {error}")
        if not isinstance(error, Violation):
            raise
        return 1
    print(*world.log, sep="\n")
    print(summary(report, 1.0))
    return 0


def main() -> int:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--mutants", action="store_true")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--first", type=int)
    parser.add_argument("--worlds", type=int)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--ledger", type=Path)
    asked = parser.parse_args()
    if asked.seed is not None:
        return replay(asked.seed)
    if asked.mutants:
        return hunt(Database(), FOCUS, range(1, 60))
    is_endless = asked.worlds is None
    minutes = 1.0 if asked.minutes is None and is_endless else asked.minutes
    first = asked.first or (int(time.time()) * 1000 if is_endless else 1)
    return campaign(
        None if minutes is None else minutes * 60,
        first=first,
        worlds=asked.worlds,
        jobs=asked.jobs,
        ledger=Ledger(asked.ledger, code_of(*JUDGED)),
    )


if __name__ == "__main__":
    sys.exit(main())
