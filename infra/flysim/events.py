"""The model's clock, what is due later on it, and what is to be done outside. Pure.

Must never look at a real clock: `advance` is the only way that time passes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any


@dataclass(frozen=True, kw_only=True)
class StartProcess:
    """Start the machine's process, then tell `started`, and `exited` when it ends."""

    machine_id: str
    argv: tuple[str, ...]  # empty: the image's own command
    env: Mapping[str, str]  # the whole environment


@dataclass(frozen=True, kw_only=True)
class SendSignal:
    """Send a signal to the machine's process, if it has not ended by now."""

    machine_id: str
    signum: int


@dataclass(frozen=True, kw_only=True)
class HostLost:
    """The machine's host is cut off from Fly; whether its process still reaches others is for the outside."""

    machine_id: str


@dataclass(frozen=True, kw_only=True)
class HostBack:
    """The machine's host answers again."""

    machine_id: str


@dataclass(frozen=True, kw_only=True)
class RemoveMachine:
    """The machine is destroyed: drop whatever was kept for it."""

    machine_id: str


Effect = StartProcess | SendSignal | HostLost | HostBack | RemoveMachine


class EventQueue:
    """A virtual clock. What is due at one instant happens in the order in which it was asked for."""

    def __init__(self, *, now: datetime) -> None:
        self.now = now
        self._due: list[tuple[datetime, int, Callable[..., None], tuple[Any, ...]]] = []
        self._asked = 0
        self._effects: list[Effect] = []

    def after(self, seconds: float, do: Callable[..., None], *args: Any) -> None:
        """Do it when so many seconds have passed; at once if that is none."""
        if seconds <= 0:
            do(*args)
            return
        self._asked += 1
        heapq.heappush(self._due, (self.now + timedelta(seconds=seconds), self._asked, do, args))

    def ask_outside(self, effect: Effect) -> None:
        """Queue what is to be done outside."""
        self._effects.append(effect)

    def advance(self, now: datetime) -> list[Effect]:
        """Do what is due until `now`, in order; return, once, what came up since to be done outside.

        An instant that is past moves nothing.
        """
        while self._due and self._due[0][0] <= now:
            due, _, do, args = heapq.heappop(self._due)
            self.now = max(self.now, due)
            do(*args)
        self.now = max(self.now, now)
        effects, self._effects = self._effects, []
        return effects

    def next_due(self) -> datetime | None:
        """Return when the next thing is due, or None."""
        return self._due[0][0] if self._due else None
