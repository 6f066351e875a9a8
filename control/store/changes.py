"""Changes that a user makes to a stored batch or one of its jobs: cancel, retry, delete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy
from sqlalchemy import ColumnElement, Executable, Select, bindparam
from sqlmodel import col, select
from sqlmodel import delete as delete_where

from control.domain import states
from control.domain.errors import Code, ControlError
from control.domain.states import JobStatus, OutputState, Trigger
from control.store import webhooks
from control.store.attempts import end_job, end_within, follow, used_up
from control.store.prepared import Moment, Prepared
from control.store.rows import jobs_of
from control.store.tables import (
    Arguments,
    Attempt,
    AttemptLog,
    Batch,
    Delivery,
    Event,
    Job,
    Output,
    Source,
    SourceData,
    Webhook,
)
from control.store.transaction import Store, Transaction
from runner.contract import Reason


def cancel(store: Store, job_ids: Sequence[str]) -> None:
    """Cancel those of these jobs of one batch that are live. Afterwards nothing of them starts any more.

    Ready outputs stay, and ended jobs do not change. The next pass stops the machines.
    Raises ControlError not_found for jobs of a deleted batch.
    """
    with store.transaction() as tx:
        _cancel_all(tx, *_jobs(tx, job_ids))


def _cancel_all(tx: Transaction, batch: Batch, jobs: Sequence[Job]) -> None:
    live = [job for job in jobs if job.status not in states.ENDED]
    for job in live:
        job.cancelled_at = tx.now
    _note_on_batch(tx, batch)
    for job in live:
        _cancel(tx, job)


def _note_on_batch(tx: Transaction, batch: Batch) -> None:
    """Mark the batch as cancelled if all of its live jobs are."""
    if batch.ended_at is None and not tx.rows(_left, batch_id=batch.id):
        batch.cancelled_at = tx.now


@Prepared
def _left(_: Moment) -> Executable:
    return select(Job.id).where(
        col(Job.batch_id) == bindparam("batch_id"),
        col(Job.status).not_in(states.ENDED),
        col(Job.cancelled_at).is_(None),
    )


def _cancel(tx: Transaction, job: Job) -> None:
    attempt = _live_attempt(tx, job)
    if attempt is not None:
        end_within(tx, attempt, Trigger.CANCELLED, Reason.CANCELLED, "a user asked for it")
        return
    outputs = tx.outputs(job.id)
    output_states = [OutputState(output.state) for output in outputs]
    job_outcome = states.final_outcome(output_states, is_cancelled=True)
    end_job(tx, job, outputs, job_outcome, None)
    follow(tx, job, job_outcome.status)


def _live_attempt(tx: Transaction, job: Job) -> Attempt | None:
    tx.session.flush()
    return next(iter(tx.session.load(Attempt, _live_of_job, job_id=job.id)), None)


@Prepared
def _live_of_job(_: Moment) -> Executable:
    mine = col(Attempt.job_id) == bindparam("job_id")
    return select(Attempt).where(mine, col(Attempt.state).in_(states.LIVE))


def retry(store: Store, job_ids: Sequence[str]) -> None:
    """Queue again all outputs of these jobs of one batch that are not ready. Ready outputs do not change.

    Raises ControlError: not_found (deleted), conflict (a job is live, or nothing is missing), expired,
    source_gone.
    """
    with store.transaction() as tx:
        batch, jobs = _jobs(tx, job_ids)
        _require_ended(tx, batch, jobs)
        missing = {job.id: _missing(tx, job) for job in jobs}
        if not any(missing.values()):
            why = "Every output is ready, or its video was refused; there is nothing to retry."
            raise ControlError(Code.CONFLICT, why)
        _require_sources(tx, [output for outputs in missing.values() for output in outputs])
        batch.ended_at = batch.expires_at = batch.cancelled_at = None
        batch.partial = False
        batch.zip_bytes = batch.zip_tag = None
        webhooks.take_back(tx, batch)
        for job in jobs:
            if missing[job.id]:
                _start_again(tx, job, missing[job.id])


def _require_ended(tx: Transaction, batch: Batch, jobs: Sequence[Job]) -> None:
    is_over = batch.expires_at is not None and batch.expires_at <= tx.now  # `expire` may not have run yet
    if is_over or batch.status == JobStatus.EXPIRED:
        raise ControlError(Code.EXPIRED, "This has expired. Upload the videos and submit them again.")
    if any(job.status not in states.ENDED for job in jobs):
        raise ControlError(Code.CONFLICT, "This has not ended yet. Cancel it first, or wait.")


def _missing(tx: Transaction, job: Job) -> list[Output]:
    """Return the outputs that a retry makes: those that are not ready, except of files that were refused."""
    missing = [output for output in tx.outputs(job.id) if output.state != OutputState.READY]
    of = sorted({output.source_id for output in missing})
    refused = {source_id for (source_id,) in tx.rows(_refused, ids=of)}
    return [output for output in missing if output.source_id not in refused]


@Prepared
def _refused(_: Moment) -> Executable:
    return select(Source.id).where(_is_among_ids(), col(Source.refusal).is_not(None))


def _is_among_ids() -> ColumnElement[bool]:
    return col(Source.id).in_(bindparam("ids", expanding=True))


def _require_sources(tx: Transaction, outputs: Sequence[Output]) -> None:
    if gone := tx.rows(_gone, ids=sorted({output.source_id for output in outputs})):
        raise ControlError(Code.SOURCE_GONE, f"The video {gone[0].name!r} has been deleted. Upload it again.")


@Prepared
def _gone(_: Moment) -> Executable:
    return select(Source.name).where(_is_among_ids(), col(Source.deleted_at).is_not(None))


def _start_again(tx: Transaction, job: Job, outputs: Sequence[Output]) -> None:
    job.attempts_max = used_up(tx, job) + tx.settings.attempts_max
    job.not_before, job.partial = tx.now, False
    job.ended_at = job.cancelled_at = job.error_code = job.error_message = None
    job.zip_bytes = job.zip_tag = None
    for output in outputs:
        output.state, output.percent, output.attempt_id = OutputState.QUEUED, 0.0, None
        output.error_code = output.error_message = None
    tx.event("retried", job, outputs=len(outputs))
    follow(tx, job, JobStatus.QUEUED)


def delete(store: Store, batch_id: str) -> None:
    """Mark a batch as deleted and cancel its live jobs, in one transaction.

    Clients no longer see it, and nothing can start it again. `forget` removes its files and rows later.
    Raises ControlError not_found if it is deleted already.
    """
    with store.transaction() as tx:
        batch, jobs = _jobs(tx, [job.id for job in jobs_of(tx.session, [batch_id])])
        _cancel_all(tx, batch, jobs)
        batch.deleted_at = tx.now


def remove_rows(store: Store, batch_id: str) -> None:
    """Remove all rows of a deleted batch whose files are gone. Its machines stay in the ledger."""
    with store.transaction() as tx:
        its_own = [source_id for (source_id,) in tx.rows(_own_sources, batch_id=batch_id)]
        for removal in _REMOVALS:
            tx.change(removal, batch_id=batch_id)
        tx.change(_remove_sources, ids=its_own)


@Prepared
def _own_sources(_: Moment) -> Executable:
    """Return the sources without a file that only this batch uses.

    A URL or a refused file belongs to one batch; an upload whose file is gone may belong to several.
    """
    mine = select(Output.source_id).where(col(Output.batch_id) == bindparam("batch_id"))
    others = col(Output.source_id) == col(Source.id), col(Output.batch_id) != bindparam("batch_id")
    unstored = select(Source.id).where(col(Source.id).in_(mine), col(Source.key) == "")
    return unstored.where(~select(Output.id).where(*others).exists())


@Prepared
def _remove_sources(_: Moment) -> Executable:
    return delete_where(Source).where(_is_among_ids())


def _removal(table: type[Any], column: Any, among: Select[Any] | None = None) -> Prepared:
    """Return the removal of the rows of a table whose column is the batch's id, or is among these."""
    of_batch = col(column) == bindparam("batch_id") if among is None else col(column).in_(among)
    return Prepared(lambda _: delete_where(table).where(of_batch))


