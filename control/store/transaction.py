"""One writing transaction: its session, its time, and how a state change and its event are written."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Executable, bindparam
from sqlmodel import Session, col, select, update

from control.domain import states
from control.domain.errors import Code, ControlError
from control.domain.ids import new_id
from control.domain.states import AttemptState, JobStatus, Trigger
from control.settings import Settings
from control.store.database import for_writing
from control.store.leases import Leases
from control.store.prepared import Moment, Prepared, Row
from control.store.session import RowSession, insert
from control.store.tables import Attempt, Batch, Event, Job, Meta, Output
from control.telemetry.log import log_event
from infra.ports import Clock


@Prepared
def _runs_on(_: Moment) -> Executable:
    mine = col(Attempt.id) == bindparam("id"), col(Attempt.state) == AttemptState.RUNNING
    return select(Attempt.claimed_by).where(*mine)


@Prepared
def _locked(_: Moment) -> Executable:
    return select(Attempt).where(col(Attempt.id) == bindparam("id")).with_for_update()


@Prepared
def _outputs(_: Moment) -> Executable:
    return select(Output).where(col(Output.job_id) == bindparam("job_id"))


class Store:
    """Opens transactions. Safe to use from any thread; one thread writes at a time.

    Control is one process (README), so a lock in this process can queue the writers. SQLite itself only polls
    for its lock: with many threads some would fail with `database is locked`.
    """

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        clock: Clock,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        fencing_token: Callable[[Session], object] = lambda _: None,
        on_commit: Callable[[], object] = lambda: None,
    ) -> None:
        self._engine, self._readers = for_writing(engine), engine
        self._on_commit = on_commit
        self._one_writer = threading.Lock()
        self._fence = fencing_token  # called first in every transaction
        self.settings = settings
        self.clock = clock  # for times that are stored
        self.monotonic = monotonic  # for durations within this process, in seconds
        self.leases = Leases(clock, monotonic)
        self.owner_id = self._owner_id()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Yield a transaction that commits when the block ends and rolls back when it raises.

        Its events are logged after the commit, so the log never shows a change that was rolled back.
        """
        with self._one_writer, self._engine.begin() as connection, RowSession(connection) as session:
            self._fence(session)
            tx = Transaction(session, self.clock(), self.settings)
            yield tx
            tx.flush()
        self._on_commit()
        for name, facts in tx.log_lines:
            log_event(name, **facts)

    def runs_on(self, attempt_id: str) -> str | None:
        """Return the machine of a running attempt, or None. Reads committed rows and waits for no writer."""
        with self._readers.connect() as connection:
            found = _runs_on.rows(connection, self.clock(), id=attempt_id)
        return next((machine_id for (machine_id,) in found), None)

    def _owner_id(self) -> str:
        """Return the id that marks machines and objects as this control's own. Created on first use."""
        with self.transaction() as tx:
            meta = tx.session.get(Meta, "owner_id")
            if meta is None:
                meta = Meta(key="owner_id", value=new_id("own")[:16])
                tx.session.add(meta)
            return str(meta.value)

    def revoke_tokens(self) -> None:
        """Make every bearer token and share link that was made so far invalid."""
        with self.transaction() as tx:
            meta = tx.session.get(Meta, "token_generation") or Meta(key="token_generation", value="0")
            meta.value = str(int(meta.value) + 1)
            tx.session.add(meta)
            shared = update(Batch).where(col(Batch.share_sha256).is_not(None))
            tx.session.exec(shared.values(share_sha256=None))


