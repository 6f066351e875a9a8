"""One pass: judge live attempts by their deadlines and by what the cloud shows, and destroy strays.

The cloud is looked at first and the database second, so every machine seen already has its row.
Absence from a list is never evidence; a machine without a live attempt is destroyed only if it is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlmodel import col, or_, select

from control import domain
from control.domain import AttemptState, Fact
from control.log import failure, record
from control.parts import Parts
from control.settings import Settings
from control.store import attempts
from control.tables import Attempt
from infra.ports import Machine, OutsideError
from runner.contract import Reason

EXIT_GRACE = timedelta(seconds=10)  # a runner that has finished needs a moment to exit by itself
LOOK_BACK = timedelta(hours=1)  # strays of attempts that ended longer ago have been dealt with

Judgement = tuple[Fact, Reason, str]


def watch(parts: Parts) -> None:
    """Look at the cloud, then at the rows; end what is overdue or gone, destroy what should be."""
    if not (apps := _apps_in_use(parts)):
        return
    seen = _machines(parts, apps)
    rows = {attempt.id: attempt for attempt in _recent_attempts(parts)}
    machines = {machine.metadata.get("attempt", ""): machine for machine in seen}
    now = parts.clock()
    for attempt in rows.values():
        _act(parts, attempt, judge(attempt, machines.get(attempt.id), now, parts.settings))
    for machine in seen:
        if is_stray(machine, rows.get(machine.metadata.get("attempt", "")), now):
            record("stray_destroyed", machine_id=machine.id, attempt_id=machine.metadata.get("attempt"))
            parts.machines.destroy(machine.app, machine.id)


def _machines(parts: Parts, apps: Sequence[str]) -> list[Machine]:
    """Return our machines; none when the cloud does not answer, since deadlines hold without it."""
    try:
        return [m for app in apps for m in parts.machines.list(app, {"owner": parts.store.owner_id})]
    except OutsideError as error:
        failure("machines_unseen", error)
        return []


def judge(attempt: Attempt, machine: Machine | None, now: datetime, settings: Settings) -> Judgement | None:
    """Return the fact that ends a live attempt, with its reason and detail, or None while all is well."""
    if attempt.state not in domain.LIVE:
        return None
    if attempt.state == AttemptState.RUNNING and attempt.run_until and attempt.run_until < now:
        return Fact.RUN_DEADLINE, Reason.RUN_DEADLINE, ""
    if machine is not None and machine.exit is not None and machine.id == attempt.machine_id:
        code = machine.exit.exit_code
        reason = Reason.OUT_OF_MEMORY if machine.exit.oom_killed else Reason.MACHINE_ENDED
        return Fact.MACHINE_ENDED, reason, f"exit code {code}, signal {machine.exit.signal}"
    if attempt.state == AttemptState.RUNNING and attempt.lease_until and attempt.lease_until < now:
        return Fact.LEASE_EXPIRED, Reason.LEASE_EXPIRED, ""
    boot_until = (attempt.boot_from or now) + timedelta(seconds=settings.boot_timeout_s)
    if attempt.state != AttemptState.RUNNING and boot_until < now:
        return Fact.BOOT_DEADLINE, Reason.BOOT_DEADLINE, ""
    return None


def is_stray(machine: Machine, attempt: Attempt | None, now: datetime) -> bool:
    """Tell whether a machine of ours should be destroyed: no live attempt, and time to exit by itself."""
    if machine.is_gone or machine.state == "destroying":
        return False
    if attempt is None:
        return True
    return attempt.ended_at is not None and attempt.ended_at + EXIT_GRACE < now


def _act(parts: Parts, attempt: Attempt, judgement: Judgement | None) -> None:
    if judgement is not None:
        fact, reason, detail = judgement
        lease_seen = attempt.lease_until if fact is Fact.LEASE_EXPIRED else None
        attempts.end(parts.store, attempt.id, fact, reason, detail, lease_seen=lease_seen)


def _recent_attempts(parts: Parts) -> Sequence[Attempt]:
    recent = or_(col(Attempt.state).in_(domain.LIVE), col(Attempt.ended_at) > parts.clock() - LOOK_BACK)
    with parts.views.session() as session:
        return session.exec(select(Attempt).where(recent)).all()


def _apps_in_use(parts: Parts) -> list[str]:
    return sorted({attempt.app for attempt in _recent_attempts(parts)})
