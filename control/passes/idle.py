"""Whether any pass has something to do: one question in place of each pass's own, for the many ticks at rest.

It is asked of the rows, never remembered: a pass finds all by itself, after a crash too. Whatever state some
pass takes in must be asked for here.
"""

from __future__ import annotations

from sqlalchemy import or_
from sqlmodel import col, select

from control.context import Parts
from control.domain import states
from control.domain.states import JobStatus
from control.passes.observe import is_due
from control.store.tables import Attempt, Batch, Job, Machine

_LEFT = select(
    or_(
        select(Job.id).where(col(Job.status) == JobStatus.QUEUED).exists(),  # launch
        select(Attempt.id).where(col(Attempt.state).in_(states.LIVE)).exists(),  # launch, watch
        select(Machine.id).where(col(Machine.gone_at).is_(None)).exists(),  # observe, reap
        select(Batch.id).where(col(Batch.deleted_at).is_not(None)).exists(),  # forget
    )
)


def is_at_rest(parts: Parts) -> bool:
    """Tell whether no pass has anything to do, and no look at the cloud is due."""
    return not is_due(parts) and not _is_anything_left(parts)


def _is_anything_left(parts: Parts) -> bool:
    with parts.views.session() as session:
        return bool(session.scalar(_LEFT))
