"""How long running attempts may be silent. In memory: a beat that says nothing new costs no commit.

A row knows only the lease that its claim gave. What beats added is lost when control stops, and need not be
kept: after a start no lease counts as run out before an amnesty (`control/watch.py`).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from control.settings import Settings
from control.tables import Attempt

BEATS_PER_S_MAX = 20.0  # what control sits on is the smallest machine


def next_beat_s(settings: Settings, live: int) -> float:
    """Return how long a runner may be silent: so long that `live` together beat BEATS_PER_S_MAX at most."""
    return max(settings.heartbeat_s, live / BEATS_PER_S_MAX)


def length(settings: Settings, beat_s: float) -> timedelta:
    """Return the lease of a runner whose next beat is due so soon."""
    return timedelta(seconds=max(settings.lease_s, 4 * beat_s))


class Leases:
    """Of this process. May be used from any thread."""

    def __init__(self) -> None:
        self._until: dict[str, datetime] = {}

    def __len__(self) -> int:
        """Return how many attempts have been heard since this process began, and may live."""
        return len(self._until)

    def extend(self, attempt_id: str, until: datetime) -> None:
        """Let an attempt be silent until then."""
        self._until[attempt_id] = until

    def until(self, attempt: Attempt) -> datetime | None:
        """Return when an attempt's lease runs out, or None if nobody has claimed it."""
        return max(filter(None, (attempt.lease_until, self._until.get(attempt.id))), default=None)

    def keep_only(self, live: Collection[str]) -> None:
        """Forget the attempts that have ended."""
        for attempt_id in self._until.keys() - live:
            self._until.pop(attempt_id, None)
