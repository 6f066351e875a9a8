"""How long running attempts may be silent. In memory: a beat that says nothing new costs no commit.

A row knows only the lease that its claim gave. What beats added is lost when control stops, and need not be
kept: after a start no lease counts as run out before an amnesty (`control/passes/watch.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from math import inf

from control.settings import Settings
from infra.ports import Clock

BEATS_PER_S_MAX = 20.0  # what control sits on is the smallest machine


def next_beat_s(settings: Settings, live: int) -> float:
    """Return how long a runner may be silent: so long that `live` together beat BEATS_PER_S_MAX at most."""
    return max(settings.heartbeat_s, live / BEATS_PER_S_MAX)


def length(settings: Settings, beat_s: float) -> timedelta:
    """Return the lease of a runner whose next beat is due so soon."""
    return timedelta(seconds=max(settings.lease_s, 4 * beat_s))


class Leases:
    """Of this process, in seconds of its monotonic clock: no step of the wall clock ends or prolongs one.

    May be used from any thread.
    """

    def __init__(self, clock: Clock, monotonic: Callable[[], float]) -> None:
        self._clock, self._monotonic = clock, monotonic
        self._until: dict[str, float] = {}
        self._of_rows: dict[tuple[str, datetime], float] = {}

    def __len__(self) -> int:
        """Return how many attempts have been heard since this process began, and may live."""
        return len(self._until)

    def extend(self, attempt_id: str, length: timedelta) -> None:
        """Let an attempt be silent for so long from now."""
        self._until[attempt_id] = self._monotonic() + length.total_seconds()

    def until(self, attempt_id: str) -> float:
        """Return when the lease of an attempt runs out; of one that this process has not heard, long ago."""
        return self._until.get(attempt_id, -inf)

    def of_row(self, attempt_id: str, at: datetime | None, longest: timedelta) -> float | None:
        """Return when an instant of an attempt's row comes: as it was when it was first asked for.

        None is further away than `longest`: it was written by a clock that was ahead.
        """
        if at is None:
            return None
        if (attempt_id, at) not in self._of_rows:
            left = min(at - self._clock(), longest)
            self._of_rows[attempt_id, at] = self._monotonic() + left.total_seconds()
        return self._of_rows[attempt_id, at]

    def keep_only(self, live: Collection[str]) -> None:
        """Forget the attempts that have ended."""
        for attempt_id in self._until.keys() - live:
            self._until.pop(attempt_id, None)
        for key in [key for key in self._of_rows if key[0] not in live]:
            del self._of_rows[key]
