"""The rows of batches, jobs and outputs that the store, views and downloads read. Must never write."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Executable, bindparam, inspect
from sqlmodel import Session, and_, col, select

from control.domain.errors import Code, ControlError
from control.store.prepared import Moment, Prepared, Row
from control.store.session import get, load
from control.store.tables import Arguments, Attempt, AttemptLog, Batch, Job, Output, SourceData

ROWS_AT_ONCE = 200


def found(session: Session, table: type[Any], row_id: str) -> Any:
    """Return a row by its id. Raises ControlError not_found, also if a user has deleted it."""
    row = get(session, table, row_id)
    batch = get(session, Batch, row.batch_id) if isinstance(row, Job | Output) else row
    if row is None or getattr(batch, "deleted_at", None) is not None:
        raise ControlError(Code.NOT_FOUND, f"There is no such {table.__name__.lower()}.")
    return row


def jobs_of(session: Session, batch_ids: Collection[str]) -> Sequence[Job]:
    """Return the jobs of these batches, in the order of their batch."""
    session.flush()
    return load(session, Job, _jobs_of, ids=list(batch_ids))


@Prepared
def _jobs_of(_: Moment) -> Executable:
    mine = col(Job.batch_id).in_(bindparam("ids", expanding=True))
    return select(Job).where(mine).order_by(col(Job.position))


def batches_of(session: Session, jobs: Iterable[Job]) -> Sequence[Batch]:
    """Return the batches of these jobs."""
    return session.exec(select(Batch).where(col(Batch.id).in_({job.batch_id for job in jobs}))).all()


def outputs_of(
    session: Session, jobs: Iterable[Job], *, rows_at_once: int
) -> Iterable[tuple[Output, bytes | None]]:
    """Return the outputs of these jobs, in the order of the batch, each with its packed arguments.

    A few rows are in memory at a time, and the result can be read only once.
    """
    mine = col(Output.job_id).in_([job.id for job in jobs])
    its_own = and_(
        col(Arguments.job_id) == col(Output.job_id), col(Arguments.digest) == col(Output.arguments)
    )
    query = select(Output, Arguments.packed).outerjoin(Arguments, its_own).where(mine)
    return session.exec(query.order_by(col(Output.position)).execution_options(yield_per=rows_at_once))


def plain_outputs(session: Session, wanted: ColumnElement[bool]) -> Iterable[Row]:
    """Return these outputs as plain rows, in the order of the batch, without their arguments.

    A few rows are in memory at a time, and the result can be read only once: 10,000 objects would take 60 MB
    and twice the time.
    """
    columns = [column for column in inspect(Output).columns if column.name != "ffmpeg_args"]
    query = select(*columns).where(wanted).order_by(col(Output.position))
    rows: Iterable[Row] = session.exec(query.execution_options(yield_per=ROWS_AT_ONCE))
    return rows


def attempts_of(session: Session, jobs: Iterable[Job]) -> Sequence[Attempt]:
    """Return the attempts of these jobs, oldest first."""
    mine = col(Attempt.job_id).in_([job.id for job in jobs])
    order = (col(Attempt.created_at), col(Attempt.id))
    return session.exec(select(Attempt).where(mine).order_by(*order)).all()


def logs_of(session: Session, attempts: Iterable[Attempt]) -> Mapping[str, str]:
    """Return the ends of the runners' logs of these attempts, by the attempt's id, where one is stored."""
    mine = col(AttemptLog.attempt_id).in_([attempt.id for attempt in attempts])
    return {row.attempt_id: row.tail for row in session.exec(select(AttemptLog).where(mine))}


def data_of(session: Session, batch: Batch) -> Mapping[str, dict[str, Any]]:
    """Return the caller's own data of a batch, by source."""
    mine = select(SourceData).where(col(SourceData.batch_id) == batch.id)
    return {row.source_id: row.data for row in session.exec(mine)}
