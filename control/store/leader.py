"""Only one control is active on a PostgreSQL database; others stand by until it ends.

A control that stands by waits for an advisory lock, which the server frees when the connection of its holder
ends. The active control also writes a fencing token: a control that has lost its connection without noticing
finds another token in its next transaction and exits. SQLite needs none of this: one process has the file.
"""

from __future__ import annotations

import os

from sqlalchemy import Connection, Engine, text
from sqlmodel import Session

from control.domain.ids import new_id
from control.store.tables import Meta
from control.telemetry.log import log_event

LOCK = 7_238_241_105  # an arbitrary number, the same for every control of a database
ACTIVE = "active_control"


class LeaderLock:
    """The lock of the active control: `take` it at the start, `leave` it at the end."""

    def __init__(self) -> None:
        self._connection: Connection | None = None

    def take(self, engine: Engine) -> None:
        """Wait until no other control is active. Raises DBAPIError when the database does not answer."""
        if engine.dialect.name != "postgresql":
            return
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        if not connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}).scalar():
            log_event("standing_by")
            connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
        self._connection = connection

    def leave(self) -> None:
        """Free the lock. Then the next control can become active."""
        if self._connection is not None:
            self._connection.invalidate()  # ends the session on the server, which frees the lock
            self._connection.close()
            self._connection = None


class FencingToken:
    """Marks the control that became active last. In any other control, `check` ends the process."""

    def __init__(self, engine: Engine) -> None:
        self._is_needed = engine.dialect.name == "postgresql"
        self._mine = new_id("act")
        if self._is_needed:
            with Session(engine) as session, session.begin():
                session.merge(Meta(key=ACTIVE, value=self._mine))

    def check(self, session: Session) -> None:
        """Return if this control is the active one; it stays so until the transaction ends. Else exit."""
        if not self._is_needed:
            return
        active = session.get_one(Meta, ACTIVE, with_for_update=True, populate_existing=True)
        if active.value != self._mine:
            log_event("superseded_by_another_control")
            os._exit(1)
