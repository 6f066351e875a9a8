"""One pass: count what a job has in the bucket besides its outputs, and delete it once nothing can need it.

S3 cannot sign a maximum size of a PUT, so a compromised runner can store more than it reports. What it stores
counts against the cap while its attempt lives, and is deleted after the attempt's end.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import ColumnElement, or_
from sqlmodel import col, select

from control.context import AppContext
from control.domain import states
from control.passes.retention import delete, listed_of_job
from control.settings import URL_MARGIN_S
from control.store import retention
from control.store.tables import Attempt, Job
from control.telemetry.log import log_event

EVERY_S = 60.0
LOOKS = 3  # after an attempt's end, and after the end of its URLs; `sweep` deletes later objects


def weigh(context: AppContext) -> None:
    """Check what the attempts that can store something have stored. Raises OutsideError.

    Only what is not as it was at the last look is written: with many jobs a transaction for each would have
    the beats of all runners wait.
    """
    with context.views.session() as session:
        claimed = select(Attempt.job_id, Job.stray_bytes).join(Job)
        claimed = claimed.where(col(Attempt.claimed_by).is_not(None), _may_have_stored(context))
        jobs = session.exec(claimed.distinct()).all()
    for job_id, known_bytes in jobs:
        found = {each.key: each.size_bytes for each in listed_of_job(context, job_id)}
        if _is_as_known(context, job_id, known_bytes, found):
            continue
        useless = retention.weigh(context.store, job_id, found)
        delete(context, useless)
        if useless:
            log_event("stray_objects_deleted", count=len(useless), job_id=job_id)


def _is_as_known(context: AppContext, job_id: str, known_bytes: int, found: Mapping[str, int]) -> bool:
    if not found:
        return not known_bytes
    with context.views.session() as session:
        return retention.strays(session, job_id, found) == (known_bytes, [])


def _may_have_stored(context: AppContext) -> ColumnElement[bool]:
    urls_live = timedelta(seconds=context.settings.run_timeout_s + URL_MARGIN_S)
    return or_(
        col(Attempt.state).in_(states.LIVE), *(_ended(context, ago) for ago in (timedelta(0), urls_live))
    )


def _ended(context: AppContext, ago: timedelta) -> ColumnElement[bool]:
    until = context.clock() - ago
    return col(Attempt.ended_at).between(until - timedelta(seconds=LOOKS * EVERY_S), until)