@dataclass(frozen=True)
class Transaction:
    """The session, the time and the events of one writing transaction.

    `now` is the same for everything it writes.
    """

    session: RowSession
    now: datetime
    settings: Settings
    log_lines: list[tuple[str, dict[str, Any]]] = field(default_factory=list)  # written after the commit
    events: list[dict[str, Any]] = field(default_factory=list)  # inserted at the end, in this order
    loaded_outputs: dict[str, Sequence[Output]] = field(default_factory=dict)  # by the id of their job

    def rows(self, query: Prepared, **given: object) -> Sequence[Row]:
        """Return the rows of a prepared query, with all changes so far."""
        self.session.flush()
        return query.rows(self.session.connection(), self.now, **given)

    def change(self, change: Prepared, **given: object) -> int:
        """Run a prepared UPDATE or DELETE of rows that the session has not loaded; return how many."""
        return change.change(self.session.connection(), self.now, **given)

    def attempt(self, attempt_id: str) -> Attempt:
        """Return the attempt's row, locked. Raises ControlError not_found."""
        if (found := self.find_attempt(attempt_id)) is None:
            raise ControlError(Code.NOT_FOUND, "There is no such attempt.")
        return found

    def find_attempt(self, attempt_id: str) -> Attempt | None:
        """Return the attempt's row, locked, or None: for passes, since its batch may be removed meanwhile."""
        return next(iter(self.session.load(Attempt, _locked, id=attempt_id)), None)

    def job(self, attempt: Attempt) -> Job:
        """Return the job of the attempt."""
        return self.session.get_one(Job, attempt.job_id)

    def outputs(self, job_id: str) -> Sequence[Output]:
        """Return the outputs of a job, which this transaction loads once."""
        if job_id not in self.loaded_outputs:
            self.loaded_outputs[job_id] = self.session.load(Output, _outputs, job_id=job_id)
        return self.loaded_outputs[job_id]

    def move(self, attempt: Attempt, trigger: Trigger, **facts: object) -> bool:
        """Apply `trigger` to the attempt, with its event. If it is refused, record that and return False."""
        state = states.move(AttemptState(attempt.state), trigger)
        if state is None:
            self.refuse(attempt, trigger)
            return False
        attempt.state = state
        self.event(trigger, self.job(attempt), attempt, **facts)
        return True

    def refuse(self, attempt: Attempt, trigger: Trigger) -> None:
        """Append an event: `trigger` came but is refused for this attempt."""
        job = self.job(attempt)
        self._write(trigger, {"state": attempt.state}, job.batch_id, job.id, attempt.id, accepted=False)

    def event(self, name: str, job: Job, attempt: Attempt | None = None, **facts: object) -> None:
        """Append an event of a job, and log it with the same name and fields."""
        self._write(name, facts, job.batch_id, job.id, attempt.id if attempt else None)

    def batch_event(self, name: str, batch: Batch, **facts: object) -> None:
        """Append an event of a whole batch, and log it with the same name and fields."""
        self._write(name, facts, batch.id)

    def note(self, name: str, **facts: object) -> None:
        """After the commit, write a log line that is not an event of a job or batch."""
        self.log_lines.append((name, facts))

    def set_job(self, job: Job, status: JobStatus, attempt: Attempt | None = None) -> None:
        """Set the status of the job and append the events for its event stream."""
        if job.status != status:
            job.status = status
            self.event(f"job_{status}", job, attempt, partial=job.partial)
            if status in states.ENDED:
                self.event("job_ended", job, attempt)

    def set_batch(self, batch: Batch, status: JobStatus) -> None:
        """Set the status of the batch and append the events for its event stream."""
        if batch.status != status:
            batch.status = status
            self.batch_event(f"batch_{status}", batch, partial=batch.partial)
            if status in states.ENDED:
                self.batch_event("batch_ended", batch)

    def flush(self) -> None:
        """Send all changes so far to the database, and then the events, which refer to rows among them."""
        self.session.flush()
        if self.events:
            insert(self.session.connection(), Event, self.events)
            self.events.clear()

    def _write(
        self,
        name: str,
        facts: dict[str, object],
        batch_id: str,
        job_id: str | None = None,
        attempt_id: str | None = None,
        *,
        accepted: bool = True,
    ) -> None:
        ids: dict[str, Any] = {"batch_id": batch_id, "job_id": job_id, "attempt_id": attempt_id}
        self.events.append({"at": self.now, "name": str(name), "accepted": accepted, "facts": facts, **ids})
        self.log_lines.append((str(name), {"accepted": accepted, **ids, **facts}))