_ITS_JOBS = sqlalchemy.select(col(Job.id)).where(col(Job.batch_id) == bindparam("batch_id"))
_ITS_ATTEMPTS = sqlalchemy.select(col(Attempt.id)).where(col(Attempt.job_id).in_(_ITS_JOBS))
_REMOVALS = (  # of all rows of a batch, those first that refer to others
    _removal(Event, Event.batch_id),
    _removal(Delivery, Delivery.batch_id),
    _removal(Output, Output.batch_id),
    _removal(SourceData, SourceData.batch_id),
    _removal(Webhook, Webhook.batch_id),
    _removal(Arguments, Arguments.job_id, _ITS_JOBS),
    _removal(AttemptLog, AttemptLog.attempt_id, _ITS_ATTEMPTS),
    _removal(Attempt, Attempt.job_id, _ITS_JOBS),
    _removal(Job, Job.batch_id),
    _removal(Batch, Batch.id),
)


def _jobs(tx: Transaction, job_ids: Sequence[str]) -> tuple[Batch, Sequence[Job]]:
    """Return the batch of these jobs, and the jobs. Raises ControlError not_found if it is deleted.

    The caller found the jobs in an earlier transaction, and they may have been deleted since.
    """
    jobs = tx.session.load(Job, _with_job_ids, ids=list(job_ids))
    batch = tx.session.get_one(Batch, jobs[0].batch_id) if jobs else None
    if batch is None or batch.deleted_at is not None:
        raise ControlError(Code.NOT_FOUND, "This has been deleted.")
    return batch, jobs


@Prepared
def _with_job_ids(_: Moment) -> Executable:
    return select(Job).where(col(Job.id).in_(bindparam("ids", expanding=True)))
