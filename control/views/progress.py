"""The progress of jobs and batches for event streams: snapshots, read for all streams at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel
from sqlalchemy import func
from sqlmodel import Session, col, select

from control.domain import states
from control.domain.states import OutputState
from control.store.tables import Batch, Job, Output, Source
from control.views import serializers
from control.views.schemas.events import ProgressEvent, SourceProgress


@dataclass(frozen=True)
class Subject:
    """The subject of a stream: a job, or a whole batch."""

    batch_id: str
    job_id: str | None = None

    @property
    def id(self) -> str:
        """The id in the address of the stream."""
        return self.job_id or self.batch_id

    @property
    def table(self) -> type[Job | Batch]:
        """The table of its row."""
        return Job if self.job_id else Batch


@dataclass(frozen=True)
class Snapshot:
    """The progress of a subject as bytes. A snapshot with equal `facts` need not be sent again."""

    content: bytes
    facts: ProgressEvent


def snapshots(session: Session, subjects: Collection[Subject], now: datetime) -> Mapping[Subject, Snapshot]:
    """Return the progress of each subject. A deleted or unknown one is left out."""
    ids = {subject.batch_id for subject in subjects}
    alive = select(Batch).where(col(Batch.id).in_(ids), col(Batch.deleted_at).is_(None))
    batches = {batch.id: batch for batch in session.exec(alive)}
    jobs: dict[str, list[Job]] = defaultdict(list)
    mine = select(Job).where(col(Job.batch_id).in_(batches)).order_by(col(Job.position))
    for job in session.exec(mine):
        jobs[job.batch_id].append(job)
    counts = _counts(session, batches)
    found = {}
    for subject in subjects:
        if batch := batches.get(subject.batch_id):
            own = [job for job in jobs[batch.id] if subject.job_id in (None, job.id)]
            found[subject] = _snapshot(subject, batch, own, counts, now)
    return found


def _snapshot(
    subject: Subject,
    batch: Batch,
    jobs: Sequence[Job],
    counts: Mapping[str, Sequence[_Count]],
    now: datetime,
) -> Snapshot:
    row = jobs[0] if subject.job_id else batch
    waiting = next((job for job in jobs if job.waiting_code), None)
    tallies = {job.id: _sum(counts[job.id]) for job in jobs}
    progress = serializers.progress(row, sum(tallies.values(), serializers.Tally()), now)
    facts = ProgressEvent(
        batch_id=batch.id,
        job_id=subject.job_id,
        status=row.status,
        waiting=waiting and serializers.problem(waiting.waiting_code, waiting.waiting_message),
        jobs=serializers.in_batch(jobs, tallies),
        sources=_sources([count for job in jobs for count in counts[job.id]]),
        **progress.model_dump(),
    )
    return Snapshot(on_the_wire("progress", facts), facts.model_copy(update={"eta_s": None}))


@dataclass(frozen=True)
class _Count:
    """Outputs of one job and source in one state."""

    source_id: str
    state: OutputState
    tally: serializers.Tally


def _counts(session: Session, batch_ids: Collection[str]) -> Mapping[str, list[_Count]]:
    """Return the counts of each job, with sources in the order of the batch."""
    counts: dict[str, list[_Count]] = defaultdict(list)
    rows = (
        select(Output.job_id, Source, Output.state, func.sum(Output.percent), func.count())  # type: ignore[call-overload]  # five columns
        .join(Source)
        .where(col(Output.batch_id).in_(batch_ids))
        .group_by(col(Output.job_id), col(Source.id), col(Output.state))
        .order_by(func.min(Output.position))
    )
    for job_id, source, state, percents, count in session.exec(rows):
        tally = serializers.tally(source, state, percents, count)
        counts[job_id].append(_Count(source.id, OutputState(state), tally))
    return counts


def _sum(counts: Sequence[_Count]) -> serializers.Tally:
    return sum((count.tally for count in counts), serializers.Tally())


def _sources(counts: Sequence[_Count]) -> list[SourceProgress]:
    by_source: dict[str, list[_Count]] = defaultdict(list)
    for count in counts:
        by_source[count.source_id].append(count)
    return [
        SourceProgress(
            source_id=source_id,
            status=states.source_status([count.state for count in mine]),
            percent=_sum(mine).percent,
        )
        for source_id, mine in by_source.items()
    ]


def on_the_wire(name: str, data: BaseModel, id_: int | None = None) -> bytes:
    """Return an event in the format of a stream. Its JSON has no line breaks."""
    head = f"id: {id_}\n" if id_ is not None else ""
    return f"{head}event: {name}\ndata: {data.model_dump_json()}\n\n".encode()
