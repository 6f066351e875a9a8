"""One pass: look at the cloud and write what it shows into the ledger. Absence from a list is never evidence.

An observation is trusted when every machine not known to be gone was in a list, or answered to a GET of its
own; only trusted ones lower the barrier after a start.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlmodel import col, or_, select, union

from control.context import AppContext
from control.domain.states import LIVE
from control.store import machines
from control.store.tables import Attempt, Machine
from control.telemetry.log import log_failure
from infra.ports import OutsideError, Refusal, Refused

EVERY_ACTIVE_S = 2.0  # Fly allows one list a second; a slot is free when it is seen to be
EVERY_IDLE_S = 60.0
EVERY_UNKNOWN_S = 1.0  # while the barrier is up


def observe(context: AppContext) -> None:
    """If it is time, look at every app that may hold a machine of ours: one that is away hides no other."""
    cloud, in_use = context.cloud, _apps_in_use(context)
    if not is_due(context, in_use):
        return
    cloud.observed_at = context.store.monotonic()
    answers = [_observe(context, app) for app in sorted({*context.settings.runner_apps, *in_use})]
    if all(answers):
        cloud.trusted += 1


def is_due(context: AppContext, in_use: Collection[str] = ()) -> bool:
    """Tell whether it is time for a look at the cloud while these apps hold something of ours."""
    looked_at = context.cloud.observed_at
    return looked_at is None or context.store.monotonic() >= looked_at + _pace_s(context, in_use)


def _pace_s(context: AppContext, in_use: Collection[str]) -> float:
    if not context.cloud.is_known:
        return EVERY_UNKNOWN_S
    return EVERY_ACTIVE_S if in_use or context.cloud.silent else EVERY_IDLE_S


def _apps_in_use(context: AppContext) -> Collection[str]:
    """Return the apps that hold something of ours, those from before the settings changed too."""
    held = select(Machine.app).where(col(Machine.gone_at).is_(None))
    asked = select(Attempt.app).where(col(Attempt.state).in_(LIVE))
    with context.views.session() as session:
        return session.scalars(union(held, asked)).all()


def _observe(context: AppContext, app: str) -> bool:
    """Look at one app; return whether all of its machines are accounted for."""
    try:
        seen = {
            machine.id: machine for machine in context.machines.list(app, {"owner": context.store.owner_id})
        }
        context.cloud.refused = None
        context.cloud.silent.discard(app)
        known = _known(context, app, seen)
        news = [machine for machine in seen.values() if machines.is_news(known.get(machine.id), machine)]
        machines.observe(context.store, news)
        context.cloud.listed_at[app] = context.clock()
        return _ask_after(context, [row for row in known.values() if row.id not in seen])
    except OutsideError as error:
        is_refused = isinstance(error, Refused) and error.refusal is Refusal.UNAUTHORIZED
        context.cloud.refused = error.message if is_refused else context.cloud.refused
        if _is_silence(error):
            context.cloud.silent.add(app)
        log_failure("cloud_unseen", error, app=app)
        return False


def _is_silence(error: OutsideError) -> bool:
    """Tell whether nobody answered: an app that is not there is an answer."""
    return not isinstance(error, Refused) or error.refusal is Refusal.UNREACHABLE


def _known(context: AppContext, app: str, seen: Collection[str]) -> dict[str, Machine]:
    """Return the rows of an app's machines that are shown now, or not known to be gone."""
    shown_or_alive = or_(col(Machine.gone_at).is_(None), col(Machine.id).in_(seen))
    with context.views.session() as session:
        rows = session.exec(select(Machine).where(col(Machine.app) == app, shown_or_alive)).all()
        return {row.id: row for row in rows}


def _ask_after(context: AppContext, missing: Sequence[Machine]) -> bool:
    """Ask for each machine that a list lacks; return whether each is accounted for by now."""
    settled = True
    for row in missing:
        machine = context.machines.get(row.app, row.id)
        if machine is not None:
            machines.observe(context.store, [machine])
        else:
            settled = machines.miss(context.store, row.app, row.id) and settled
    return settled
