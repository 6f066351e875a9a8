"""Limits on spending: how long a machine may live on the money that is left. PURE.

A reserve is the most that one machine can cost. It holds because the machine ends by itself after its wall
deadline and its outputs cannot be larger than their cap. No machine is launched without a reserve that fits
into every budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from control.planning import prices

SLACK_S = 10.0  # from the machine start to the process start, and from the deadline to the exit
ROOM_S, ROOM = 10.0, 2.0  # an estimate may be wrong: extra time that is granted if the money is enough
LEAST_S = 5.0  # a machine with less time cannot even claim its job
USEFUL_S = 60.0  # a longer job is not started with less time than this from its batch's own budget


@dataclass(frozen=True, kw_only=True)
class CostEstimate:
    """The remaining work of a job: likely machine seconds, and the largest possible size of its outputs."""

    size: str
    region: str  # the most expensive one in which the machine may start
    seconds: float
    bytes_max: float
    outputs: int

    def reserve_usd(self, wall_s: float) -> float:
        """Return the most that a machine can cost that ends by itself after `wall_s`."""
        return self._machine_usd(wall_s + SLACK_S) + self._others_usd

    def pays_s(self, usd: float) -> float:
        """Return the wall deadline whose reserve is `usd`; negative when `usd` is too little for a start."""
        return (usd - self._others_usd) / self._machine_usd(1) - SLACK_S

    def _machine_usd(self, seconds: float) -> float:
        return prices.machine_usd(size=self.size, region=self.region, seconds=seconds)

    @property
    def _others_usd(self) -> float:
        egress_usd = prices.egress_usd(region=self.region, size_bytes=self.bytes_max)
        return egress_usd + prices.requests_usd(outputs=self.outputs)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A cap and the used part of it. `sharers` is the number of jobs that wait for the rest."""

    name: str  # for people
    cap_usd: float
    spent_usd: float  # by machines that are gone
    reserved_usd: float  # for machines that live or may live
    sharers: int = 1
    is_own: bool = False  # the budget of one batch: it is never refilled

    @property
    def left_usd(self) -> float:
        """The amount that can still be reserved."""
        return self.cap_usd - self.spent_usd - self.reserved_usd


class InsufficientBudget(Exception):
    """A budget has too little left. `for_good`: waiting does not help."""

    def __init__(self, budget: Budget, *, for_good: bool) -> None:
        super().__init__(budget.name)
        self.budget, self.for_good = budget, for_good


def wall_s(estimate: CostEstimate, budgets: Sequence[Budget], *, limit_s: float) -> float:
    """Return the wall deadline of a machine: the limit, or less if the remaining money is not enough for it.

    Raises InsufficientBudget.
    """
    return min((_granted(estimate, budget, limit_s) for budget in budgets), default=limit_s)


def least_s(estimate: CostEstimate, limit_s: float, *, is_own: bool) -> float:
    """Return the shortest useful wall deadline. The last money of a batch may pay for a part of the work."""
    return min(limit_s, max(LEAST_S, min(estimate.seconds, USEFUL_S) if is_own else estimate.seconds))


def _granted(estimate: CostEstimate, budget: Budget, limit_s: float) -> float:
    wanted_s = min(limit_s, ROOM * estimate.seconds + ROOM_S)
    left_s = estimate.pays_s(budget.left_usd)
    if left_s >= wanted_s:
        share_s = estimate.pays_s(budget.left_usd / max(1, budget.sharers))
        return min(limit_s, max(wanted_s, share_s))
    can_wait = budget.reserved_usd > 0 or (not budget.is_own and estimate.pays_s(budget.cap_usd) >= wanted_s)
    if not can_wait and left_s >= least_s(estimate, limit_s, is_own=budget.is_own):
        return left_s
    raise InsufficientBudget(budget, for_good=budget.is_own and not budget.reserved_usd > 0)
