"""One pass: remove the files and then the rows of batches that a user has deleted.

Waits until no machine can still write a file of them, nor turn up unseen after a create without an answer,
nor a PUT be under way of one that was ended in the middle.
A crash in between leaves the rest to the next pass.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlmodel import Session, and_, col, or_, select

from control.context import Parts
from control.domain.states import GHOST_S, AttemptState
from control.passes.objects import delete_of_job
from control.store import changes
from control.store.due import is_within
from control.store.tables import Attempt, Batch, Job, Machine

LATE_PUT_S = 60  # what a machine was storing when it ended may be stored for so long after


def forget(parts: Parts) -> None:
    """Remove one deleted batch, if there is one whose machines are gone."""
    with parts.views.session() as session:
        batch_id = _ready_to_go(session, parts.clock())
        jobs = session.exec(select(Job.id).where(col(Job.batch_id) == batch_id)).all() if batch_id else ()
    if batch_id is None:
        return
    for job_id in jobs:
        delete_of_job(parts, job_id)
    changes.remove_rows(parts.store, batch_id)


def _ready_to_go(session: Session, now: datetime) -> str | None:
    ended_badly = col(Attempt.state) != AttemptState.SUCCEEDED
    late = and_(ended_badly, is_within(Machine.gone_at, now, timedelta(seconds=LATE_PUT_S)))
    lives = and_(col(Machine.id).is_not(None), or_(col(Machine.gone_at).is_(None), late))
    alive = (
        select(Job.batch_id)
        .join(Attempt, col(Attempt.job_id) == col(Job.id))
        .outerjoin(Machine, col(Machine.attempt_id) == col(Attempt.id))
        .where(or_(lives, is_within(Attempt.asked_at, now, timedelta(seconds=GHOST_S))))
    )
    deleted = select(Batch.id).where(col(Batch.deleted_at).is_not(None), col(Batch.id).not_in(alive))
    return session.exec(deleted.limit(1)).first()
