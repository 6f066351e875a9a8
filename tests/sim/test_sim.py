"""SIM_WORLDS worlds, and those that once failed before them. None may break an invariant."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime

import pytest

from control.auth.tokens import Signer
from control.domain import ids
from control.passes import watch
from control.views.batches import Views
from tests.sim.__main__ import replay
from tests.sim.campaign import live, regressions, summary
from tests.sim.database import Database
from tests.sim.world import Report

WORLDS = int(os.environ.get("SIM_WORLDS", "20"))
FIRST = int(os.environ.get("SIM_FIRST", "1"))


@pytest.mark.parametrize("seed", regressions())
def test_a_world_that_once_failed_holds(database: Database, seed: int):
    _, failure = live(database, seed)
    assert failure is None, failure


def test_no_world_breaks_an_invariant(database: Database, record_property: Callable[[str, object], None]):
    total, failures, began = Report(), [], time.monotonic()
    for seed in range(FIRST, FIRST + WORLDS):
        report, failure = live(database, seed)
        total.add(report)
        failures += [failure] if failure else []
    record_property("simulator", summary(total, time.monotonic() - began))
    assert not failures, "\n".join(failures)


def test_the_same_seed_gives_the_same_life_in_any_process(capsys: pytest.CaptureFixture[str]):
    command = [sys.executable, "-m", "tests.sim", "--seed", "8"]
    elsewhere = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "1"}
    )
    assert replay(8) == 0
    here = capsys.readouterr().out
    assert len(here) > 1000
    assert elsewhere.stdout == here


def test_a_control_in_another_thread_changes_nothing_in_a_world(database: Database):
    alone, _ = live(database, 5)
    is_over, reads = threading.Event(), 0

    def be_busy() -> None:
        nonlocal reads
        other = Database()
        views = Views(other.engine, Signer("secret for tests"), datetime.now)
        while not is_over.is_set():
            assert not views.rows(watch._live)
            ids.new_id("job")
            reads += 1

    thread = threading.Thread(target=be_busy)
    thread.start()
    disturbed, failure = live(database, 5)
    is_over.set()
    thread.join()
    assert failure is None
    assert reads > 100
    assert vars(disturbed) == vars(alone)
