"""Reads the rows of jobs and batches for clients. Must never write.

Long because single and listed jobs and batches share their queries; the JSON is made in `serializers`.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Engine, String, case, cast, func, or_, tuple_
from sqlmodel import Session, col, select

from control.auth.tokens import Signer
from control.domain import states
from control.domain.errors import Code, ControlError
from control.domain.states import JobStatus, OutputState
from control.store.tables import Attempt, Batch, Job, Meta, Output, Source, Webhook
from control.views import serializers
from control.views.schemas.base import Page
from control.views.schemas.batches import BatchSummary, BatchView, JobSummary, JobView, SourceView
from infra.ports import Clock

Row = TypeVar("Row")
SOURCE_NAMES = 3  # the number of source names in a list


@dataclass
class Overview:
    """What a list shows of a job's outputs."""

    tally: serializers.Tally = field(default_factory=serializers.Tally)
    sources: dict[str, tuple[int, str]] = field(
        default_factory=dict
    )  # by id: its first position, and its name
    poster: tuple[int, str] | None = None  # the first output with a poster: its position and its id


class Views:
    """Reads rows. Every method is one reading transaction and may be called from any thread."""

    def __init__(self, engine: Engine, signer: Signer, clock: Clock) -> None:
        self._engine, self._signer, self._clock = engine, signer, clock

    def session(self) -> Session:
        """Return a session for reading, for passes and routes that need the rows themselves."""
        return Session(self._engine)

    def token_generation(self) -> int:
        """Return the generation that a bearer token must have."""
        with self.session() as session:
            return _token_generation(session)

    def active_jobs(self) -> int:
        """Return the number of jobs that have not ended."""
        with self.session() as session:
            alive = col(Job.status).not_in(states.ENDED)
            return session.exec(select(func.count()).select_from(Job).where(alive)).one()

    def live_attempts(self) -> int:
        """Return the number of attempts that have not ended."""
        with self.session() as session:
            live = col(Attempt.state).in_(states.LIVE)
            return session.exec(select(func.count()).select_from(Attempt).where(live)).one()

    # --- one job or batch -------------------------------------------------------------------------

    def job(self, job_id: str) -> JobView:
        """Return a job as clients see it. Raises ControlError not_found."""
        with self.session() as session:
            job = found(session, Job, job_id)
            batch = session.get_one(Batch, job.batch_id)
            overviews, attempts = _overviews(session, [job]), _attempts(session, [job])
            return JobView(
                job_id=job.id,
                **self._summary(batch, [job], job, overviews, attempts),
                **self._details(session, batch, [job], attempts),
            )

    def batch(self, batch_id: str) -> BatchView:
        """Return a batch as clients see it. Raises ControlError not_found."""
        with self.session() as session:
            batch = found(session, Batch, batch_id)
            jobs = _jobs(session, [batch])
            overviews, attempts = _overviews(session, jobs), _attempts(session, jobs)
            return BatchView(
                seed=batch.seed,
                jobs=serializers.in_batch(jobs, _tallies(overviews)),
                **self._summary(batch, jobs, batch, overviews, attempts),
                **self._details(session, batch, jobs, attempts),
            )

    def job_ids(self, kind: type[Job] | type[Batch], id_: str) -> Sequence[str]:
        """Return the ids of the jobs of a job or batch. Raises ControlError not_found."""
        with self.session() as session:
            if kind is Job:
                return [found(session, Job, id_).id]
            batch = found(session, Batch, id_)
            return [job.id for job in _jobs(session, [batch])]

    def whereabouts(self, job_id: str) -> tuple[str, int]:
        """Return the batch of a job, and its number of other jobs. Raises ControlError not_found."""
        with self.session() as session:
            batch_id = found(session, Job, job_id).batch_id
            mine = select(func.count()).select_from(Job).where(col(Job.batch_id) == batch_id)
            return batch_id, session.exec(mine).one() - 1

    # --- lists ------------------------------------------------------------------------------------

    def jobs(
        self, *, status: JobStatus | None, limit: int, cursor: str | None, q: str | None = None
    ) -> Page[JobSummary]:
        """Return a page of jobs, newest first; with `q` those whose batch or a source has it in its name.

        Raises ControlError invalid for a foreign cursor.
        """
        with self.session() as session:
            rows = session.exec(_newest(Job, status, limit, cursor, q)).all()
            page = rows[:limit]
            batches = {batch.id: batch for batch in _batches(session, page)}
            overviews, attempts = _overviews(session, page), _attempts(session, page)
            items = [
                JobSummary(
                    job_id=job.id,
                    **self._summary(batches[job.batch_id], [job], job, overviews, attempts),
                )
                for job in page
            ]
            return Page(items=items, next_cursor=_next_cursor(rows, limit))

    def batches(
        self, *, status: JobStatus | None, limit: int, cursor: str | None, q: str | None = None
    ) -> Page[BatchSummary]:
        """Return a page of batches, as `jobs` does."""
        with self.session() as session:
            rows = session.exec(_newest(Batch, status, limit, cursor, q)).all()
            page = rows[:limit]
            jobs = _jobs(session, page)
            overviews, attempts = _overviews(session, jobs), _attempts(session, jobs)
            by_batch = _grouped(jobs, "batch_id")
            items = [
                BatchSummary(
                    seed=batch.seed,
                    jobs=serializers.in_batch(by_batch[batch.id], _tallies(overviews)),
                    **self._summary(batch, by_batch[batch.id], batch, overviews, attempts),
                )
                for batch in page
            ]
            return Page(items=items, next_cursor=_next_cursor(rows, limit))

    # --- parts of the shapes ----------------------------------------------------------------------

    def _summary(
        self,
        batch: Batch,
        jobs: Sequence[Job],
        subject: Job | Batch,
        overviews: Mapping[str, Overview],
        attempts: Sequence[Attempt],
    ) -> dict[str, Any]:
        now = self._clock()
        ids = {job.id for job in jobs}
        waiting = next((job for job in jobs if job.waiting_code), None)
        failed = next((job for job in jobs if job.error_code), None)
        spent = [serializers.spent(attempt, now)[1] for attempt in attempts if attempt.job_id in ids]
        shown = [overviews[job.id] for job in jobs]
        sources = {id_: found for each in shown for id_, found in each.sources.items()}
        posters = [each.poster for each in shown if each.poster and batch.status != JobStatus.EXPIRED]
        return {
            "batch_id": batch.id,
            "name": batch.name,
            "source_names": [name for _, name in sorted(sources.values())[:SOURCE_NAMES]],
            "sources_count": len(sources),
            "poster_output_id": min(posters)[1] if posters else None,
            "status": subject.status,
            "partial": subject.partial,
            "progress": serializers.progress(
                subject, sum((each.tally for each in shown), serializers.Tally()), now
            ),
            "waiting": waiting and serializers.problem(waiting.waiting_code, waiting.waiting_message),
            "cost_usd": round(sum(spent), 6),
            "created_at": subject.created_at,
            "started_at": subject.started_at,
            "ended_at": subject.ended_at,
            "expires_at": batch.expires_at,
            "error": failed and serializers.problem(failed.error_code, failed.error_message),
        }

    def _details(
        self, session: Session, batch: Batch, jobs: Sequence[Job], attempts: Sequence[Attempt]
    ) -> dict[str, Any]:
        now, generation = self._clock(), _token_generation(session)
        return {
            "variations": batch.variations,
            "preset": batch.preset,
            "without": batch.without,
            "strength": batch.strength,
            "quality": batch.quality,
            "frame_rate": batch.frame_rate,
            "webhook": serializers.webhook(session.get(Webhook, batch.id)),
            "ticket": self._signer.ticket(batch.id, generation=generation, now=now),
            "sources": _sources(session, outputs_of(session, jobs)),
            "attempts": [serializers.attempt(attempt, now) for attempt in attempts],
        }


