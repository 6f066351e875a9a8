"""The interface of a world to its parts: time, chance, and the other parts.

The parts (judge, bucket, runners, users) know this protocol only; `world.World` puts them together. So the
imports have no circle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from random import Random
from typing import Any, Protocol

from control.settings import Settings
from infra.flysim.world import World as Fly
from tests.sim.database import Database
from tests.sim.swarm import Mishap, Swarm


class SimWorld(Protocol):
    """One simulated world. Times are seconds since it began."""

    seed: int
    crash_at: int | None
    fail_at: int | None
    t: float
    started_at: float
    clock_steps_at: list[float]
    swarm: Swarm
    settings: Settings
    rates: dict[Mishap, float]
    hits: Counter[str]
    injector: Random
    database: Database
    fly: Fly
    oracle: Any
    bucket: Any
    runners: dict[str, Any]

    @property
    def is_dead_for_ever(self) -> bool:
        """True once control will never come back."""

    def now(self) -> datetime:
        """Return the time as control sees it."""

    def after(self, seconds: float, do: Callable[[], object]) -> None:
        """Call `do` in so many seconds."""

    def say(self, text: str) -> None:
        """Keep a line for a replay."""

    def pump(self) -> None:
        """Let Fly live until now, and do what it asks for."""

    def pause(self, seconds: float) -> None:
        """Let time pass inside control, while others act."""

    def fires(self, mishap: Mishap) -> bool:
        """Return whether a mishap happens here, and count it."""

    def is_during(self, mishap: Mishap) -> bool:
        """Return whether now is one of the times of a mishap."""

    def io(self, what: str) -> None:
        """Pass a place where control is about to call outside: it may die, fail or wait here."""

    def crash_point(self, what: str, mishap: Mishap = Mishap.CRASH) -> None:
        """Pass a place where control may die."""

    def serve(self, do: Callable[[Any], Any]) -> tuple[int | None, Any]:
        """Let control answer a request: its status and answer, or None and None from a dead control."""

    def post(self, runner: Any, call: str, body: Any, timeout_s: float, then: Any) -> None:
        """Carry a runner's call to control, and the answer back."""

    def exited(self, runner: Any, code: int, *, signal: int) -> None:
        """Report to Fly that a process has ended."""
