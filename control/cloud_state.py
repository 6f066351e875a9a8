"""The memory of this process about the cloud between passes: which apps are known, and their problems.

Nothing here is needed after a restart: then no app is known until two trusted observations of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from infra.ports import Refusal

TRUSTED_OBSERVATIONS = 2
FULL_FOR_S = 60.0  # a region that was full is asked last for this long
LIMIT_FOR_S = 300.0  # no more machines are started than the organisation had at its limit, for this long
PROBE_AFTER_S = 30.0  # after a refusal a new attempt may try the app again after this time


@dataclass(frozen=True)
class Blocked:
    """Why Fly makes no machine in an app until an operator acts."""

    refusal: Refusal
    message: str  # Fly's words
    probe_at: float  # on the monotonic clock


@dataclass
class Cloud:
    """Written by the passes, which one thread runs; routes read it, and set `is_asked_for`.

    Each app is judged alone. Instants are on the monotonic clock, except `listed_at`, which is shown to
    users.
    """

    started_at: float  # of this process: leases that ran out before get an amnesty
    trusted: Counter[str] = field(
        default_factory=Counter
    )  # by app: observations in which nothing was missing
    blocked: dict[str, Blocked] = field(default_factory=dict)  # by app
    silent: set[str] = field(default_factory=set)  # apps that did not answer when last observed
    observed_at: float | None = None  # the last observation, answered or not
    unmet: str = ""  # the attempt about whose machine Fly was last asked without an answer
    is_asked_for: bool = False  # set by routes, as somebody looks: an observation is due though all is idle
    listed_at: dict[str, datetime] = field(default_factory=dict)  # by app: the last list that the ledger has
    full_until: dict[str, float] = field(default_factory=dict)  # by region
    limit: tuple[int, float] | None = None  # machines that the organisation may have, and until when it holds
    is_explained: bool = True  # queued jobs may say that an operator must act
    refused_since: dict[str, float] = field(default_factory=dict)  # by attempt: refused for an unknown reason
    image_missing_since: dict[str, float] = field(default_factory=dict)  # by image
    rules_wrong: str | None = None  # what is wrong with the bucket's CORS rule
    boot_deadline: tuple[float, float] | None = None  # in seconds as learned, and when it was

    def is_known(self, app: str) -> bool:
        """Return whether the app's machines are known well enough to launch, judge and destroy.

        An app that refuses our token can hide nothing that we could act on, so it does not have to be seen.
        """
        return self.trusted[app] >= TRUSTED_OBSERVATIONS or self.refusal_of(app) is Refusal.UNAUTHORIZED

    def are_known(self, apps: Collection[str]) -> bool:
        """Return whether all of these apps are known."""
        return all(map(self.is_known, apps))

    @property
    def is_token_refused(self) -> bool:
        """True while an app refuses our token. Safe to use from any thread."""
        return any(blocked.refusal is Refusal.UNAUTHORIZED for blocked in list(self.blocked.values()))

    def refusal_of(self, app: str) -> Refusal | None:
        """Return why Fly makes no machine in the app, or None when nothing is known to prevent it."""
        blocked = self.blocked.get(app)
        return blocked.refusal if blocked else None

    def block(self, app: str, refusal: Refusal, message: str, now: float) -> None:
        """Record that Fly refused the app, until an operator acts."""
        self.blocked[app] = Blocked(refusal, message, now + PROBE_AFTER_S)

    def may_start(self, app: str, now: float) -> bool:
        """Return whether a new attempt may use the app: it is known, and not blocked (or due again).

        An app that has refused our token is listed first: a machine of ours may have come meanwhile.
        """
        blocked = self.blocked.get(app)
        if blocked is None:
            return self.is_known(app)
        return self.is_known(app) and blocked.refusal is not Refusal.UNAUTHORIZED and blocked.probe_at <= now

    def seen_at(self, apps: Sequence[str]) -> datetime | None:
        """Return how old the ledger's view of these apps is at most, or None while one was never listed."""
        return min(map(self.listed_at.__getitem__, apps)) if self.listed_at.keys() >= {*apps} else None

    def note_full(self, region: str, now: float) -> None:
        """Record that a create was refused for lack of capacity, with this as its first region."""
        self.full_until[region] = now + FULL_FOR_S

    def has_room(self, regions: Sequence[str], now: float) -> bool:
        """Return whether at least one of the regions is not known to be full."""
        return any(self.full_until.get(region, now) <= now for region in regions)

    def in_order(self, regions: Sequence[str], now: float) -> tuple[str, ...]:
        """Return the regions in their order, but those that are known to be full at the end."""
        return tuple(sorted(regions, key=lambda region: max(now, self.full_until.get(region, now))))

    def note_limit(self, machines: int, now: float) -> None:
        """Record that the organisation may have no more machines while it has this many of ours."""
        self.limit = max(1, machines), now + LIMIT_FOR_S

    def machines_max(self, configured: int, now: float) -> int:
        """Return how many machines may live: as configured, or fewer while the organisation's limit holds."""
        return configured if self.limit is None or self.limit[1] <= now else min(configured, self.limit[0])

    def keep_only(self, attempts: Collection[str]) -> None:
        """Forget the attempts that are no longer launching."""
        self.refused_since = {id_: at for id_, at in self.refused_since.items() if id_ in attempts}
