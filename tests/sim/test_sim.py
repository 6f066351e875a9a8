"""As many worlds as SIM_SECONDS hold, those that once failed first. None may break an invariant."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import count

import pytest

from tests.sim.campaign import live, regressions, summary
from tests.sim.database import Database
from tests.sim.world import Report

SECONDS = float(os.environ.get("SIM_SECONDS", "30"))
FIRST = int(os.environ.get("SIM_FIRST", "1"))


@pytest.mark.parametrize("seed", regressions())
def test_a_world_that_once_failed_holds(database: Database, seed: int):
    _, failure = live(database, seed)
    assert failure is None, failure


def test_no_world_breaks_an_invariant(database: Database, capsys: pytest.CaptureFixture[str]):
    total, failures, began = Report(), [], time.monotonic()
    for seed in count(FIRST):
        if time.monotonic() - began > SECONDS:
            break
        report, failure = live(database, seed)
        total.add(report)
        failures += [failure] if failure else []
    with capsys.disabled():
        print(f"\nsimulator: {summary(total, time.monotonic() - began)}")
    assert not failures, "\n".join(failures)


def test_the_same_seed_gives_the_same_life_in_any_process():
    command = [sys.executable, "-m", "tests.sim", "--seed", "8"]
    lives = [
        subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": hashes})
        for hashes in ("1", "2")
    ]
    assert len(lives[0].stdout) > 1000
    assert lives[0].stdout == lives[1].stdout
