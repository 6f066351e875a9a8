"""One pass: what has had its time goes, results and sources: first in the rows, then in the bucket.

Must never touch what lives, nor what somebody may still retry.
"""

from __future__ import annotations

from sqlmodel import col, select

from control.context import Parts
from control.domain.states import JobStatus
from control.passes.objects import PAGE, delete_of_job
from control.store import retention
from control.store.tables import Batch, Job, Source
from control.store.usage import has_files
from control.telemetry.log import record

JOBS_PER_PASS_MAX = 50


def expire(parts: Parts) -> None:
    """Expire what is due, evict what does not fit, and delete the files of both. Raises OutsideError."""
    while retention.expire_due(parts.store):
        pass
    retention.give_up_sources(parts.store)
    while retention.evict(parts.store):
        retention.give_up_sources(
            parts.store
        )  # what they make room for counts before the next one is evicted
    _delete_results(parts)
    _delete_sources(parts)


def _delete_results(parts: Parts) -> None:
    expired = (
        select(Job.id)
        .join(Batch)
        .where(
            has_files(),
            col(Batch.status) == JobStatus.EXPIRED,
            col(Batch.deleted_at).is_(None),
        )
    )
    with parts.views.session() as session:
        jobs = session.exec(expired.limit(JOBS_PER_PASS_MAX)).all()
    for job_id in jobs:
        delete_of_job(parts, job_id)
        retention.files_gone(parts.store, job_id)


def _delete_sources(parts: Parts) -> None:
    given_up = select(Source.id, Source.key).where(col(Source.deleted_at).is_not(None), col(Source.key) != "")
    with parts.views.session() as session:
        found = session.exec(given_up.limit(PAGE)).all()
    if found:
        parts.storage.delete_many([key for _, key in found])
        retention.source_gone(parts.store, [source_id for source_id, _ in found])
        record("sources_deleted", count=len(found))
