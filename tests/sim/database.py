"""One SQLite database in memory, reset to a template for each world: a new engine would be slow.

The core works on one connection; whoever judges reads committed rows on another. Triggers keep an
append-only trace of what rows did, which no crash of control can lose and no code of control writes.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import Engine, StaticPool, create_engine, event

from control.store.database import _begin, open_database

TRACE = """
CREATE TABLE trace (n INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT, id TEXT, a, b, c, d);
CREATE TRIGGER t_job_new AFTER INSERT ON job BEGIN
  INSERT INTO trace (what, id, a, b) VALUES ('job', new.id, NULL, new.status); END;
CREATE TRIGGER t_job AFTER UPDATE OF status ON job WHEN old.status <> new.status BEGIN
  INSERT INTO trace (what, id, a, b) VALUES ('job', new.id, old.status, new.status); END;
CREATE TRIGGER t_job_gone AFTER DELETE ON job BEGIN
  INSERT INTO trace (what, id, a) VALUES ('job', old.id, old.status); END;
CREATE TRIGGER t_attempt_new AFTER INSERT ON attempt BEGIN
  INSERT INTO trace (what, id, a, b, c) VALUES ('attempt', new.id, NULL, new.state, new.job_id); END;
CREATE TRIGGER t_attempt AFTER UPDATE OF state ON attempt WHEN old.state <> new.state BEGIN
  INSERT INTO trace (what, id, a, b, c) VALUES ('attempt', new.id, old.state, new.state, new.job_id); END;
CREATE TRIGGER t_owner AFTER UPDATE OF claimed_by ON attempt WHEN old.claimed_by IS NOT new.claimed_by BEGIN
  INSERT INTO trace (what, id, a, b) VALUES ('owner', new.id, old.claimed_by, new.claimed_by); END;
CREATE TRIGGER t_output AFTER UPDATE OF state, percent, key, etag, size_bytes, sha256 ON output BEGIN
  INSERT INTO trace (what, id, a, b, c, d) VALUES ('output', new.id, old.state, new.state,
    json_array(old.attempt_id, old.percent, old.key, old.etag, old.size_bytes, old.sha256),
    json_array(new.attempt_id, new.percent, new.key, new.etag, new.size_bytes, new.sha256)); END;
CREATE TRIGGER t_gone AFTER UPDATE OF gone_at ON machine WHEN old.gone_at IS NOT new.gone_at BEGIN
  INSERT INTO trace (what, id, a, b) VALUES ('gone', new.id, old.gone_at, new.gone_at); END;
CREATE TRIGGER t_cost AFTER UPDATE OF machine_seconds, cost_usd ON machine
  WHEN old.gone_at IS NOT NULL
    AND (old.machine_seconds <> new.machine_seconds OR old.cost_usd <> new.cost_usd)
BEGIN INSERT INTO trace (what, id, a, b) VALUES ('cost', new.id, old.cost_usd, new.cost_usd); END;
CREATE TRIGGER t_ledger AFTER DELETE ON machine BEGIN
  INSERT INTO trace (what, id) VALUES ('unledgered', old.id); END;
CREATE TRIGGER t_event AFTER INSERT ON event BEGIN
  INSERT INTO trace (what, id, a, b, c, d)
  VALUES ('event', new.id, new.job_id, new.name, new.attempt_id, new.accepted); END;
INSERT INTO source (id, name, key, size_bytes, etag, duration_s, width, height, created_at)
  VALUES ('src_1', 'ad.mp4', 'sources/1', 1000, 'e', 2.0, 320, 180, '2026-11-21 00:00:00.000000');
"""


class Database:
    """`engine` for the core, `judge` for the oracle. `reset` before each world."""

    def __init__(self) -> None:
        with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
            path = f"{folder}/template.db"
            open_database(f"sqlite:///{path}").dispose()
            self._template = sqlite3.connect(":memory:", check_same_thread=False)
            migrated = sqlite3.connect(path)
            migrated.execute("PRAGMA journal_mode = DELETE")  # memory has no WAL
            migrated.backup(self._template)
            migrated.close()
        self._template.executescript(TRACE)
        url = f"file:/sim-{os.getpid()}-{id(self)}?vfs=memdb"
        self._core = sqlite3.connect(url, uri=True, check_same_thread=False, isolation_level=None)
        self.reset()
        self.judge = sqlite3.connect(url, uri=True, check_same_thread=False, isolation_level=None)
        self.engine = self._engine()
        self.reader = create_engine(
            "sqlite://", creator=lambda: self.judge, poolclass=StaticPool
        ).connect()  # without a transaction: each query sees what is committed

    def _engine(self) -> Engine:
        engine = create_engine("sqlite://", creator=lambda: self._core, poolclass=StaticPool)
        event.listen(engine, "begin", _begin)
        return engine

    def reset(self) -> None:
        """Forget all rows; the engine and its compiled statements stay."""
        assert not self._core.in_transaction
        self._template.backup(self._core)
        self._core.execute("PRAGMA foreign_keys = ON")
        self._version: int | None = None
        self._changes = 0

    @property
    def is_idle(self) -> bool:
        """True while the core has no transaction open."""
        return not self._core.in_transaction

    def version(self) -> int:
        """Return a number that changes with every commit of the core. SQLite is asked only after a change."""
        changes = self._core.total_changes
        if self._version is None or changes != self._changes or not self.is_idle:
            number = int(self.judge.execute("PRAGMA data_version").fetchone()[0])
            self._version, self._changes = (number if self.is_idle else None), changes
            return number
        return self._version

    def close(self) -> None:
        """Close every connection."""
        self.reader.close()
        self.engine.dispose()
        for connection in (self._core, self.judge, self._template):
            connection.close()
