"""The model's clock, its later events, and the effects that the caller must perform. Pure.

Must never read a real clock: time passes only by `advance`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any


@dataclass(frozen=True, kw_only=True)
class StartProcess:
    """Start the machine's process, then call `started`, and `exited` when it ends."""

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
    """The machine's host is cut off from Fly. The caller decides whether its process still reaches others."""

    machine_id: str


@dataclass(frozen=True, kw_only=True)
class HostBack:
    """The machine's host answers again."""

    machine_id: str


@dataclass(frozen=True, kw_only=True)
class RemoveMachine:
    """The machine is destroyed: remove all that was kept for it."""

    machine_id: str


Effect = StartProcess | SendSignal | HostLost | HostBack | RemoveMachine


class EventQueue:
    """A virtual clock. Events of one instant happen in the order in which they were queued."""

    def __init__(self, *, now: datetime) -> None:
        self.now = now
        self._due: list[tuple[datetime, int, Callable[..., None], tuple[Any, ...]]] = []
        self._asked = 0
        self._effects: list[Effect] = []

    def after(self, seconds: float, do: Callable[..., None], *args: Any) -> None:
        """Call it after this number of seconds; immediately if it is 0."""
        if seconds <= 0:
            do(*args)
            return
        self._asked += 1
        heapq.heappush(self._due, (self.now + timedelta(seconds=seconds), self._asked, do, args))

    def ask_outside(self, effect: Effect) -> None:
        """Queue an effect that the caller must perform."""
        self._effects.append(effect)

    def advance(self, now: datetime) -> list[Effect]:
        """Do what is due until `now`, in order. Return the new effects for the caller, each once.

        An earlier instant changes nothing.
        """
        while self._due and self._due[0][0] <= now:
            due, _, do, args = heapq.heappop(self._due)
            self.now = max(self.now, due)
            do(*args)
        self.now = max(self.now, now)
        effects, self._effects = self._effects, []
        return effects

    def next_due(self) -> datetime | None:
        """Return when the next event is due, or None."""
        return self._due[0][0] if self._due else None
