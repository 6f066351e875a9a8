"""The clock of control: the wall clock without its jumps.

If the wall clock jumped even for a moment, control could expire results, lose machines or start the budget of
a new day. So time follows the monotonic clock, and a step of the wall clock counts only after it has lasted.
At its start control trusts the clock of its machine.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from control.telemetry.log import log_event
from infra.ports import Clock

APART_MAX = timedelta(seconds=2)  # a smaller step is followed at once: time servers correct clocks by such
SETTLED_S = 60.0  # a step that has lasted this long is accepted


class SteadyClock:
    """A clock, safe to use from any thread. It follows a step of `wall` that has lasted SETTLED_S."""

    def __init__(self, wall: Clock, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._lock = threading.Lock()
        self._step: timedelta | None = None  # a step of the wall clock that is not followed yet
        self._step_s = 0.0  # when the step was first seen
        self._follow(wall(), monotonic())

    def __call__(self) -> datetime:
        """Return the current time in UTC."""
        with self._lock:
            now_s, wall = self._monotonic(), self._wall()
            steady = self._base + timedelta(seconds=now_s - self._base_s)
            apart = wall - steady
            if abs(apart) > APART_MAX and not self._has_lasted(apart, now_s):
                return steady
            if abs(apart) > APART_MAX:
                log_event("clock_set", seconds=round(apart.total_seconds(), 3))
            self._follow(wall, now_s)
            return wall

    def _has_lasted(self, apart: timedelta, now_s: float) -> bool:
        if self._step is None or abs(apart - self._step) > APART_MAX:
            self._step, self._step_s = apart, now_s
        return now_s - self._step_s >= SETTLED_S

    def _follow(self, wall: datetime, now_s: float) -> None:
        self._base, self._base_s, self._step = wall, now_s, None
