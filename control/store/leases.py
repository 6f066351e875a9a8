"""The leases of running attempts: each ends unless a heartbeat extends it.

They are in memory, so a heartbeat without news needs no commit.
The row holds only the lease that the claim gave. Extensions by heartbeats are lost when control stops. That
does no harm: after a start, no lease counts as expired before a grace period (`control/passes/watch.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from math import inf

from control.settings import Settings
from infra.ports import Clock

BEATS_PER_S_MAX = 20.0  # control runs on the smallest machine


def next_beat_s(settings: Settings, live: int) -> float:
    """Return the time between heartbeats, so that `live` runners together send at most BEATS_PER_S_MAX."""
    return max(settings.heartbeat_s, live / BEATS_PER_S_MAX)


def length(settings: Settings, beat_s: float) -> timedelta:
    """Return the length of a lease when the next heartbeat is due in `beat_s`."""
    return timedelta(seconds=max(settings.lease_s, 4 * beat_s))


class Leases:
    """All leases that this process knows. Safe to use from any thread.

    They are kept in seconds of the monotonic clock: a step of the wall clock neither ends nor extends one.
    """

    def __init__(self, clock: Clock, monotonic: Callable[[], float]) -> None:
        self._clock, self._monotonic = clock, monotonic
        self._until: dict[str, float] = {}
        self._of_rows: dict[tuple[str, datetime], float] = {}

    def __len__(self) -> int:
        """Return how many attempts have called since this process started and may still be live."""
        return len(self._until)

    def extend(self, attempt_id: str, length: timedelta) -> None:
        """Set the lease of an attempt to end `length` from now."""
        self._until[attempt_id] = self._monotonic() + length.total_seconds()

    def until(self, attempt_id: str) -> float:
        """Return when the lease of an attempt ends; long ago if it has not called this process yet."""
        return self._until.get(attempt_id, -inf)

    def of_row(self, attempt_id: str, at: datetime | None, longest: timedelta) -> float | None:
        """Return a time of an attempt's row on the monotonic clock, fixed at the first call.

        At most `longest` from then: a later time was written by a clock that was ahead.
        """
        if at is None:
            return None
        if (attempt_id, at) not in self._of_rows:
            left = min(at - self._clock(), longest)
            self._of_rows[attempt_id, at] = self._monotonic() + left.total_seconds()
        return self._of_rows[attempt_id, at]

    def keep_only(self, live: Collection[str]) -> None:
        """Remove the leases of all attempts except the live ones."""
        for attempt_id in self._until.keys() - live:
            self._until.pop(attempt_id, None)
        for key in list(self._of_rows):  # a copy: claims of other threads add to it
            if key[0] not in live:
                del self._of_rows[key]
