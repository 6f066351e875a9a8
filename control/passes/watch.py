"""One pass: end the attempts that are overdue, or whose machine has ended or is gone.

Works on rows alone, so deadlines apply while the cloud does not answer. Must not judge an attempt before its
app is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from math import inf

import sqlalchemy
from sqlalchemy import Executable
from sqlmodel import and_, col

from control.context import AppContext
from control.domain import states
from control.domain.states import AttemptState, Trigger
from control.planning import boots
from control.store import attempts, leases
from control.store.prepared import Moment, Prepared, Row
from control.store.tables import Attempt, Machine
from runner.contract import Reason

Judgement = tuple[Trigger, Reason, str]
LEARN_EVERY_S = 60.0


def recall(context: AppContext) -> None:
    """Note the deadlines of all live attempts on the monotonic clock: once, as soon as control starts.

    Until then a step of the wall clock would move them.
    """
    _deadlines(context)


def watch(context: AppContext) -> None:
    """Judge every live attempt."""
    for attempt, heard, until in _deadlines(context):
        if not context.cloud.is_known(attempt.app):
            continue
        if judgement := judge(attempt, context.store.monotonic(), until):
            trigger, reason, detail = judgement
            seen = heard if trigger is Trigger.LEASE_EXPIRED else None
            attempts.end(context.store, attempt.id, trigger, reason, detail, lease_seen=seen)


def _deadlines(context: AppContext) -> Sequence[tuple[Row, float, Until]]:
    """Return the live attempts, each with the end of its lease by heartbeats, and its deadlines."""
    live = context.views.rows(_live)
    boot_s = _boot_s(context) if live else context.settings.boot_timeout_s
    context.store.leases.keep_only({attempt.id for attempt in live})
    lease = leases.length(context.settings, leases.next_beat_s(context.settings, len(live)))
    found = []
    for attempt in live:
        heard = context.store.leases.until(attempt.id)
        boot = timedelta(seconds=boot_s if attempt.number == 1 else context.settings.boot_timeout_s)
        found.append((attempt, heard, _until(context, attempt, heard, lease, boot)))
    return found


def _boot_s(context: AppContext) -> float:
    """Return the boot deadline of a job's first attempt, which is learned again every LEARN_EVERY_S.

    Later attempts get BOOT_TIMEOUT_S, so slower boots are seen and learned.
    """
    now = context.store.monotonic()
    learned = context.cloud.boot_deadline
    if learned is None or now >= learned[1] + LEARN_EVERY_S:
        newest = context.views.rows(attempts.newest_boots, most=boots.SAMPLES_MAX)
        took_s = [max(0.0, (each.started_at - each.boot_from).total_seconds()) for each in newest]
        learned = boots.deadline_s(took_s, ceiling_s=context.settings.boot_timeout_s), now
        context.cloud.boot_deadline = learned
    return learned[0]


@dataclass(frozen=True)
class Until:
    """How long an attempt may continue, in seconds of the monotonic clock; None while nothing limits it."""

    boot: float | None
    run: float | None
    lease: float
    amnesty: (
        float  # runners could not reach control before its start, and it does not know their earlier beats
    )


def _until(context: AppContext, attempt: Row, heard: float, lease: timedelta, boot: timedelta) -> Until:
    settings, of_row = context.settings, context.store.leases.of_row
    run = timedelta(seconds=settings.run_timeout_s)
    asked_from = of_row(attempt.id, attempt.boot_from, timedelta(0))  # `boot` is learned anew now and then
    return Until(
        boot=None if asked_from is None else asked_from + boot.total_seconds(),
        run=of_row(attempt.id, attempt.run_until, run),
        lease=max(heard, of_row(attempt.id, attempt.lease_until, lease) or heard),
        amnesty=context.cloud.started_at + 2 * lease.total_seconds(),
    )


def judge(attempt: Row, now: float, until: Until) -> Judgement | None:
    """Return the trigger that ends an attempt of `_live`, with reason and detail, or None while all is well.

    No lease and no boot counts as overdue before the amnesty is over.
    """
    is_running = attempt.state == AttemptState.RUNNING
    if is_running and _is_past(until.run, now):
        return Trigger.RUN_DEADLINE, Reason.RUN_DEADLINE, ""
    if attempt.exited_at or attempt.gone_at:
        return _ended(attempt)
    if is_running and _is_past(until.lease, now, until.amnesty):
        return Trigger.LEASE_EXPIRED, Reason.LEASE_EXPIRED, ""
    if not is_running and _is_past(until.boot, now, until.amnesty):
        return Trigger.BOOT_DEADLINE, Reason.BOOT_DEADLINE, ""
    return None


def _ended(attempt: Row) -> Judgement:
    reason = Reason.OUT_OF_MEMORY if attempt.oom_killed else Reason.MACHINE_ENDED
    how = f"exit code {attempt.exit_code}, signal {attempt.exit_signal}"
    detail = how if attempt.exited_at else "vanished"
    return Trigger.MACHINE_ENDED, reason, detail


def _is_past(deadline: float | None, now: float, at_least: float = -inf) -> bool:
    """Return whether a deadline has passed; one before `at_least` counts as `at_least`."""
    if deadline is None:
        return False
    return max(deadline, at_least) < now


_JUDGED = ("id", "app", "number", "state", "run_until", "lease_until", "boot_from")  # of an attempt
_JUDGED_BY = ("exited_at", "gone_at", "oom_killed", "exit_code", "exit_signal")  # of its machine


@Prepared
def _live(_: Moment) -> Executable:
    """Return the live attempts, each with what is known of its machine: None while it has none."""
    own = and_(col(Machine.app) == col(Attempt.app), col(Machine.id) == col(Attempt.machine_id))
    judged = [getattr(Attempt, name) for name in _JUDGED] + [getattr(Machine, name) for name in _JUDGED_BY]
    live = sqlalchemy.select(*judged).outerjoin_from(Attempt, Machine, own)
    return live.where(col(Attempt.state).in_(states.LIVE))
