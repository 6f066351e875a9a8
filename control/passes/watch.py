"""One pass: end the attempts that are overdue, or whose machine has ended or is gone.

Works on rows alone, so deadlines hold while the cloud does not answer. Judges nothing before the barrier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import inf
from typing import Any

import sqlalchemy
from sqlalchemy.orm import Bundle
from sqlmodel import and_, col

from control.context import AppContext
from control.domain import states
from control.domain.states import AttemptState, Trigger
from control.store import attempts, leases
from control.store.tables import Attempt, Machine
from runner.contract import Reason

Judgement = tuple[Trigger, Reason, str]


def watch(context: AppContext) -> None:
    """Judge every live attempt."""
    live = _live(context)
    context.store.leases.keep_only({attempt.id for attempt, _ in live})
    lease = leases.length(context.settings, leases.next_beat_s(context.settings, len(live)))
    for attempt, machine in live:
        if not context.cloud.is_known(attempt.app):
            continue
        heard = context.store.leases.until(attempt.id)
        until = _until(context, attempt, heard, lease)
        if judgement := judge(attempt, machine, context.store.monotonic(), until):
            trigger, reason, detail = judgement
            attempts.end(context.store, attempt.id, trigger, reason, detail, lease_seen=heard)


@dataclass(frozen=True)
class Until:
    """How long an attempt may go on, in seconds of the monotonic clock; None while nothing bounds it."""

    boot: float | None
    run: float | None
    lease: float | None
    amnesty: float  # runners could not reach control before its start, nor does it know who beat before


def _until(context: AppContext, attempt: Attempt, heard: float | None, lease: timedelta) -> Until:
    settings, of_row = context.settings, context.store.leases.of_row
    boot, run = timedelta(seconds=settings.boot_timeout_s), timedelta(seconds=settings.run_timeout_s)
    return Until(
        boot=of_row(attempt.id, attempt.boot_from and attempt.boot_from + boot, boot),
        run=of_row(attempt.id, attempt.run_until, run),
        lease=heard or of_row(attempt.id, attempt.lease_until, lease),
        amnesty=context.cloud.started_at + 2 * lease.total_seconds(),
    )


def judge(attempt: Attempt, machine: Machine | None, now: float, until: Until) -> Judgement | None:
    """Return the fact that ends a live attempt, with its reason and detail, or None while all is well.

    No lease and no boot counts as run out before the amnesty is over.
    """
    is_running = attempt.state == AttemptState.RUNNING
    if is_running and _is_past(until.run, now):
        return Trigger.RUN_DEADLINE, Reason.RUN_DEADLINE, ""
    if machine is not None and (machine.exited_at or machine.gone_at):
        return _ended(machine)
    if is_running and _is_past(until.lease, now, until.amnesty):
        return Trigger.LEASE_EXPIRED, Reason.LEASE_EXPIRED, ""
    if not is_running and _is_past(until.boot, now, until.amnesty):
        return Trigger.BOOT_DEADLINE, Reason.BOOT_DEADLINE, ""
    return None


def _ended(machine: Machine) -> Judgement:
    reason = Reason.OUT_OF_MEMORY if machine.oom_killed else Reason.MACHINE_ENDED
    detail = (
        f"exit code {machine.exit_code}, signal {machine.exit_signal}" if machine.exited_at else "vanished"
    )
    return Trigger.MACHINE_ENDED, reason, detail


def _is_past(deadline: float | None, now: float, at_least: float = -inf) -> bool:
    """Tell whether a deadline is over, `at_least` standing for one that was earlier."""
    if deadline is None:
        return False
    return max(deadline, at_least) < now


# As much of the rows as is judged: whole ones of a thousand attempts take a third of this second.
_ATTEMPT = Bundle[Any](
    "attempt",
    *(getattr(Attempt, name) for name in ("id", "app", "state", "run_until", "lease_until", "boot_from")),
)
_MACHINE = Bundle[Any](
    "machine",
    *(getattr(Machine, name) for name in ("exited_at", "gone_at", "oom_killed", "exit_code", "exit_signal")),
)


def _live(context: AppContext) -> Sequence[tuple[Any, Any]]:
    """Return the live attempts, each with its machine, of which all is None while it has none."""
    own = and_(col(Machine.app) == col(Attempt.app), col(Machine.id) == col(Attempt.machine_id))
    live = sqlalchemy.select(_ATTEMPT, _MACHINE).outerjoin(Machine, own)
    with context.views.session() as session:
        rows = session.execute(live.where(col(Attempt.state).in_(states.LIVE)))
        return [(attempt, machine) for attempt, machine in rows]
