"""What may be spent: how long a machine may live on the money that is left. PURE.

A reserve bounds what one machine can cost, whatever it does: it ends by itself after its wall deadline, and
its outputs cannot be larger than their cap. Nothing is launched without one that fits every purse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from control.planning import prices

SLACK_S = 10.0  # from the start of the machine to that of its process, and from the deadline to its exit
ROOM_S, ROOM = 10.0, 2.0  # an estimate may be wrong: so much more time is given if the money pays for it
LEAST_S = 5.0  # a machine that cannot even claim is of no use
USEFUL_S = 60.0  # of a longer job's own money: with less there is no point to start


@dataclass(frozen=True, kw_only=True)
class CostEstimate:
    """What a job has left to do: a machine's likely seconds, and what its outputs amount to at most."""

    size: str
    region: str  # the dearest in which the machine may come up
    seconds: float
    bytes_max: float
    outputs: int

    def reserve_usd(self, wall_s: float) -> float:
        """Return what a machine that ends by itself after `wall_s` costs at most."""
        return self._machine_usd(wall_s + SLACK_S) + self._others_usd

    def pays_s(self, usd: float) -> float:
        """Return the wall deadline whose reserve is `usd`; below zero when it does not pay for a start."""
        return (usd - self._others_usd) / self._machine_usd(1) - SLACK_S

    def _machine_usd(self, seconds: float) -> float:
        return prices.machine_usd(size=self.size, region=self.region, seconds=seconds)

    @property
    def _others_usd(self) -> float:
        egress_usd = prices.egress_usd(region=self.region, size_bytes=self.bytes_max)
        return egress_usd + prices.requests_usd(outputs=self.outputs)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A cap, and what is gone of it. `sharers` are the jobs that wait for what is left."""

    name: str  # for people
    cap_usd: float
    spent_usd: float  # by machines that are gone
    reserved_usd: float  # for machines that live or may live
    sharers: int = 1
    is_own: bool = False  # of one batch: nothing ever comes in

    @property
    def left_usd(self) -> float:
        """What may still be set aside."""
        return self.cap_usd - self.spent_usd - self.reserved_usd


class InsufficientBudget(Exception):
    """A purse has too little. `for_good` when waiting does not help."""

    def __init__(self, budget: Budget, *, for_good: bool) -> None:
        super().__init__(budget.name)
        self.budget, self.for_good = budget, for_good


def wall_s(estimate: CostEstimate, budgets: Sequence[Budget], *, limit_s: float) -> float:
    """Return a machine's wall deadline: the limit, or what the money left pays for.

    Raises InsufficientBudget.
    """
    return min((_granted(estimate, budget, limit_s) for budget in budgets), default=limit_s)


def least_s(estimate: CostEstimate, limit_s: float, *, is_own: bool) -> float:
    """Return the shortest wall deadline that makes sense; a batch's own last money may pay for a part."""
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
