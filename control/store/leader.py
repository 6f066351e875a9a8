"""One control is active on a PostgreSQL database; others stand by until it has ended.

Standing by is waiting for an advisory lock, which the server frees when its holder's connection ends. Being
active is also written down: whoever becomes active next fences off one that is cut off and does not know it.
On SQLite there is nobody to wait for: one process has the file.
"""

from __future__ import annotations

import os

from sqlalchemy import Connection, Engine, text
from sqlmodel import Session

from control.domain.ids import new_id
from control.store.tables import Meta
from control.telemetry.log import log_event

LOCK = 7_238_241_105  # any number, the same for every control of a database
ACTIVE = "active_control"


class LeaderLock:
    """The place of the active control: `take` it, and `leave` it at the end."""

    def __init__(self) -> None:
        self._connection: Connection | None = None

    def take(self, engine: Engine) -> None:
        """Return when no other control is active on the database. Raises DBAPIError when that is away."""
        if engine.dialect.name != "postgresql":
            return
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        if not connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}).scalar():
            log_event("standing_by")
            connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
        self._connection = connection

    def leave(self) -> None:
        """Let the next one in."""
        if self._connection is not None:
            self._connection.invalidate()  # ends the server's session, and with it the lock
            self._connection.close()
            self._connection = None


class FencingToken:
    """Lets the control through that became active last, and ends the process of any other."""

    def __init__(self, engine: Engine) -> None:
        self._is_needed = engine.dialect.name == "postgresql"
        self._mine = new_id("act")
        if self._is_needed:
            with Session(engine) as session, session.begin():
                session.merge(Meta(key=ACTIVE, value=self._mine))

    def check(self, session: Session) -> None:
        """Return if this control is the active one; until the transaction ends no other becomes it."""
        if not self._is_needed:
            return
        active = session.get_one(Meta, ACTIVE, with_for_update=True, populate_existing=True)
        if active.value != self._mine:
            log_event("superseded_by_another_control")
            os._exit(1)
