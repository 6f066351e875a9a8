"""The progress of jobs and batches for event streams: snapshots, read for all streams at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel
from sqlmodel import Session, col, select

from control.domain import states
from control.store.rows import jobs_of
from control.store.tables import Batch, Job, Output
from control.views import serializers, tallies
from control.views.schemas.events import ProgressEvent, SourceProgress
from control.views.tallies import Count, by_source, total


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
    for job in jobs_of(session, batches):
        jobs[job.batch_id].append(job)
    counts = tallies.counts(session, col(Output.batch_id).in_(batches))
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
    counts: Mapping[str, Sequence[Count]],
    now: datetime,
) -> Snapshot:
    row = jobs[0] if subject.job_id else batch
    waiting = next((job for job in jobs if job.waiting_code), None)
    mine = [count for job in jobs for count in counts[job.id]]
    progress = serializers.progress(row, total(mine), now)
    facts = ProgressEvent(
        batch_id=batch.id,
        job_id=subject.job_id,
        status=row.status,
        waiting=waiting and serializers.problem(waiting.waiting_code, waiting.waiting_message),
        jobs=serializers.in_batch(jobs, counts),
        sources=_sources(mine),
        **progress.model_dump(),
    )
    return Snapshot(on_the_wire("progress", facts), facts.model_copy(update={"eta_s": None}))


def _sources(counts: Sequence[Count]) -> list[SourceProgress]:
    return [
        SourceProgress(
            source_id=source_id,
            status=states.source_status([count.state for count in mine]),
            percent=total(mine).percent,
        )
        for source_id, mine in by_source(counts).items()
    ]


def on_the_wire(name: str, data: BaseModel, id_: int | None = None) -> bytes:
    """Return an event in the format of a stream. Its JSON has no line breaks."""
    head = f"id: {id_}\n" if id_ is not None else ""
    return f"{head}event: {name}\ndata: {data.model_dump_json()}\n\n".encode()
