"""What this process remembers of the cloud between passes: whether it is known, and what is wrong with it.

Nothing here is needed after a restart: then the barrier is up again until two trusted observations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

TRUSTED_OBSERVATIONS = 2
FULL_FOR_S = 60.0  # so long a region that was full is asked last


@dataclass
class Cloud:
    """Written by the passes, which one thread runs; read by `ready` and by who asks for machines.

    Instants are of the monotonic clock, but for `listed_at`, which is shown.
    """

    started_at: float  # of this process: leases that ran out before get an amnesty
    trusted: int = 0  # observations of which nothing was missing
    refused: str | None = None  # Fly's words when it refuses our token
    silent: set[str] = field(default_factory=set)  # apps that did not answer when last looked at
    observed_at: float | None = None  # the last look, answered or not
    listed_at: dict[str, datetime] = field(default_factory=dict)  # by app: the last list that the ledger has
    full_until: dict[str, float] = field(default_factory=dict)  # by region

    @property
    def is_known(self) -> bool:
        """True once the barrier is down: what lives is known well enough to launch, judge and destroy."""
        return self.trusted >= TRUSTED_OBSERVATIONS

    def seen_at(self, apps: Sequence[str]) -> datetime | None:
        """Return how old the ledger's view of these apps is at most, or None while one was never seen."""
        return min(map(self.listed_at.__getitem__, apps)) if self.listed_at.keys() >= {*apps} else None

    def note_full(self, region: str, now: float) -> None:
        """Note that a create was refused for want of room, of which this was the first region."""
        self.full_until[region] = now + FULL_FOR_S

    def has_room(self, regions: Sequence[str], now: float) -> bool:
        """Tell whether one of the regions is not known to be full."""
        return any(self.full_until.get(region, now) <= now for region in regions)

    def in_order(self, regions: Sequence[str], now: float) -> tuple[str, ...]:
        """Return the regions as they are listed, but those that are known to be full at the end."""
        return tuple(sorted(regions, key=lambda region: max(now, self.full_until.get(region, now))))
