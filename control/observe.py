"""One pass: look at the cloud and write what it shows into the ledger. Absence from a list is never evidence.

An observation is trusted when every machine not known to be gone was in a list, or answered to a GET of its
own; only trusted ones lower the barrier after a start.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta

from sqlmodel import col, select

from control.domain import LIVE
from control.log import failure
from control.parts import Parts
from control.store import ledger
from control.tables import Attempt, Machine
from infra.ports import OutsideError, Refusal, Refused

EVERY_ACTIVE = timedelta(seconds=2)  # Fly allows one list a second; a slot is free when it is seen to be
EVERY_IDLE = timedelta(seconds=60)
EVERY_UNKNOWN = timedelta(seconds=1)  # while the barrier is up


def observe(parts: Parts) -> None:
    """If it is time, look at every app that may hold a machine of ours: one that is away hides no other."""
    now, cloud = parts.clock(), parts.cloud
    if cloud.observed_at is not None and now < cloud.observed_at + _pace(parts):
        return
    cloud.observed_at = now
    answers = [_observe(parts, app) for app in _apps(parts)]
    if all(answers):
        cloud.trusted += 1


def _pace(parts: Parts) -> timedelta:
    if not parts.cloud.is_known:
        return EVERY_UNKNOWN
    with parts.views.session() as session:
        machine = session.exec(select(Machine.id).where(col(Machine.gone_at).is_(None)).limit(1)).first()
        attempt = session.exec(select(Attempt.id).where(col(Attempt.state).in_(LIVE)).limit(1)).first()
    return EVERY_ACTIVE if machine or attempt else EVERY_IDLE


def _observe(parts: Parts, app: str) -> bool:
    """Look at one app; return whether all of its machines are accounted for."""
    try:
        seen = parts.machines.list(app, {"owner": parts.store.owner_id})
        ledger.observe(parts.store, seen)
        parts.cloud.refused = None
        return _ask_after(parts, _missing(parts, app, {machine.id for machine in seen}))
    except OutsideError as error:
        is_refused = isinstance(error, Refused) and error.refusal is Refusal.UNAUTHORIZED
        parts.cloud.refused = error.message if is_refused else parts.cloud.refused
        failure("cloud_unseen", error, app=app)
        return False


def _ask_after(parts: Parts, missing: Sequence[Machine]) -> bool:
    """Ask for each machine that a list lacks; return whether each is accounted for by now."""
    settled = True
    for row in missing:
        machine = parts.machines.get(row.app, row.id)
        if machine is not None:
            ledger.observe(parts.store, [machine])
        else:
            settled = ledger.miss(parts.store, row.app, row.id) and settled
    return settled


def _missing(parts: Parts, app: str, seen: Collection[str]) -> list[Machine]:
    alive = select(Machine).where(col(Machine.app) == app, col(Machine.gone_at).is_(None))
    with parts.views.session() as session:
        return [row for row in session.exec(alive).all() if row.id not in seen]


def _apps(parts: Parts) -> list[str]:
    """Return the apps of the settings, and those that still hold something from before they changed."""
    with parts.views.session() as session:
        held = session.exec(select(Machine.app).where(col(Machine.gone_at).is_(None)).distinct()).all()
        asked = session.exec(select(Attempt.app).where(col(Attempt.ended_at).is_(None)).distinct()).all()
    return sorted({*parts.settings.runner_apps, *held, *asked})
