"""Writes of forgetting: what expires, what is evicted, which sources and URLs nobody can need any more.

A row says first that a file is to go, and last that it is gone: whatever is cut off in between is seen by
the next pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.orm import aliased
from sqlmodel import and_, col, or_, select, update
from sqlmodel.sql.expression import SelectOfScalar

from control.domain import states
from control.domain.states import JobStatus, OutputState
from control.store.files import named_by
from control.store.tables import Attempt, Batch, Job, Meta, Output, Source
from control.store.transaction import Store, Transaction
from control.store.usage import SPARE, has_files, holdings, is_used, sources_of

UNUSED_LIFE = timedelta(hours=24)
EXPIRED_AT_ONCE_MAX = 20
SOURCES_AT_ONCE_MAX = 500
SWEPT = "swept_until"


def expire_due(store: Store) -> bool:
    """Mark the batches whose time is over as expired; return whether more may be due."""
    with store.transaction() as tx:
        due = (
            _finished().where(col(Batch.expires_at) <= tx.now).order_by(col(Batch.expires_at), col(Batch.id))
        )
        batches = tx.session.exec(due.limit(EXPIRED_AT_ONCE_MAX)).all()
        for batch in batches:
            _expire(tx, batch)
        return len(batches) == EXPIRED_AT_ONCE_MAX


def evict(store: Store) -> bool:
    """Expire the batch that ended first if more is stored than may be; return whether one was found.

    Neither what lives nor what ended less than EVICT_GRACE_S ago is touched; what goes already is not
    counted. A batch that holds nothing but sources, since it failed, goes as well.
    """
    with store.transaction() as tx:
        held = holdings(tx.session, tx.settings, tx.now)
        if held.live + held.kept + held.finished <= tx.settings.storage_cap_bytes:
            return False
        grace = timedelta(seconds=tx.settings.evict_grace_s)
        due = _finished().where(col(Batch.ended_at) <= tx.now - grace, _holds_something())
        batch = tx.session.exec(due.order_by(col(Batch.ended_at), col(Batch.id)).limit(1)).first()
        if batch is not None:
            _expire(tx, batch)
        return batch is not None


def _holds_something() -> ColumnElement[bool]:
    """Return the condition on an ended batch: to expire it makes room."""
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
    for job in tx.session.exec(select(Job).where(col(Job.batch_id) == batch.id)).all():
        tx.set_job(job, JobStatus.EXPIRED)
    tx.set_batch(batch, JobStatus.EXPIRED)


def files_gone(store: Store, job_id: str) -> None:
    """Note that no file of an expired job is left. Its rows stay."""
    with store.transaction() as tx:
        job = tx.session.get_one(Job, job_id)
        job.stored_bytes = job.stray_bytes = 0
        for output in tx.outputs(job_id):
            output.key = output.playlist = output.poster = None


def weigh(store: Store, job_id: str, found: Mapping[str, int]) -> Sequence[str]:
    """Note what the bucket holds of a job besides its outputs, and return the keys that are of no use.

    `found` are sizes by key, the last folder of a key being the attempt's id. What a live attempt has stored
    it may yet report. What nobody may report any more is no longer counted: the caller deletes it.
    """
    with store.transaction() as tx:
        named = {key for output in tx.outputs(job_id) for key in named_by(output)}
        mine = select(Attempt.id).where(col(Attempt.job_id) == job_id, col(Attempt.state).in_(states.LIVE))
        live = set(tx.session.exec(mine).all())
        strays = found.keys() - named
        useless = {key for key in strays if key.split("/")[-2] not in live}
        job = tx.session.get(Job, job_id)
        if job is not None:
            job.stray_bytes = sum(found[key] for key in strays - useless)
        return sorted(useless)


def freeze(
    store: Store, table: type[Job | Batch], id_: str, ended_at: datetime, *, size_bytes: int, tag: str
) -> None:
    """Keep size and ETag of the archive of this end, unless a retry has begun since."""
    with store.transaction() as tx:
        row: Any = tx.session.get(table, id_)
        if row is not None and row.ended_at == ended_at:
            row.zip_bytes, row.zip_tag = size_bytes, tag


def give_up_sources(store: Store) -> None:
    """Mark the sources that nobody can need any more as deleted, in one step with looking who does.

    A submit or retry that comes first keeps its sources; one that comes later is told that they are gone.
    """
    with store.transaction() as tx:
        is_old = col(Source.created_at) <= tx.now - UNUSED_LIFE
        due = select(Source).where(
            col(Source.deleted_at).is_(None),
            col(Source.key) != "",
            col(Source.id).not_in(sources_of(_needs_its_sources(tx))),
            is_used() | is_old,
        )
        for source in tx.session.exec(due.limit(SOURCES_AT_ONCE_MAX)).all():
            source.deleted_at = tx.now


def _needs_its_sources(tx: Transaction) -> ColumnElement[bool]:
    """Return the condition on a batch: it lives, ended whole a moment ago, or may still be retried.

    A kept batch tells by itself whether it is whole; the outputs of an expired one have to be asked.
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
    may_be_retried = ~is_expired & ~is_whole & (col(Batch.expires_at) > tx.now)
    ended_just_now = col(Batch.ended_at) > tx.now - SPARE
    return col(Batch.ended_at).is_(None) | may_be_retried | (ended_just_now & was_whole)


def source_gone(store: Store, source_ids: Sequence[str]) -> None:
    """Note that the files of deleted sources are gone. Their rows stay, as what outputs were made of."""
    with store.transaction() as tx:
        mine = col(Source.id).in_(source_ids) & col(Source.deleted_at).is_not(None)
        tx.session.exec(update(Source).where(mine).values(key=""))


def swept(store: Store, until: str) -> None:
    """Note how far the sweep has come."""
    with store.transaction() as tx:
        tx.session.merge(Meta(key=SWEPT, value=until))


AT_ONCE_MAX = 1000


def forget_ended(store: Store) -> None:
    """Forget the URLs of batches that have ended for good: nothing of them is left that could be retried.

    That is when all is ready, the batch has expired, or a user has deleted it. A source by URL belongs to one
    batch; without its URL it counts as deleted.
    """
    with store.transaction() as tx:
        unready = (
            select(Output.batch_id)
            .join(Source)
            .where(col(Output.state) != OutputState.READY, col(Source.refusal).is_(None))
        )
        over = or_(
            col(Batch.id).not_in(unready), col(Batch.expires_at) <= tx.now, col(Batch.deleted_at) <= tx.now
        )
        ended = select(Batch.id).where(and_(col(Batch.status).in_(states.ENDED), over))
        urls = (
            select(Source).join(Output).where(col(Source.url).is_not(None), col(Output.batch_id).in_(ended))
        )
        for source in tx.session.exec(urls.limit(AT_ONCE_MAX)).unique().all():
            source.url, source.deleted_at = None, tx.now
        targets = select(Batch).where(col(Batch.output_url).is_not(None), col(Batch.id).in_(ended))
        for batch in tx.session.exec(targets.limit(AT_ONCE_MAX)).all():
            batch.output_url = None
