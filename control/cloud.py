"""What this process remembers of the cloud between passes: whether it is known, and what is wrong with it.

Nothing here is needed after a restart: then the barrier is up again until two trusted observations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

TRUSTED_OBSERVATIONS = 2


@dataclass
class Cloud:
    """Written by the passes, which one thread runs; read by `ready`."""

    started_at: datetime  # of this process: leases that ran out before get an amnesty
    trusted: int = 0  # observations of which nothing was missing
    refused: str | None = None  # Fly's words when it refuses our token
    silent: set[str] = field(default_factory=set)  # apps that did not answer when last looked at
    observed_at: datetime | None = None  # the last look, answered or not

    @property
    def is_known(self) -> bool:
        """True once the barrier is down: what lives is known well enough to launch, judge and destroy."""
        return self.trusted >= TRUSTED_OBSERVATIONS
