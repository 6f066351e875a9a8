"""When files go: expired results and sources, deleted batches, objects without a row, abandoned uploads.

Four passes. `expire` and `forget` delete what rows mark as expired or deleted; `forget` waits until no
machine can still write a file of the batch, appear late after a create without an answer, or finish a PUT
that was under way. `sweep` deletes old objects that no row names. `abandon` aborts uploads that their clients
have left, and multipart uploads in the bucket that no row knows (after a crash, or with a database from a
backup); it also forgets users' URLs that nothing needs, and rows that are older than HISTORY_DAYS.

Must never delete what is not under this control's own prefix, what belongs to a live attempt or can still be
retried, or an object that is younger than any result may become. After a crash the next run continues.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from sqlalchemy import ColumnElement, Executable
from sqlmodel import Session, and_, col, or_, select

from control.context import AppContext
from control.domain import states
from control.domain.states import AttemptState, JobStatus
from control.store import changes, retention
from control.store.alive import may_appear
from control.store.due import is_within
from control.store.files import named_by
from control.store.prepared import Moment, Prepared
from control.store.rows import jobs_of
from control.store.tables import Attempt, Batch, Job, Machine, Meta, Output, Source, Upload
from control.store.usage import has_files
from control.telemetry.log import log_event, log_failure
from control.uploads.service import UPLOAD_LIFE, discard
from infra.ports import ListedObject, Refused

JOBS_PER_PASS_MAX = 50


def expire(context: AppContext) -> None:
    """Expire what is due, evict what does not fit, and delete the files of both. Raises OutsideError."""
    while retention.expire_due(context.store):
        pass
    retention.give_up_sources(context.store)
    while retention.evict(context.store):
        retention.give_up_sources(context.store)  # the room that this makes counts before the next eviction
    _delete_results(context)
    _delete_sources(context)


def _delete_results(context: AppContext) -> None:
    for (job_id,) in context.views.rows(_expired_with_files):
        delete_of_job(context, job_id)
        retention.files_gone(context.store, job_id)


@Prepared
def _expired_with_files(_: Moment) -> Executable:
    is_expired = col(Batch.status) == JobStatus.EXPIRED
    expired = select(Job.id).join(Batch).where(has_files(), is_expired, col(Batch.deleted_at).is_(None))
    return expired.limit(JOBS_PER_PASS_MAX)


def _delete_sources(context: AppContext) -> None:
    if found := context.views.rows(_given_up):
        context.storage.delete_many([key for _, key in found])
        retention.source_gone(context.store, [source_id for source_id, _ in found])
        log_event("sources_deleted", count=len(found))


@Prepared
def _given_up(_: Moment) -> Executable:
    given_up = select(Source.id, Source.key).where(col(Source.deleted_at).is_not(None), col(Source.key) != "")
    return given_up.limit(PAGE)


BATCHES_AT_ONCE, FORGET_S = 20, 10.0  # the pass runs every two seconds
LATE_PUT_S = 60  # a PUT in progress when its machine ended may complete within this time


def forget(context: AppContext) -> None:
    """Remove deleted batches whose machines are gone, for up to FORGET_S. Raises OutsideError."""
    until = context.store.monotonic() + FORGET_S
    for (batch_id,) in context.views.rows(_ready_to_go):
        with context.views.session() as session:
            jobs = [job.id for job in jobs_of(session, [batch_id])]
        for job_id in jobs:
            delete_of_job(context, job_id)
        changes.remove_rows(context.store, batch_id)
        if context.store.monotonic() > until:
            return


@Prepared
def _ready_to_go(now: Moment) -> Executable:
    alive = (
        select(Job.batch_id)
        .join(Attempt, col(Attempt.job_id) == col(Job.id))
        .outerjoin(Machine, col(Machine.attempt_id) == col(Attempt.id))
        .where(or_(_may_store(now), may_appear(now)))
    )
    deleted = select(Batch.id).where(col(Batch.deleted_at).is_not(None), col(Batch.id).not_in(alive))
    return deleted.limit(BATCHES_AT_ONCE)


def _may_store(now: Moment) -> ColumnElement[bool]:
    """Return the SQL condition on a machine of an attempt: an object of it may still come to the bucket."""
    ended_badly = col(Attempt.state) != AttemptState.SUCCEEDED
    late = and_(ended_badly, is_within(Machine.gone_at, now, timedelta(seconds=LATE_PUT_S)))
    return and_(col(Machine.id).is_not(None), or_(col(Machine.gone_at).is_(None), late))


MARGIN = timedelta(hours=24)


def sweep(context: AppContext) -> None:
    """Check the next page of the bucket; after the last page start again. Raises OutsideError."""
    with context.views.session() as session:
        meta = session.get(Meta, retention.SWEPT)
    owner_id, after = context.store.owner_id, meta.value if meta else ""
    page = context.storage.list_objects(f"{owner_id}/", after=after, limit=PAGE)
    too_old = context.clock() - timedelta(hours=context.settings.retention_hours) - MARGIN
    old = [found.key for found in page if found.modified_at < too_old]
    with context.views.session() as session:
        orphans = sorted(set(old) - _known(session, owner_id, old))
    context.storage.delete_many(orphans)
    if orphans:
        log_event("orphan_objects_deleted", count=len(orphans))
    until = page[-1].key if len(page) == PAGE else ""
    if until != after:
        retention.swept(context.store, until)


def _known(session: Session, owner_id: str, keys: Sequence[str]) -> set[str]:
    """Return those of the keys that a row names, or that a live attempt may still report."""
    sources = session.exec(select(Source.key).where(col(Source.key).in_(keys))).all()
    opened = select(Upload.key).where(col(Upload.key).in_(keys), col(Upload.state) == "open")
    prefix = outputs_prefix(owner_id)
    makers = {key: key.removeprefix(prefix).split("/")[0] for key in keys if key.startswith(prefix)}
    made = session.exec(select(Output).where(col(Output.attempt_id).in_(set(makers.values())))).all()
    alive = select(Attempt.id).where(
        col(Attempt.id).in_(set(makers.values())), col(Attempt.state).in_(states.LIVE)
    )
    live = set(session.exec(alive).all())
    return {
        *sources,
        *session.exec(opened).all(),
        *(key for output in made for key in named_by(output)),
        *(key for key, attempt_id in makers.items() if attempt_id in live),
    }


AT_ONCE_MAX = 100  # the other passes wait while this one runs


def abandon(context: AppContext) -> None:
    """Abort at most AT_ONCE_MAX of each kind; the next run continues. Raises Unanswered, and stops there."""
    retention.forget_ended(context.store)
    retention.end_history(context.store)
    retention.give_back(context.store)
    for upload in _stale(context):
        try:
            discard(context, upload)
        except Refused as refused:  # must not delay the others
            log_failure("upload_not_discarded", refused, upload_id=upload.id)
    _abort_unknown(context)


def _stale(context: AppContext) -> list[Upload]:
    stale = select(Upload).where(col(Upload.state) == "open", col(Upload.expires_at) <= context.clock())
    with context.views.session() as session:
        return list(session.exec(stale.order_by(col(Upload.expires_at)).limit(AT_ONCE_MAX)).all())


def _abort_unknown(context: AppContext) -> None:
    """Abort what has been open in the bucket for longer than any upload lives, and has no open row."""
    with context.views.session() as session:
        known = set(session.exec(select(Upload.key).where(col(Upload.state) == "open")).all())
    old = context.clock() - UPLOAD_LIFE
    found = context.storage.list_multiparts(f"{context.store.owner_id}/")
    unknown = [upload for upload in found if upload.key not in known and upload.started_at <= old]
    for upload in unknown[:AT_ONCE_MAX]:
        context.storage.abort_multipart(upload.key, upload.multipart_id)


PAGE = 1000  # the most that the bucket lists or deletes in one call


def outputs_prefix(owner_id: str) -> str:
    """Return where this control's outputs are; the next part of a key is the attempt's id."""
    return f"{owner_id}/outputs/"


def listed_of_job(context: AppContext, job_id: str) -> Iterator[ListedObject]:
    """Yield all that any attempt of the job has stored, reported or not. Raises OutsideError."""
    prefix = f"{outputs_prefix(context.store.owner_id)}{job_id}-"
    page = context.storage.list_objects(prefix)
    while page:
        yield from page
        page = context.storage.list_objects(prefix, after=page[-1].key) if len(page) == PAGE else ()


def delete_of_job(context: AppContext, job_id: str) -> None:
    """Delete all that any attempt of the job has stored, reported or not. Raises OutsideError: call again."""
    delete(context, [found.key for found in listed_of_job(context, job_id)])


def delete(context: AppContext, keys: Sequence[str]) -> None:
    """Delete any number of objects. Raises OutsideError when some may be left."""
    for start in range(0, len(keys), PAGE):
        context.storage.delete_many(keys[start : start + PAGE])
