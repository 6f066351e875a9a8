"""One pass: end the attempts that are overdue, or whose machine has ended or is gone.

Works on rows alone, so deadlines hold while the cloud does not answer. Judges nothing before the barrier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy
from sqlalchemy.orm import Bundle
from sqlmodel import and_, col

from control import domain
from control.domain import AttemptState, Fact
from control.parts import Parts
from control.settings import Settings
from control.store import attempts, leases
from control.tables import Attempt, Machine
from runner.contract import Reason

Judgement = tuple[Fact, Reason, str]


def watch(parts: Parts) -> None:
    """Judge every live attempt."""
    if not parts.cloud.is_known:
        return
    live = _live(parts)
    parts.store.leases.keep_only({attempt.id for attempt, _ in live})
    amnesty = 2 * leases.length(parts.settings, leases.next_beat_s(parts.settings, len(live)))
    for attempt, machine in live:
        until = Until(lease=parts.store.leases.until(attempt), amnesty=parts.cloud.started_at + amnesty)
        if judgement := judge(attempt, machine, parts.clock(), until, parts.settings):
            fact, reason, detail = judgement
            seen = until.lease if fact is Fact.LEASE_EXPIRED else None
            attempts.end(parts.store, attempt.id, fact, reason, detail, lease_seen=seen)


@dataclass(frozen=True)
class Until:
    """How long an attempt may be silent."""

    lease: datetime | None
    amnesty: datetime  # runners could not reach control before its start, nor does it know who beat before


def judge(
    attempt: Attempt, machine: Machine | None, now: datetime, until: Until, settings: Settings
) -> Judgement | None:
    """Return the fact that ends a live attempt, with its reason and detail, or None while all is well.

    No lease and no boot counts as run out before the amnesty is over.
    """
    is_running = attempt.state == AttemptState.RUNNING
    if is_running and _is_past(attempt.run_until, now):
        return Fact.RUN_DEADLINE, Reason.RUN_DEADLINE, ""
    if machine is not None and (machine.exited_at or machine.gone_at):
        return _ended(machine)
    if is_running and _is_past(until.lease, now, until.amnesty):
        return Fact.LEASE_EXPIRED, Reason.LEASE_EXPIRED, ""
    boot_until = attempt.boot_from and attempt.boot_from + timedelta(seconds=settings.boot_timeout_s)
    if not is_running and _is_past(boot_until, now, until.amnesty):
        return Fact.BOOT_DEADLINE, Reason.BOOT_DEADLINE, ""
    return None


def _ended(machine: Machine) -> Judgement:
    reason = Reason.OUT_OF_MEMORY if machine.oom_killed else Reason.MACHINE_ENDED
    detail = (
        f"exit code {machine.exit_code}, signal {machine.exit_signal}" if machine.exited_at else "vanished"
    )
    return Fact.MACHINE_ENDED, reason, detail


def _is_past(deadline: datetime | None, now: datetime, at_least: datetime | None = None) -> bool:
    """Tell whether a deadline is over, `at_least` standing for one that was earlier."""
    if deadline is None:
        return False
    return max(deadline, at_least or deadline) < now


# As much of the rows as is judged: whole ones of a thousand attempts take a third of this second.
_ATTEMPT = Bundle[Any](
    "attempt",
    *(getattr(Attempt, name) for name in ("id", "state", "run_until", "lease_until", "boot_from")),
)
_MACHINE = Bundle[Any](
    "machine",
    *(getattr(Machine, name) for name in ("exited_at", "gone_at", "oom_killed", "exit_code", "exit_signal")),
)


def _live(parts: Parts) -> Sequence[tuple[Any, Any]]:
    """Return the live attempts, each with its machine, of which all is None while it has none."""
    own = and_(col(Machine.app) == col(Attempt.app), col(Machine.id) == col(Attempt.machine_id))
    live = sqlalchemy.select(_ATTEMPT, _MACHINE).outerjoin(Machine, own)
    with parts.views.session() as session:
        rows = session.execute(live.where(col(Attempt.state).in_(domain.LIVE)))
        return [(attempt, machine) for attempt, machine in rows]
