"""Replay a world (`--seed N`), run new ones for a while (`--minutes 60`), or search for `--mutants`."""

from __future__ import annotations

import argparse
import sys
import time

from tests.sim.campaign import campaign, summary
from tests.sim.database import Database
from tests.sim.mutants import FOCUS, hunt
from tests.sim.oracle import Violation
from tests.sim.world import World


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
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--first", type=int, default=int(time.time()) * 1000)
    asked = parser.parse_args()
    if asked.seed is not None:
        return replay(asked.seed)
    if asked.mutants:
        return hunt(Database(), FOCUS, range(1, 60))
    return campaign(asked.minutes * 60, first=asked.first)


if __name__ == "__main__":
    sys.exit(main())
