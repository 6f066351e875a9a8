"""One pass: list our machines and write what the list shows into the ledger.

Absence from a list is never evidence. An observation of an app is trusted when every machine not known to be
gone was in the list, or was found by a GET of its own. After a start an app counts as known only after some
trusted observations of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence, Set

from sqlalchemy import Executable, bindparam
from sqlmodel import col, select, union

from control.cloud_state import PROBE_AFTER_S
from control.context import AppContext
from control.domain.states import LIVE
from control.store import machines
from control.store.alive import is_unseen
from control.store.prepared import Moment, Prepared, Row
from control.store.tables import Attempt, Machine
from control.telemetry.log import log_failure
from infra.ports import OutsideError, Refusal, Refused, Unanswered

EVERY_ACTIVE_S = 2.0  # Fly allows one list a second; a slot is free when it is seen to be
EVERY_IDLE_S = 60.0
EVERY_UNKNOWN_S = 1.0  # while an app is not known
IDS_PER_QUERY_MAX = 500  # lists show destroyed machines for a time that Fly does not document


def observe(context: AppContext) -> None:
    """If it is due, list the machines of every app that may hold one of ours. Each app is judged alone."""
    cloud, in_use = context.cloud, _apps_in_use(context)
    if not is_due(context, in_use):
        return
    cloud.observed_at, cloud.is_asked_for = context.store.monotonic(), False
    for app in sorted({*context.settings.runner_apps, *in_use}):
        cloud.trusted[app] += _observe(context, app)


def is_due(context: AppContext, in_use: Collection[str] = ()) -> bool:
    """Return whether an observation of the cloud is due while these apps hold machines of ours."""
    looked_at = context.cloud.observed_at
    return looked_at is None or context.store.monotonic() >= looked_at + _pace_s(context, in_use)


def ask_for(context: AppContext) -> None:
    """Have the cloud observed soon, as while anything runs: somebody looks at the machines."""
    context.cloud.is_asked_for = True
    context.wake()


def _pace_s(context: AppContext, in_use: Collection[str]) -> float:
    if not context.cloud.are_known({*context.settings.runner_apps, *in_use}):
        return EVERY_UNKNOWN_S
    if in_use or context.cloud.silent or context.cloud.is_asked_for:
        return EVERY_ACTIVE_S
    return PROBE_AFTER_S if context.cloud.is_token_refused else EVERY_IDLE_S


def _apps_in_use(context: AppContext) -> Collection[str]:
    """Return the apps that hold something of ours, also those that the settings no longer name."""
    return [app for (app,) in context.views.rows(_in_use)]


@Prepared
def _in_use(_: Moment) -> Executable:
    held = select(Machine.app).where(col(Machine.gone_at).is_(None))
    asked = select(Attempt.app).where(col(Attempt.state).in_(LIVE))
    return union(held, asked)


def _observe(context: AppContext, app: str) -> bool:
    """List one app; return whether all of its machines are accounted for."""
    try:
        seen = {
            machine.id: machine for machine in context.machines.list(app, {"owner": context.store.owner_id})
        }
        _note_accepted(context, app)
        context.cloud.silent.discard(app)
        known = _known(context, app, seen.keys())
        since = machines.kept_since(context.settings, context.clock())
        news = [each for each in seen.values() if machines.is_news(known.get(each.id), each, since=since)]
        machines.observe(context.store, news)
        context.cloud.listed_at[app] = context.clock()
        _meet_runners(context, app, seen.keys())
        return _ask_after(context, [row for row in known.values() if row.id not in seen])
    except OutsideError as error:
        if isinstance(error, Refused) and error.refusal is Refusal.UNAUTHORIZED:
            context.cloud.block(app, error.refusal, error.message, context.store.monotonic())
        if _is_silence(error):
            context.cloud.silent.add(app)
        log_failure("observation_failed", error, app=app)
        return False


def _note_accepted(context: AppContext, app: str) -> None:
    """Forget that the token was refused, unless that was a moment ago: a create may need more rights."""
    blocked = context.cloud.blocked.get(app)
    if blocked and blocked.refusal is Refusal.UNAUTHORIZED and context.store.monotonic() >= blocked.probe_at:
        del context.cloud.blocked[app]


def _is_silence(error: OutsideError) -> bool:
    """Return whether there was no answer. That an app does not exist is an answer."""
    return not isinstance(error, Refused) or error.refusal is Refusal.UNREACHABLE


def _known(context: AppContext, app: str, seen: Set[str]) -> dict[str, Row]:
    """Return the rows of an app's machines that are shown now, or not known to be gone."""
    known = {row.id: row for row in context.views.rows(_not_gone, app=app)}
    for ids in _in_batches(sorted(seen - known.keys()), IDS_PER_QUERY_MAX):
        known |= {row.id: row for row in context.views.rows(_with_ids, app=app, ids=ids)}
    return known


@Prepared
def _not_gone(_: Moment) -> Executable:
    return select(Machine).where(col(Machine.app) == bindparam("app"), col(Machine.gone_at).is_(None))


@Prepared
def _with_ids(_: Moment) -> Executable:
    has_id = col(Machine.id).in_(bindparam("ids", expanding=True))
    return select(Machine).where(col(Machine.app) == bindparam("app"), has_id)


def _in_batches(ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (ids[start : start + size] for start in range(0, len(ids), size))


def _meet_runners(context: AppContext, app: str, seen: Set[str]) -> None:
    """GET each machine whose runner has called and that no list has shown yet, so that the ledger has it.

    A runner says itself which machine it is, so only the machine of its own attempt is believed. A GET that
    is not answered ends the round: the next one may take as long, and the other passes wait. The next round
    begins after that machine.
    """
    unlisted = sorted(context.views.rows(_unlisted, app=app), key=lambda row: row.id <= context.cloud.unmet)
    for row in unlisted:
        if row.claimed_by in seen or not row.claimed_by.isalnum():  # as all ids of Fly are
            continue
        try:
            machine = context.machines.get(app, row.claimed_by)
        except OutsideError as error:
            log_failure("observation_failed", error, app=app, machine_id=row.claimed_by)
            if isinstance(error, Unanswered):
                context.cloud.unmet = row.id
                return
            continue
        its = {"owner": context.store.owner_id, "attempt": row.id}
        if machine is not None and its.items() <= machine.metadata.items():
            machines.observe(context.store, [machine])


@Prepared
def _unlisted(now: Moment) -> Executable:
    has_called = col(Attempt.app) == bindparam("app"), col(Attempt.claimed_by).is_not(None)
    unlisted = select(col(Attempt.id), col(Attempt.claimed_by)).where(*has_called, is_unseen(now))
    return unlisted.order_by(col(Attempt.id))


def _ask_after(context: AppContext, missing: Sequence[Row]) -> bool:
    """GET each machine that the list lacks; return whether all are now accounted for."""
    settled = True
    for row in missing:
        machine = context.machines.get(row.app, row.id)
        if machine is not None:
            machines.observe(context.store, [machine])
        else:
            settled = machines.miss(context.store, row.app, row.id) and settled
    return settled
