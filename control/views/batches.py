"""Reads the rows of jobs and batches for clients. Must never write.

One file because single and listed jobs and batches share their queries. `serializers` makes the JSON.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Engine, Executable, and_, bindparam, func, or_, tuple_
from sqlmodel import Session, col, select

from control.auth.tokens import Signer
from control.domain import states
from control.domain.errors import Code, ControlError
from control.domain.states import JobStatus
from control.store.prepared import Moment, Prepared
from control.store.prepared import Row as PlainRow
from control.store.rows import attempts_of, batches_of, data_of, found, jobs_of, logs_of, plain_outputs
from control.store.tables import Attempt, Batch, Job, Meta, Output, Source, Webhook
from control.views import serializers, tallies
from control.views.schemas.base import Page
from control.views.schemas.batches import BatchSummary, BatchView, JobSummary, JobView, SourceView
from control.views.schemas.outputs import OutputView
from control.views.tallies import Count, Poster, by_source, total
from infra.ports import Clock

Row = TypeVar("Row")
Rows = Callable[..., Sequence[PlainRow]]  # takes a `Prepared` and its parameters by name
SOURCE_NAMES = 3  # the number of source names and posters in a list
WORDS_MAX = 8  # of a search


@dataclass(frozen=True)
class _Outputs:
    """What lists show of the outputs of some jobs, by the id of the job."""

    counts: Mapping[str, Sequence[Count]]
    posters: Mapping[str, Sequence[Poster]]

    def of(self, jobs: Iterable[Job]) -> Sequence[Count]:
        """Return the counts of these jobs, in the order of the batch."""
        return sorted(
            (count for job in jobs for count in self.counts[job.id]), key=lambda count: count.position
        )


class Views:
    """Reads rows. Every method is one reading transaction and may be called from any thread."""

    def __init__(self, engine: Engine, signer: Signer, clock: Clock) -> None:
        if engine.dialect.name == "postgresql":  # the queries of a transaction see one state, as SQLite's do
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        self._engine, self._signer, self._clock = engine, signer, clock

    def session(self) -> Session:
        """Return a session for reading, for passes and routes that need the rows themselves."""
        return Session(self._engine)

    def rows(self, query: Prepared, **given: object) -> Sequence[PlainRow]:
        """Return the rows of a prepared query as they are committed now."""
        with self._engine.connect() as connection:
            return query.rows(connection, self._clock(), **given)

    @contextmanager
    def reading(self) -> Iterator[Rows]:
        """Yield what returns the rows of prepared queries, all as they were at the first one."""
        with self._engine.begin() as connection:
            yield lambda query, **given: query.rows(connection, self._clock(), **given)

    def token_generation(self) -> int:
        """Return the generation that a bearer token must have."""
        return next((int(value) for (value,) in self.rows(_generation)), 0)

    def share_of(self, batch_id: str) -> str | None:
        """Return the hash of the batch's share link, or None without one."""
        return next((share for (share,) in self.rows(_share_of, batch_id=batch_id)), None)

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

    def job(self, job_id: str, *, with_outputs: bool = True) -> JobView:
        """Return a job as clients see it, with its outputs or without. Raises ControlError not_found."""
        with self.session() as session:
            job = found(session, Job, job_id)
            batch = session.get_one(Batch, job.batch_id)
            outputs, attempts = _outputs(session, [job]), attempts_of(session, [job])
            return JobView(
                job_id=job.id,
                **self._summary(batch, [job], job, outputs, attempts, _token_generation(session)),
                **self._details(session, batch, [job], attempts, outputs, with_outputs=with_outputs),
            )

    def batch(self, batch_id: str, *, with_outputs: bool = True) -> BatchView:
        """Return a batch as `job` does."""
        with self.session() as session:
            batch = found(session, Batch, batch_id)
            jobs = jobs_of(session, [batch.id])
            outputs, attempts = _outputs(session, jobs), attempts_of(session, jobs)
            return BatchView(
                seed=batch.seed,
                shared=batch.share_sha256 is not None,
                jobs=serializers.in_batch(jobs, outputs.counts),
                **self._summary(batch, jobs, batch, outputs, attempts, _token_generation(session)),
                **self._details(session, batch, jobs, attempts, outputs, with_outputs=with_outputs),
            )

    def job_ids(self, kind: type[Job] | type[Batch], id_: str) -> Sequence[str]:
        """Return the ids of the jobs of a job or batch. Raises ControlError not_found."""
        with self.session() as session:
            if kind is Job:
                return [found(session, Job, id_).id]
            batch = found(session, Batch, id_)
            return [job.id for job in jobs_of(session, [batch.id])]

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
        """Return a page of jobs, newest first; with `q` those that have each word of it in a name.

        Raises ControlError invalid for a foreign cursor.
        """
        with self.session() as session:
            generation = _token_generation(session)
            rows = session.exec(_newest(Job, status, limit, cursor, q)).all()
            page = rows[:limit]
            batches = {batch.id: batch for batch in batches_of(session, page)}
            outputs, attempts = _outputs(session, page), attempts_of(session, page)
            items = [
                JobSummary(
                    job_id=job.id,
                    **self._summary(batches[job.batch_id], [job], job, outputs, attempts, generation),
                )
                for job in page
            ]
            return Page(items=items, next_cursor=_next_cursor(rows, limit))

    def batches(
        self, *, status: JobStatus | None, limit: int, cursor: str | None, q: str | None = None
    ) -> Page[BatchSummary]:
        """Return a page of batches, as `jobs` does."""
        with self.session() as session:
            generation = _token_generation(session)
            rows = session.exec(_newest(Batch, status, limit, cursor, q)).all()
            page = rows[:limit]
            jobs = jobs_of(session, [batch.id for batch in page])
            outputs, attempts = _outputs(session, jobs), attempts_of(session, jobs)
            by_batch = _grouped(jobs, "batch_id")
            items = [
                BatchSummary(
                    seed=batch.seed,
                    shared=batch.share_sha256 is not None,
                    jobs=serializers.in_batch(by_batch[batch.id], outputs.counts),
                    **self._summary(batch, by_batch[batch.id], batch, outputs, attempts, generation),
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
        outputs: _Outputs,
        attempts: Sequence[Attempt],
        generation: int,
    ) -> dict[str, Any]:
        now = self._clock()
        ids = {job.id for job in jobs}
        waiting = next((job for job in jobs if job.waiting_code), None)
        failed = next((job for job in jobs if job.error_code), None)
        spent = [serializers.spent(attempt, now)[1] for attempt in attempts if attempt.job_id in ids]
        counts = outputs.of(jobs)
        done = total(counts)
        sources = {count.source.id: count.source.name for count in counts}
        posters = _first_posters(outputs, jobs) if batch.status != JobStatus.EXPIRED else []
        return {
            "batch_id": batch.id,
            "name": batch.name,
            "source_names": list(sources.values())[:SOURCE_NAMES],
            "sources_count": len(sources),
            "poster_output_id": posters[0] if posters else None,
            "poster_output_ids": posters,
            "status": subject.status,
            "partial": subject.partial,
            "progress": serializers.progress(subject, done, now),
            "waiting": waiting and serializers.problem(waiting.waiting_code, waiting.waiting_message),
            "cost_usd": round(sum(spent), 6),
            "created_at": subject.created_at,
            "started_at": subject.started_at,
            "ended_at": subject.ended_at,
            "expires_at": batch.expires_at,
            "size_bytes": done.size_bytes if batch.status != JobStatus.EXPIRED else 0,
            "ticket": self._signer.ticket(batch.id, generation=generation, now=now),
            "error": failed and serializers.problem(failed.error_code, failed.error_message),
        }

    def _details(
        self,
        session: Session,
        batch: Batch,
        jobs: Sequence[Job],
        attempts: Sequence[Attempt],
        outputs: _Outputs,
        *,
        with_outputs: bool,
    ) -> dict[str, Any]:
        now, logs = self._clock(), logs_of(session, attempts)
        shown = _output_views(session, jobs) if with_outputs else {}
        return {
            "variations": batch.variations,
            "preset": batch.preset,
            "without": batch.without,
            "strength": batch.strength,
            "quality": batch.quality,
            "frame_rate": batch.frame_rate,
            "name_template": batch.name_template,
            "webhook": serializers.webhook(session.get(Webhook, batch.id)),
            "sources": _sources(session, batch, outputs.of(jobs), shown),
            "attempts": [serializers.attempt(each, now, logs.get(each.id)) for each in attempts],
        }


def _token_generation(session: Session) -> int:
    meta = session.get(Meta, "token_generation")
    return int(meta.value) if meta else 0


@Prepared
def _generation(_: Moment) -> Executable:
    return select(Meta.value).where(col(Meta.key) == "token_generation")


@Prepared
def _share_of(_: Moment) -> Executable:
    return select(Batch.share_sha256).where(col(Batch.id) == bindparam("batch_id"))


# --- rows -------------------------------------------------------------------------------------------


def _outputs(session: Session, jobs: Iterable[Job]) -> _Outputs:
    mine = col(Output.job_id).in_([job.id for job in jobs])
    return _Outputs(tallies.counts(session, mine), tallies.posters(session, mine))


def _first_posters(outputs: _Outputs, jobs: Iterable[Job]) -> list[str]:
    """Return the ids of the first outputs with a poster, of at most SOURCE_NAMES different sources."""
    first_of: dict[str, str] = {}
    for poster in sorted(poster for job in jobs for poster in outputs.posters.get(job.id, ())):
        first_of.setdefault(poster.source_id, poster.output_id)
    return list(first_of.values())[:SOURCE_NAMES]


def _output_views(session: Session, jobs: Iterable[Job]) -> Mapping[str, list[OutputView]]:
    """Return the outputs of these jobs by source, in the order of the batch."""
    views: dict[str, list[OutputView]] = defaultdict(list)
    for output in plain_outputs(session, col(Output.job_id).in_([job.id for job in jobs])):
        views[output.source_id].append(serializers.output_view(output))
    return views


def _sources(
    session: Session, batch: Batch, counts: Iterable[Count], outputs: Mapping[str, list[OutputView]]
) -> list[SourceView]:
    """Return the sources of these counts with their outputs, in the order of the batch."""
    data = data_of(session, batch)
    return [
        serializers.source(mine, outputs.get(id_, []), data.get(id_))
        for id_, mine in by_source(counts).items()
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
    if q and q.strip():
        query = query.where(_is_named(table, own_batch, q))
    if cursor:
        query = query.where(tuple_(created_at, row_id) < tuple_(*_position(cursor)))
    return query


def _is_named(table: type[Any], own_batch: Any, q: str) -> ColumnElement[bool]:
    """Return the condition that each word is in the name of a row's batch or of one of its sources.

    Of more than WORDS_MAX words only the first count, since each costs a look at all names.
    """
    owner = Output.batch_id if table is Batch else Output.job_id

    def has(word: str) -> ColumnElement[bool]:
        named = select(Batch.id).where(col(Batch.name).icontains(word, autoescape=True))
        sources = select(Source.id).where(col(Source.name).icontains(word, autoescape=True))
        using = select(owner).where(col(Output.source_id).in_(sources))
        return or_(own_batch.in_(named), col(table.id).in_(using))

    return and_(*map(has, list(dict.fromkeys(q.split()))[:WORDS_MAX]))


def _position(cursor: str) -> tuple[datetime, str]:
    try:
        instant, _, row_id = base64.urlsafe_b64decode(cursor.encode()).decode().partition("~")
        if "\0" in row_id:
            raise ValueError("PostgreSQL cannot look for a NUL")
        return datetime.fromisoformat(instant).astimezone(UTC), row_id
    except (ValueError, OverflowError):  # binascii.Error is a ValueError
        raise ControlError(Code.INVALID, "This cursor is not one of ours; start without it.") from None


def _next_cursor(rows: Sequence[Job] | Sequence[Batch], limit: int) -> str | None:
    if len(rows) <= limit:
        return None
    last = rows[limit - 1]
    return base64.urlsafe_b64encode(f"{last.created_at.isoformat()}~{last.id}".encode()).decode()
