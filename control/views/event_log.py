"""The durable events of jobs and batches, in order, for event streams. Reads rows only.

A stream has an `end` only if that is really the end. After a later retry or expiry it is a normal `state`. So
a client that stops at `end` misses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import func
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from control.domain import states
from control.domain.states import JobStatus, OutputState
from control.store.prepared import Row as PlainRow
from control.store.rows import plain_outputs
from control.store.tables import Batch, Event, Job, Output
from control.views import serializers
from control.views.progress import Snapshot, Subject, on_the_wire, snapshots
from control.views.schemas.events import StateEvent
from infra.ports import Clock

PAGE_ROWS = 100
NEWS_ROWS = 1000  # of all streams together: a round must not hold everything that a pause has left

_OUTPUT_NAMES = frozenset(f"output_{state}" for state in OutputState)
_STATE_NAMES = {
    table: {f"{word}_{status}": status for status in JobStatus}
    for table, word in ((Job, "job"), (Batch, "batch"))
}
_END_NAME = {Job: "job_ended", Batch: "batch_ended"}


@dataclass(frozen=True)
class EventPage:
    """Durable events as bytes, up to the event `last_id`. After `is_end` no event follows."""

    content: bytes
    last_id: int
    is_end: bool


@dataclass(frozen=True)
class Opening:
    """The start of a stream."""

    subject: Subject
    snapshot: Snapshot
    last_id: int  # of all events so far
    end_id: int | None  # of the event that ended the subject, if it has ended


@dataclass(frozen=True)
class NewEvents:
    """The first events since a position, for each subject with events. Deleted subjects have no snapshot."""

    last_id: int
    is_all: bool  # otherwise more events follow
    pages: Mapping[Subject, EventPage]
    snapshots: Mapping[Subject, Snapshot]


class Timeline:
    """Each method is one reading transaction and may be called from any thread."""

    def __init__(self, session: Callable[[], Session], clock: Clock) -> None:
        self._session, self._clock = session, clock

    def open(self, id_: str) -> Opening | None:
        """Return the start of the stream of a job or batch; None if it does not exist or is deleted."""
        with self._session() as session:
            job = session.get(Job, id_)
            subject = Subject(job.batch_id, job.id) if job else Subject(id_)
            snapshot = snapshots(session, [subject], self._clock()).get(subject)
            if snapshot is None:
                return None
            return Opening(subject, snapshot, _last_id(session), _end_id(session, subject))

    def page(self, subject: Subject, after: int, until: int) -> EventPage:
        """Return the first page of the events of a subject in `after < id <= until`."""
        with self._session() as session:
            rows = session.exec(
                _events(subject, after).where(col(Event.id) <= until).order_by(col(Event.id)).limit(PAGE_ROWS)
            ).all()
            is_all = len(rows) < PAGE_ROWS
            return _event_page(session, subject, rows, until if is_all else rows[-1].id or until)

    def news(self, subjects: Collection[Subject], after: int) -> NewEvents:
        """Return the first NEWS_ROWS new events of these subjects, by one query for all."""
        with self._session() as session:
            last_id = _last_id(session)
            batches = {subject.batch_id for subject in subjects}
            rows = session.exec(
                select(Event)
                .where(col(Event.id) > after, col(Event.id) <= last_id, col(Event.batch_id).in_(batches))
                .order_by(col(Event.id))
                .limit(NEWS_ROWS)
            ).all()
            is_all = len(rows) < NEWS_ROWS
            last_id = last_id if is_all else rows[-1].id or last_id
            by_subject = {subject: [row for row in rows if _is_of(subject, row)] for subject in subjects}
            pages = {
                subject: _event_page(session, subject, mine, last_id)
                for subject, mine in by_subject.items()
                if mine
            }
            return NewEvents(last_id, is_all, pages, snapshots(session, subjects, self._clock()))


def _row(session: Session, subject: Subject) -> Job | Batch | None:
    return session.get(Job, subject.job_id) if subject.job_id else session.get(Batch, subject.batch_id)


def _last_id(session: Session) -> int:
    return session.exec(select(func.max(Event.id))).one() or 0


def _events(subject: Subject, after: int) -> SelectOfScalar[Event]:
    names = {*_OUTPUT_NAMES, *_STATE_NAMES[subject.table], _END_NAME[subject.table]}
    mine = select(Event).where(
        col(Event.batch_id) == subject.batch_id, col(Event.id) > after, col(Event.name).in_(names)
    )
    return mine.where(col(Event.job_id) == subject.job_id) if subject.job_id else mine


def _is_of(subject: Subject, row: Event) -> bool:
    """Return whether a row fits the query of `_events`."""
    if row.batch_id != subject.batch_id or subject.job_id not in (None, row.job_id):
        return False
    is_own = row.name in _STATE_NAMES[subject.table] or row.name == _END_NAME[subject.table]
    return is_own or row.name in _OUTPUT_NAMES


def _event_page(session: Session, subject: Subject, events: Sequence[Event], last_id: int) -> EventPage:
    wanted = {event.facts["output_id"] for event in events if event.name in _OUTPUT_NAMES}
    found = plain_outputs(session, col(Output.id).in_(wanted)) if wanted else ()
    outputs = {output.id: output for output in found}
    row, end_id = _row(session, subject), _end_id(session, subject)
    content = b"".join(_message(subject, event, outputs, row, end_id) for event in events)
    return EventPage(content, last_id, is_end=end_id in {event.id for event in events})


def _message(
    subject: Subject,
    event: Event,
    outputs: Mapping[str, PlainRow],
    row: Job | Batch | None,
    end_id: int | None,
) -> bytes:
    """Return the event as bytes; empty for an end that is no longer the end, and for a deleted output."""
    if event.name in _OUTPUT_NAMES:
        output = outputs.get(event.facts["output_id"])
        return on_the_wire("output", serializers.output_view(output), event.id) if output else b""
    if status := _STATE_NAMES[subject.table].get(event.name):
        return on_the_wire("state", _state(subject, event, status, event.facts["partial"]), event.id)
    if event.id == end_id and row is not None:
        return on_the_wire("end", _state(subject, event, row.status, row.partial), event.id)
    return b""


def _end_id(session: Session, subject: Subject) -> int | None:
    """Return the event that ended the subject, if it has ended and was not started again."""
    row = _row(session, subject)
    if row is None or row.status not in states.ENDED:
        return None
    ends = _events(subject, 0).where(col(Event.name) == _END_NAME[subject.table])
    end = session.exec(ends.order_by(col(Event.id).desc()).limit(1)).first()
    return end.id if end else None


def _state(subject: Subject, event: Event, status: str, partial: bool) -> StateEvent:
    return StateEvent(
        batch_id=subject.batch_id,
        job_id=subject.job_id,
        status=status,
        partial=partial,
        attempt_id=event.attempt_id,
        at=event.at,
    )
