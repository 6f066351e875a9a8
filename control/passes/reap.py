"""One pass: end every machine that has no live attempt: stop it or destroy it, repeatedly until it is gone.

Only machines with our own owner id are in the ledger. Machines of others must never be touched.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy
from sqlalchemy import Executable, func
from sqlmodel import and_, col, or_, select

from control.context import AppContext
from control.domain import states
from control.domain.states import AttemptState
from control.store import machines
from control.store.due import has_come
from control.store.prepared import Moment, Prepared, Row
from control.store.tables import Attempt, Machine
from control.telemetry.log import log_event, log_failure
from infra import ports
from infra.ports import OutsideError, Unanswered

EXIT_GRACE = timedelta(seconds=10)  # a runner that has finished exits by itself
STOP_GRACE = timedelta(seconds=5)  # a cancelled one may report until then
ASK_AGAIN_AFTER = timedelta(seconds=10)  # a delete may be accepted and done much later
GRACE_MAX = max(EXIT_GRACE, STOP_GRACE, ASK_AGAIN_AFTER)

_MADE_FOR = and_(col(Attempt.id) == col(Machine.attempt_id))


def reap(context: AppContext) -> None:
    """Stop and destroy what is due. A machine whose call is refused does not delay the others.

    After a call without an answer the rest waits for the next round, where that machine comes last: such a
    call may take FLY_TIMEOUT_S, and the other passes wait too.
    """
    now = context.clock()
    for machine in context.views.rows(_unwanted):
        if not context.cloud.is_known(machine.app):
            continue
        try:
            _end(context, machine, now)
        except OutsideError as error:
            log_failure("machine_not_ended", error, machine_id=machine.id, attempt_id=machine.attempt_id)
            if isinstance(error, Unanswered):
                return


@Prepared
def _unwanted(_: Moment) -> Executable:
    """Return the machines not known to be gone that no live attempt owns, each with its attempt if any.

    The owner is the machine that claimed the attempt. Before the claim every machine of the attempt may be
    it.
    """
    has_none, has_ended = col(Attempt.id).is_(None), col(Attempt.state).not_in(states.LIVE)
    has_another = col(Attempt.claimed_by) != col(Machine.id)
    columns: list[Any] = [
        Machine,
        col(Attempt.state).label("attempt_state"),
        col(Attempt.claimed_by),
        col(Attempt.ended_at).label("attempt_ended_at"),
    ]
    alive = sqlalchemy.select(*columns).outerjoin_from(Machine, Attempt, _MADE_FOR)
    unwanted = alive.where(col(Machine.gone_at).is_(None), or_(has_none, has_ended, has_another))
    asked_at = func.coalesce(Machine.destroy_asked_at, Machine.stop_asked_at)
    return unwanted.order_by(asked_at.is_not(None), asked_at)


def held(context: AppContext) -> list[tuple[Machine, Attempt | None]]:
    """Return our machines that are not known to be gone, each with its attempt, as the ledger has them."""
    alive = select(Machine, Attempt).outerjoin(Attempt, _MADE_FOR).where(col(Machine.gone_at).is_(None))
    with context.views.session() as session:
        rows = session.exec(alive.order_by(col(Machine.created_at), col(Machine.id))).all()
        return [(machine, attempt) for machine, attempt in rows]


def destroy_orphans(context: AppContext, *, dry_run: bool) -> list[ports.Machine]:
    """Destroy our machines that belong to no attempt, and return them. Raises OutsideError.

    Each app is listed once: machines that Fly shows now are destroyed, not those of the ledger.
    """
    owner = {"owner": context.store.owner_id}
    seen = [
        m for app in context.settings.runner_apps for m in context.machines.list(app, owner) if not m.is_gone
    ]
    with context.views.session() as session:
        orphans = [m for m in seen if session.get(Attempt, m.metadata.get("attempt", "")) is None]
    for machine in orphans:
        if not dry_run:
            context.machines.destroy(machine.app, machine.id)
    return orphans


def _end(context: AppContext, machine: Row, now: datetime) -> None:
    if machine.attempt_state == AttemptState.CANCELLED and machine.stop_asked_at is None:
        machines.ask_to_stop(context.store, machine.app, machine.id)
        context.machines.stop(machine.app, machine.id, timeout_s=STOP_GRACE.total_seconds())
    elif has_come(_destroy_at(machine, now), now, longest=GRACE_MAX):
        machines.ask_to_destroy(context.store, machine.app, machine.id)
        log_event("machine_destroyed", machine_id=machine.id, attempt_id=machine.attempt_id)
        context.machines.destroy(machine.app, machine.id)


def _destroy_at(machine: Row, now: datetime) -> datetime:
    """Return the instant from which the machine is to be destroyed."""
    at: datetime = now
    if machine.destroy_asked_at is not None:
        at = machine.destroy_asked_at + ASK_AGAIN_AFTER
    elif machine.stop_asked_at is not None:
        at = machine.stop_asked_at + STOP_GRACE
    elif machine.attempt_state in (AttemptState.SUCCEEDED, AttemptState.FAILED):  # it has reported its end
        at = machine.attempt_ended_at + EXIT_GRACE
    return at
