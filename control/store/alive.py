"""Counts the machines that are alive or may be: what MAX_MACHINES limits.

A machine may exist that no list shows, and the answer to a create call can be lost: so attempts count too.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Executable, and_, bindparam, func, or_
from sqlmodel import Session, col, select

from control.domain import states
from control.domain.states import UNKNOWN_CREATE_TTL_S, AttemptState
from control.store.due import is_within
from control.store.prepared import Moment, Prepared
from control.store.tables import Attempt, Machine
from control.store.transaction import Transaction


def possibly_alive(tx: Transaction) -> int:
    """Return how many machines are alive or may be alive: what MAX_MACHINES limits.

    Counted are the machines that the ledger does not show as gone, live attempts without a machine, and
    attempts with an unanswered create call for as long as a machine of it may still appear. The last count
    even if an earlier machine of the attempt has come and gone.
    """
    [(alive,)] = tx.rows(_possibly_alive)
    return int(alive)


@Prepared
def _possibly_alive(now: Moment) -> Executable:
    return select(count_possibly_alive(now))


def known_alive(session: Session) -> int:
    """Return how many machines the ledger does not know to be gone."""
    return session.exec(select(func.count()).select_from(Machine).where(col(Machine.gone_at).is_(None))).one()


def count_possibly_alive(now: datetime | Moment) -> ColumnElement[int]:
    known = select(func.count()).select_from(Machine).where(col(Machine.gone_at).is_(None))
    unseen = select(func.count()).select_from(Attempt).where(is_unseen(now))
    return known.scalar_subquery() + unseen.scalar_subquery()


def is_unseen(now: datetime | Moment) -> ColumnElement[bool]:
    """Return the SQL condition on an attempt: it may have a machine that the ledger does not show."""
    has_machine = select(Machine.id).where(_is_own_live_machine()).exists()
    return and_(or_(col(Attempt.state).in_(states.LIVE), may_appear(now)), ~has_machine)


def may_appear(now: datetime | Moment) -> ColumnElement[bool]:
    """Return the SQL condition on an attempt: a machine of it may come to light, also once it has ended.

    An unanswered create call may still make one. Or one has called, whose create's answer could not be stored
    for longer than that, and the ledger does not have it yet.
    """
    soon = timedelta(seconds=UNKNOWN_CREATE_TTL_S)
    its = col(Machine.app) == col(Attempt.app), col(Machine.id) == col(Attempt.claimed_by)
    is_listed = select(Machine.id).where(*its).correlate(Attempt).exists()
    is_lately = is_within(Attempt.ended_at, now, soon)
    has_called = and_(is_lately, col(Attempt.asked_at).is_not(None), col(Attempt.claimed_by).is_not(None))
    return or_(is_within(Attempt.asked_at, now, soon), and_(has_called, ~is_listed))


def count_others(now: Moment) -> ColumnElement[int]:
    """Return the SQL count of machines that are or may be alive, besides those of the attempt `attempt_id`.

    Attempts that wait for their first create have none, so they do not hold each other up.
    """
    is_other = or_(col(Machine.attempt_id).is_(None), col(Machine.attempt_id) != bindparam("attempt_id"))
    known = select(func.count()).select_from(Machine).where(col(Machine.gone_at).is_(None), is_other)
    is_asked = or_(
        col(Attempt.state) != AttemptState.LAUNCHING,
        col(Attempt.boot_from).is_not(None),
        may_appear(now),
    )
    unseen = select(func.count()).select_from(Attempt).where(is_unseen(now), is_asked)
    unseen = unseen.where(col(Attempt.id) != bindparam("attempt_id")).correlate(None)
    return known.correlate(None).scalar_subquery() + unseen.scalar_subquery()


def _is_own_live_machine() -> ColumnElement[bool]:
    """Return the SQL condition on a machine and an attempt: the machine is the attempt's and not gone."""
    return and_(col(Machine.attempt_id) == col(Attempt.id), col(Machine.gone_at).is_(None))
