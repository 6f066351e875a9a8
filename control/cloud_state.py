"""What this process remembers about the cloud between two passes: whether it is known, and its problems.

Nothing here has to survive a restart: then the passes wait for two trusted observations before they act.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

TRUSTED_OBSERVATIONS = 2
FULL_FOR_S = 60.0  # for so long a region that was full is tried last


@dataclass
class Cloud:
    """Written by the passes, which run on one thread; read by the routes `ready` and `machines`.

    All times are on the monotonic clock, except `listed_at`, which clients see.
    """

    started_at: float  # of this process: leases that expired before get a grace period
    trusted: int = 0  # observations in which nothing was missing
    refused: str | None = None  # the message of Fly while it refuses our token
    silent: set[str] = field(default_factory=set)  # apps that did not answer the last observation
    observed_at: float | None = None  # the last observation, answered or not
    listed_at: dict[str, datetime] = field(default_factory=dict)  # by app: the last list in the ledger
    full_until: dict[str, float] = field(default_factory=dict)  # by region

    @property
    def is_known(self) -> bool:
        """True when enough is known about the live machines to launch, judge and destroy."""
        return self.trusted >= TRUSTED_OBSERVATIONS

    def seen_at(self, apps: Sequence[str]) -> datetime | None:
        """Return the time of the oldest list of these apps in the ledger, or None while one has no list."""
        return min(map(self.listed_at.__getitem__, apps)) if self.listed_at.keys() >= {*apps} else None

    def note_full(self, region: str, now: float) -> None:
        """Record that a create call was refused for lack of capacity; `region` was its first choice."""
        self.full_until[region] = now + FULL_FOR_S

    def has_room(self, regions: Sequence[str], now: float) -> bool:
        """Return whether at least one of the regions is not known to be full."""
        return any(self.full_until.get(region, now) <= now for region in regions)

    def in_order(self, regions: Sequence[str], now: float) -> tuple[str, ...]:
        """Return the regions in their order, with those that are known to be full moved to the end."""
        return tuple(sorted(regions, key=lambda region: max(now, self.full_until.get(region, now))))
