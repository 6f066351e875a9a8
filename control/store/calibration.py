"""Calibration: learns the speed of a machine size from finished jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields

from sqlalchemy import Executable, bindparam
from sqlmodel import Session, and_, col, select

from control.domain.states import AttemptState, JobStatus, OutputState
from control.planning import prices, workload
from control.store.prepared import Moment, Prepared
from control.store.recipe import encoding_of, recipe_of
from control.store.tables import Attempt, Batch, Job, Machine, Output, Source, SpeedRow
from control.store.transaction import Transaction

BILLS_MAX = 40  # the newest bills that a range of costs is made from


def speeds(session: Session) -> dict[str, workload.Speed]:
    """Return the measured speeds by size."""
    return {row.size: _speed(row) for row in session.exec(select(SpeedRow)).all()}


def bill_ratios(session: Session) -> list[float]:
    """Return bill / estimate of the newest jobs that one machine made whole, and whose bill is final.

    Before its machine is gone, an attempt has its cost without the bytes that were sent.
    """
    own = and_(col(Machine.app) == col(Attempt.app), col(Machine.id) == col(Attempt.machine_id))
    paid = (
        select(Attempt.cost_usd / Job.estimate_usd)
        .join(Job, col(Job.id) == col(Attempt.job_id))
        .join(Machine, own)
        .where(
            col(Job.status).in_([JobStatus.COMPLETED, JobStatus.EXPIRED]),
            col(Job.partial).is_(False),
            col(Job.estimate_usd) > 0,
            col(Attempt.number) == 1,
            col(Attempt.state) == AttemptState.SUCCEEDED,
            col(Machine.gone_at).is_not(None),
        )
    )
    return list(session.exec(paid.order_by(col(Job.created_at).desc()).limit(BILLS_MAX)).all())


def source_info(source: Source, *, url_bytes_max: float = 0.0) -> workload.SourceInfo:
    """Return the properties of a source that decide how much work it is.

    One by URL has at most `url_bytes_max` bytes.
    """
    return workload.SourceInfo(
        size_bytes=source.size_bytes,
        duration_s=source.duration_s,
        pixels=source.width * source.height,
        frame_rate=source.frame_rate,
        bytes_most=0.0 if source.url is None else url_bytes_max,
    )


def learn(tx: Transaction, attempt: Attempt, *, wall_s: float) -> None:
    """Update the speed of a size from an attempt whose machine was billed for `wall_s`.

    Ignored are attempts with an output that is not ready or with no billed time, and attempts with sources of
    unknown length, size or frame rate.
    """
    outputs = _made(tx, attempt)
    sources = {row.id: source_info(row) for row in _sources(tx, outputs)}
    is_whole = all(output.state == OutputState.READY for output in outputs)
    if not outputs or not is_whole or wall_s <= 0 or attempt.started_at is None:
        return
    if not all(each.is_known for each in sources.values()):
        return
    encoding = encoding_of(tx.session.get_one(Batch, outputs[0].batch_id))
    if encoding.frame_rate == "source" and not all(each.frame_rate for each in sources.values()):
        return
    numbers = {source_id: number for number, source_id in enumerate(sources)}
    asked = [(numbers[output.source_id], recipe_of(output)) for output in outputs]
    work_units = workload.work_units(asked, list(sources.values()), encoding=encoding)
    boot_from = attempt.boot_from or attempt.started_at
    row = tx.session.get(SpeedRow, attempt.size)
    speed = (_speed(row) if row else workload.Speed()).learn(
        work_s=workload.machine_work_s(work_units, prices.cpus(attempt.size)),
        wall_s=wall_s,
        launch_s=max(0.0, (attempt.started_at - boot_from).total_seconds()),
        bytes_ratio=sum(output.size_bytes or 0 for output in outputs)
        / sum(unit.likely_bytes for unit in work_units),
    )
    tx.session.merge(SpeedRow(size=attempt.size, **asdict(speed)))


def _made(tx: Transaction, attempt: Attempt) -> Sequence[Output]:
    tx.session.flush()
    return tx.session.load(Output, _made_by, attempt_id=attempt.id)


@Prepared
def _made_by(_: Moment) -> Executable:
    mine = select(Output).where(col(Output.attempt_id) == bindparam("attempt_id"))
    return mine.order_by(col(Output.position))


def _sources(tx: Transaction, outputs: Sequence[Output]) -> Sequence[Source]:
    return tx.session.load(Source, _with_ids, ids=sorted({output.source_id for output in outputs}))


@Prepared
def _with_ids(_: Moment) -> Executable:
    return select(Source).where(col(Source.id).in_(bindparam("ids", expanding=True)))


def _speed(row: SpeedRow) -> workload.Speed:
    return workload.Speed(**{field.name: getattr(row, field.name) for field in fields(workload.Speed)})