def found(session: Session, table: type[Any], row_id: str) -> Any:
    """Return a row by its id. Raises ControlError not_found, also if a user has deleted it."""
    row = session.get(table, row_id)
    batch = session.get(Batch, row.batch_id) if isinstance(row, Job | Output) else row
    if row is None or getattr(batch, "deleted_at", None) is not None:
        raise ControlError(Code.NOT_FOUND, f"There is no such {table.__name__.lower()}.")
    return row


def _token_generation(session: Session) -> int:
    meta = session.get(Meta, "token_generation")
    return int(meta.value) if meta else 0


# --- rows -------------------------------------------------------------------------------------------


def _jobs(session: Session, batches: Iterable[Batch]) -> Sequence[Job]:
    mine = col(Job.batch_id).in_([batch.id for batch in batches])
    return session.exec(select(Job).where(mine).order_by(col(Job.position))).all()


def _batches(session: Session, jobs: Iterable[Job]) -> Sequence[Batch]:
    return session.exec(select(Batch).where(col(Batch.id).in_({job.batch_id for job in jobs}))).all()


def outputs_of(session: Session, jobs: Iterable[Job]) -> Sequence[Output]:
    """Return the outputs of these jobs, in the order of the batch."""
    mine = col(Output.job_id).in_([job.id for job in jobs])
    return session.exec(select(Output).where(mine).order_by(col(Output.position))).all()


