"""Worlds whose control ends itself when it is quiet, and is started by the next request.

Nobody looks after anything while it sleeps, so what it left would stay for ever: the judge sees it at rest.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from control.context import AppContext
from control.store.quiet import is_quiet
from tests.sim.database import Database
from tests.sim.oracle import Violation
from tests.sim.world import World

IDLE_S = 5.0
SEEDS = (3, 5, 10, 28)  # the last one has little storage


class SleepyWorld(World):
    """A world with STOP_WHEN_IDLE_S; requests are those of users and runners."""

    sleeps = wakes = 0
    _is_asleep = False
    _asked_at = 0.0

    def serve(self, do: Callable[[AppContext], Any]) -> tuple[int | None, Any]:
        """Start a control that sleeps, as Fly's proxy does, and have it answer."""
        self._asked_at = self.t
        if self._is_asleep:
            self._is_asleep = False
            self.wakes += 1
            self.start_control()
        return super().serve(do)

    def _tick(self, generation: int, number: int) -> None:
        super()._tick(generation, number)
        context = self.context
        if context is None or self.t - self._asked_at < IDLE_S or not self._is_cloud_known(context):
            return
        with context.views.session() as session:
            may_end = is_quiet(session, self.settings, self.now())
        if may_end:
            self.say("control sleeps")
            self.sleeps += 1
            self._is_asleep = True
            self.context = None
            self.generation += 1

    def _is_cloud_known(self, context: AppContext) -> bool:
        return context.cloud.are_known(self.settings.runner_apps) and not context.cloud.silent


def lived(database: Database, seeds: Iterable[int]) -> int:
    """Live worlds until all is at rest; return how often control was woken. Raises Violation."""
    wakes = 0
    for seed in seeds:
        world = SleepyWorld(seed, database)
        world.run()
        wakes += world.wakes
    return wakes


def test_a_control_that_sleeps_leaves_nothing_and_is_woken_by_each_request(database: Database) -> None:
    assert lived(database, SEEDS) > 0


def test_a_control_that_slept_while_something_ran_would_be_seen(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "is_quiet", lambda *_: True)
    with pytest.raises(Violation):
        lived(database, range(4, 12))
