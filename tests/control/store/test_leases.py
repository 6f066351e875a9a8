"""Leases and times of rows, on clocks that the test moves."""

from __future__ import annotations

from datetime import timedelta

from control.store.leases import Leases
from tests.support.fakes import Clock


class Claiming(set[str]):
    """Live attempts; while one is looked up, an API thread's claim adds the time of another row."""

    def __init__(self, leases: Leases, clock: Clock) -> None:
        super().__init__({"live"})
        self._leases, self._clock = leases, clock

    def __contains__(self, attempt_id: object) -> bool:
        self._leases.of_row(f"beside {attempt_id}", self._clock(), timedelta(hours=1))
        return super().__contains__(attempt_id)


def test_a_claim_while_ended_attempts_are_removed_disturbs_nothing() -> None:
    clock = Clock()
    leases = Leases(clock, lambda: 0.0)
    for attempt_id in ("live", "ended"):
        leases.extend(attempt_id, timedelta(seconds=9))
        leases.of_row(attempt_id, clock(), timedelta(hours=1))
    leases.keep_only(Claiming(leases, clock))
    assert {attempt_id for attempt_id, _ in leases._of_rows} == {"live", "beside live", "beside ended"}
    assert (leases.until("live"), len(leases)) == (9.0, 1)