def _attempts(session: Session, jobs: Iterable[Job]) -> Sequence[Attempt]:
    mine = col(Attempt.job_id).in_([job.id for job in jobs])
    order = (col(Attempt.created_at), col(Attempt.id))
    return session.exec(select(Attempt).where(mine).order_by(*order)).all()


def _overviews(session: Session, jobs: Iterable[Job]) -> Mapping[str, Overview]:
    overviews: dict[str, Overview] = defaultdict(Overview)
    place = col(Output.position)
    with_poster = case((_has_poster(), place))
    sums = (
        select(  # type: ignore[call-overload]  # seven columns
            Output.job_id,
            Source,
            Output.state,
            func.sum(Output.percent),
            func.count(),
            func.min(place),
            func.min(with_poster),
        )
        .join(Source)
        .where(col(Output.job_id).in_([job.id for job in jobs]))
        .group_by(col(Output.job_id), col(Source.id), col(Output.state))
    )
    posters: dict[str, int] = {}
    for job_id, source, state, percents, count, first, poster in session.exec(sums):
        overview = overviews[job_id]
        overview.tally += serializers.tally(source, state, percents, count)
        overview.sources[source.id] = min(
            (first, source.name), overview.sources.get(source.id, (first, source.name))
        )
        if poster is not None:
            posters[job_id] = min(poster, posters.get(job_id, poster))
    wanted = tuple_(col(Output.job_id), place).in_(list(posters.items()))
    for output in session.exec(select(Output).where(wanted)) if posters else ():
        overviews[output.job_id].poster = (output.position, output.id)
    return overviews


def _has_poster() -> ColumnElement[bool]:
    """Return the condition of a ready output with a poster: a JSON column holds `null` where it has none."""
    return (col(Output.state) == OutputState.READY) & (cast(col(Output.poster), String) != "null")


def _tallies(overviews: Mapping[str, Overview]) -> Mapping[str, serializers.Tally]:
    return {job_id: overview.tally for job_id, overview in overviews.items()}


def _sources(session: Session, outputs: Sequence[Output]) -> list[SourceView]:
    by_source = _grouped(outputs, "source_id")
    rows = session.exec(select(Source).where(col(Source.id).in_(by_source))).all()
    return [
        serializers.source(row, by_source[row.id])
        for row in sorted(rows, key=lambda row: by_source[row.id][0].position)
    ]


def _grouped(rows: Iterable[Row], column: str) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[getattr(row, column)].append(row)
    return groups


# --- cursors ----------------------------------------------------------------------------------------


def _newest(table: type[Row], status: JobStatus | None, limit: int, cursor: str | None, q: str | None) -> Any:
    """Return the query of a page and one more row, which shows whether another page follows."""
    created_at, row_id = col(table.created_at), col(table.id)  # type: ignore[attr-defined]
    query = select(table).order_by(created_at.desc(), row_id.desc()).limit(limit + 1)
    deleted = select(Batch.id).where(col(Batch.deleted_at).is_not(None))
    own_batch = col(table.id if table is Batch else table.batch_id)  # type: ignore[attr-defined]
    query = query.where(own_batch.not_in(deleted))
    if status is not None:
        query = query.where(col(table.status) == status)  # type: ignore[attr-defined]
    if q:
        query = query.where(_is_named(table, own_batch, q))
    if cursor:
        query = query.where(tuple_(created_at, row_id) < tuple_(*_position(cursor)))
    return query


def _is_named(table: type[Any], own_batch: Any, q: str) -> ColumnElement[bool]:
    """Return the condition that a text is in the name of a row's batch or of one of its sources."""
    named = select(Batch.id).where(col(Batch.name).icontains(q, autoescape=True))
    sources = select(Source.id).where(col(Source.name).icontains(q, autoescape=True))
    owner = Output.batch_id if table is Batch else Output.job_id
    using = select(owner).where(col(Output.source_id).in_(sources))
    return or_(own_batch.in_(named), col(table.id).in_(using))


def _position(cursor: str) -> tuple[datetime, str]:
    try:
        instant, _, row_id = base64.urlsafe_b64decode(cursor.encode()).decode().partition("~")
        return datetime.fromisoformat(instant).astimezone(UTC), row_id
    except (ValueError, OverflowError):  # binascii.Error is a ValueError
        raise ControlError(Code.INVALID, "This cursor is not one of ours; start without it.") from None


def _next_cursor(rows: Sequence[Job] | Sequence[Batch], limit: int) -> str | None:
    if len(rows) <= limit:
        return None
    last = rows[limit - 1]
    return base64.urlsafe_b64encode(f"{last.created_at.isoformat()}~{last.id}".encode()).decode()
