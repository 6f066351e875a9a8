"""One pass: end every machine that has no live attempt: stop it or destroy it, repeatedly until it is gone.

Only machines with our own owner id are in the ledger. Machines of others must never be touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlmodel import and_, col, or_, select

from control.context import AppContext
from control.domain import states
from control.domain.states import AttemptState
from control.store import machines
from control.store.due import has_come
from control.store.tables import Attempt, Machine
from control.telemetry.log import log_event, log_failure
from infra import ports
from infra.ports import OutsideError

EXIT_GRACE = timedelta(seconds=10)  # a runner that has finished exits by itself
STOP_GRACE = timedelta(seconds=5)  # a cancelled one may report until then
ASK_AGAIN_AFTER = timedelta(seconds=10)  # a delete may be accepted and done much later
GRACE_MAX = max(EXIT_GRACE, STOP_GRACE, ASK_AGAIN_AFTER)

_MADE_FOR = and_(col(Attempt.id) == col(Machine.attempt_id))


def reap(context: AppContext) -> None:
    """Stop and destroy what is due. A machine that cannot be destroyed now does not delay the others."""
    now = context.clock()
    for machine, attempt in _unwanted(context):
        if not context.cloud.is_known(machine.app):
            continue
        try:
            _end(context, machine, attempt, now)
        except OutsideError as error:
            log_failure("machine_not_ended", error, machine_id=machine.id, attempt_id=machine.attempt_id)


def _unwanted(context: AppContext) -> Sequence[tuple[Machine, Attempt | None]]:
    """Return the machines not known to be gone that no live attempt owns, each with its attempt if any.

    The owner is the machine that claimed the attempt. Before the claim every machine of the attempt may be
    it.
    """
    alive = select(Machine, Attempt).outerjoin(Attempt, _MADE_FOR).where(col(Machine.gone_at).is_(None))
    has_none, has_ended = col(Attempt.id).is_(None), col(Attempt.state).not_in(states.LIVE)
    has_another = col(Attempt.claimed_by) != col(Machine.id)
    with context.views.session() as session:
        rows = session.exec(alive.where(or_(has_none, has_ended, has_another))).all()
        return [(machine, attempt) for machine, attempt in rows]


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


def _end(context: AppContext, machine: Machine, attempt: Attempt | None, now: datetime) -> None:
    if attempt is not None and attempt.state == AttemptState.CANCELLED and machine.stop_asked_at is None:
        machines.ask_to_stop(context.store, machine.app, machine.id)
        context.machines.stop(machine.app, machine.id, timeout_s=STOP_GRACE.total_seconds())
    elif has_come(_destroy_at(machine, attempt, now), now, longest=GRACE_MAX):
        machines.ask_to_destroy(context.store, machine.app, machine.id)
        log_event("machine_destroyed", machine_id=machine.id, attempt_id=machine.attempt_id)
        context.machines.destroy(machine.app, machine.id)


def _destroy_at(machine: Machine, attempt: Attempt | None, now: datetime) -> datetime:
    """Return the instant from which the machine is to be destroyed."""
    if machine.destroy_asked_at is not None:
        return machine.destroy_asked_at + ASK_AGAIN_AFTER
    if machine.stop_asked_at is not None:
        return machine.stop_asked_at + STOP_GRACE
    reported = (AttemptState.SUCCEEDED, AttemptState.FAILED)
    if attempt is not None and attempt.state in reported and attempt.ended_at is not None:
        return attempt.ended_at + EXIT_GRACE
    return now
