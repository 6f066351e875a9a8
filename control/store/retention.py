"""Decides what is removed: results that expire or are evicted, sources and URLs that are no longer needed.

A row first says that a file must be deleted and at last that it is gone. So if control stops in between, the
next pass finds the rest. One file, since each of these rules depends on the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Executable, bindparam
from sqlalchemy.orm import aliased
from sqlmodel import Session, and_, col, delete, or_, select, update
from sqlmodel.sql.expression import SelectOfScalar

from control.domain import states
from control.domain.states import JobStatus, OutputState
from control.store import database, machines
from control.store.files import named_by
from control.store.prepared import Moment, Prepared
from control.store.rows import jobs_of
from control.store.session import load
from control.store.tables import (
    Arguments,
    Attempt,
    Batch,
    Delivery,
    Job,
    Machine,
    Meta,
    Output,
    Source,
    Upload,
)
from control.store.transaction import Store, Transaction
from control.store.usage import SPARE, has_files, holdings, is_used, sources_of

UNUSED_LIFE = timedelta(hours=24)
EXPIRED_AT_ONCE_MAX = 20
SOURCES_AT_ONCE_MAX = 500
URLS_AT_ONCE_MAX = 1000
ROWS_AT_ONCE_MAX = 1000
SWEPT = "swept_until"


def expire_due(store: Store) -> bool:
    """Mark the batches whose retention has ended as expired. Return whether more may be due."""
    with store.transaction() as tx:
        batches = tx.session.load(Batch, _due, tx.now)
        for batch in batches:
            _expire(tx, batch)
        return len(batches) == EXPIRED_AT_ONCE_MAX


@Prepared
def _due(now: Moment) -> Executable:
    due = _finished().where(col(Batch.expires_at) <= now).order_by(col(Batch.expires_at), col(Batch.id))
    return due.limit(EXPIRED_AT_ONCE_MAX)


def evict(store: Store) -> bool:
    """Expire the batch that ended first if STORAGE_CAP_BYTES is exceeded. Return whether one was expired.

    Live batches and batches that ended less than EVICT_GRACE_S ago stay. Files that are being deleted do not
    count. A failed batch that holds only sources can be evicted too.
    """
    with store.transaction() as tx:
        held = holdings(tx.session, tx.settings, tx.now)
        if held.live + held.kept + held.finished <= tx.settings.storage_cap_bytes:
            return False
        due = _finished().where(_had_its_grace(tx), _holds_something())
        batch = tx.session.exec(due.order_by(col(Batch.ended_at), col(Batch.id)).limit(1)).first()
        if batch is not None:
            _expire(tx, batch)
        return batch is not None


def _had_its_grace(tx: Transaction) -> ColumnElement[bool]:
    """Return the SQL condition on a batch: it ended at least EVICT_GRACE_S ago."""
    return col(Batch.ended_at) <= tx.now - timedelta(seconds=tx.settings.evict_grace_s)


def _holds_something() -> ColumnElement[bool]:
    """Return the SQL condition on an ended batch: expiring it frees space."""
    results = select(Job.id).where(col(Job.batch_id) == col(Batch.id), has_files()).correlate(Batch)
    sources = (
        select(Output.id)
        .join(Source)
        .where(
            col(Output.batch_id) == col(Batch.id),
            col(Source.key) != "",
            col(Source.deleted_at).is_(None),
            col(Source.id).not_in(sources_of(col(Batch.ended_at).is_(None))),
        )
        .correlate(Batch)
    )
    return results.exists() | sources.exists()


def _finished() -> SelectOfScalar[Batch]:
    return select(Batch).where(
        col(Batch.ended_at).is_not(None),
        col(Batch.status) != JobStatus.EXPIRED,
        col(Batch.deleted_at).is_(None),
    )


def _expire(tx: Transaction, batch: Batch) -> None:
    batch.expires_at = min(batch.expires_at or tx.now, tx.now)
    batch.share_sha256 = None
    for job in jobs_of(tx.session, [batch.id]):
        tx.set_job(job, JobStatus.EXPIRED)
    tx.set_batch(batch, JobStatus.EXPIRED)


def files_gone(store: Store, job_id: str) -> None:
    """Record that all files of an expired job are deleted. Its rows stay, except what only its ZIP shows."""
    with store.transaction() as tx:
        job = tx.session.get_one(Job, job_id)
        job.stored_bytes = job.stray_bytes = 0
        for output in tx.outputs(job_id):
            output.key = output.playlist = output.poster = output.arguments = output.ffmpeg_args = None
        tx.change(_remove_arguments, job_id=job_id)


@Prepared
def _remove_arguments(_: Moment) -> Executable:
    return delete(Arguments).where(col(Arguments.job_id) == bindparam("job_id"))


def weigh(store: Store, job_id: str, found: Mapping[str, int]) -> Sequence[str]:
    """Record the bytes that the bucket holds for a job beyond its outputs. Return the keys to delete.

    `found` are sizes by key, as for `strays`. The caller deletes the returned ones.
    """
    with store.transaction() as tx:
        stray_bytes, useless = strays(tx.session, job_id, found)
        job = tx.session.get(Job, job_id)
        if job is not None:
            job.stray_bytes = stray_bytes
        return useless


def strays(session: Session, job_id: str, found: Mapping[str, int]) -> tuple[int, Sequence[str]]:
    """Return the bytes of what may still be reported, and the keys that nothing can need any more.

    `found` are sizes by key; the last folder of a key is the attempt's id. A live attempt may still report
    its files, so they stay and count. Files of ended attempts can never be reported, and do not count.
    """
    outputs = load(session, Output, _of_job, job_id=job_id)
    others = found.keys() - {key for output in outputs for key in named_by(output)}
    mine = select(Attempt.id).where(col(Attempt.job_id) == job_id, col(Attempt.state).in_(states.LIVE))
    live = set(session.exec(mine).all()) if others else set()
    useless = {key for key in others if key.split("/")[-2] not in live}
    return sum(found[key] for key in others - useless), sorted(useless)


@Prepared
def _of_job(_: Moment) -> Executable:
    return select(Output).where(col(Output.job_id) == bindparam("job_id"))


def freeze(
    store: Store, table: type[Job | Batch], id_: str, ended_at: datetime, *, size_bytes: int, tag: str
) -> None:
    """Store size and ETag of the archive of a job or batch that ended at `ended_at`, unless retried since."""
    with store.transaction() as tx:
        row: Any = tx.session.get(table, id_)
        if row is not None and row.ended_at == ended_at:
            row.zip_bytes, row.zip_tag = size_bytes, tag


def give_up_sources(store: Store) -> None:
    """Mark the sources that no batch can need any more as deleted, in the transaction that checks this.

    A submit or retry that commits earlier keeps its sources; a later one gets source_gone.
    """
    with store.transaction() as tx:
        for source in tx.session.load(Source, _some_sources_due, tx.now):
            source.deleted_at = tx.now


@Prepared
def _some_sources_due(now: Moment) -> Executable:
    return sources_due(now).limit(SOURCES_AT_ONCE_MAX)


def sources_due(now: datetime | Moment) -> SelectOfScalar[Source]:
    """Return the query of the stored sources that no batch can need any more at the time `now`."""
    return select(Source).where(
        col(Source.deleted_at).is_(None),
        col(Source.key) != "",
        col(Source.id).not_in(sources_of(_needs_its_sources(now))),
        is_used() | (col(Source.created_at) <= now - UNUSED_LIFE),
    )


def _needs_its_sources(now: datetime | Moment) -> ColumnElement[bool]:
    """Return the SQL condition on a batch: it is live, became complete within SPARE, or may still be retried.

    Complete means that all outputs are ready. The row of an expired batch does not show that, so its outputs
    are queried.
    """
    any_output = aliased(Output)
    lacking = (
        select(any_output.id)
        .where(any_output.batch_id == Batch.id, any_output.state != OutputState.READY)
        .correlate(Batch)
    )
    is_expired = col(Batch.status) == JobStatus.EXPIRED
    is_whole = (col(Batch.status) == JobStatus.COMPLETED) & col(Batch.partial).is_(False)
    was_whole = is_whole | (is_expired & ~lacking.exists())
    may_be_retried = ~is_expired & ~is_whole & (col(Batch.expires_at) > now)
    ended_just_now = col(Batch.ended_at) > now - SPARE
    return col(Batch.ended_at).is_(None) | may_be_retried | (ended_just_now & was_whole)


def source_gone(store: Store, source_ids: Sequence[str]) -> None:
    """Record that the files of deleted sources are gone. Their rows stay, since outputs refer to them."""
    with store.transaction() as tx:
        tx.change(_source_gone, ids=list(source_ids))


@Prepared
def _source_gone(_: Moment) -> Executable:
    mine = col(Source.id).in_(bindparam("ids", expanding=True)) & col(Source.deleted_at).is_not(None)
    return update(Source).where(mine).values(key="")


def swept(store: Store, until: str) -> None:
    """Store the position that the sweep has reached."""
    with store.transaction() as tx:
        tx.session.merge(Meta(key=SWEPT, value=until))


def forget_ended(store: Store) -> None:
    """Remove the URLs of batches that have ended and cannot be retried.

    These are batches with all outputs ready, expired batches and deleted batches. A source by URL belongs to
    one batch; without its URL it counts as deleted.
    """
    with store.transaction() as tx:
        for source in tx.session.exec(urls_due(tx.now).limit(URLS_AT_ONCE_MAX)).unique().all():
            source.url, source.deleted_at = None, tx.now
        for delivery in tx.session.exec(deliveries_due(tx.now).limit(URLS_AT_ONCE_MAX)).all():
            tx.session.delete(delivery)


def urls_due(now: datetime) -> SelectOfScalar[Source]:
    """Return the query of the sources whose URL no retry can need any more at the time `now`."""
    return (
        select(Source)
        .join(Output)
        .join(Batch, col(Batch.id) == col(Output.batch_id))
        .where(col(Source.url).is_not(None), _is_over_for_good(now))
    )


def deliveries_due(now: datetime) -> SelectOfScalar[Delivery]:
    """Return the query of the deliveries that no retry can make any more at the time `now`."""
    return select(Delivery).join(Batch).where(_is_over_for_good(now))


def _is_over_for_good(now: datetime) -> ColumnElement[bool]:
    """Return the SQL condition on a batch: no retry of it can make anything at the time `now`.

    It is asked of few batches: to look at the outputs of all would take seconds with a long history.
    """
    any_output, its_source = aliased(Output), aliased(Source)
    unready = (
        select(any_output.id)
        .join(its_source, col(its_source.id) == col(any_output.source_id))
        .where(
            col(any_output.batch_id) == col(Batch.id),
            col(any_output.state) != OutputState.READY,
            col(its_source.refusal).is_(None),
        )
        .correlate(Batch)
    )
    over = or_(col(Batch.expires_at) <= now, col(Batch.deleted_at) <= now, ~unready.exists())
    return and_(col(Batch.status).in_(states.ENDED), over)


def give_back(store: Store) -> None:
    """Give some of the space of removed rows back to the volume."""
    with store.transaction() as tx:
        database.give_back(tx.session.connection())


def end_history(store: Store) -> None:
    """Remove what only history needs once it is older than HISTORY_DAYS.

    Expired batches are marked as deleted, so that `forget` removes their rows; the ledger keeps their costs
    for a year at least. The rows of closed uploads, of deleted sources that no output refers to, and of
    machines that have long been confirmed to be gone, are removed at once.
    """
    with store.transaction() as tx:
        until = tx.now - timedelta(days=tx.settings.history_days)
        old = select(Batch).where(
            col(Batch.status) == JobStatus.EXPIRED,
            col(Batch.ended_at) <= until,
            col(Batch.deleted_at).is_(None),
        )
        for batch in tx.session.exec(old.limit(ROWS_AT_ONCE_MAX)).all():
            batch.deleted_at = tx.now
        closed = select(Upload.id).where(col(Upload.state) != "open", col(Upload.expires_at) <= until)
        uses = select(Output.id).where(col(Output.source_id) == col(Source.id)).correlate(Source)
        unused = select(Source.id).where(
            col(Source.key) == "", col(Source.deleted_at) <= until, ~uses.exists()
        )
        for machine in tx.session.exec(_no_longer_needed(tx).limit(ROWS_AT_ONCE_MAX)).all():
            tx.session.delete(machine)
        tx.session.exec(delete(Upload).where(col(Upload.id).in_(closed.limit(ROWS_AT_ONCE_MAX))))
        tx.session.exec(delete(Source).where(col(Source.id).in_(unused.limit(ROWS_AT_ONCE_MAX))))


def _no_longer_needed(tx: Transaction) -> SelectOfScalar[Machine]:
    """Return the query of the machines that no cost, budget or attempt can need any more.

    A machine that is not confirmed to be gone stays, also an orphan, and one whose batch is still stored: its
    cost counts against the batch's own budget.
    """
    its_attempt = select(Attempt.id).where(col(Attempt.id) == col(Machine.attempt_id)).correlate(Machine)
    its_batch = select(Batch.id).where(col(Batch.id) == col(Machine.batch_id)).correlate(Machine)
    is_old = col(Machine.gone_at) <= machines.kept_since(tx.settings, tx.now)
    return select(Machine).where(is_old, ~its_attempt.exists(), ~its_batch.exists())
