"""Opens the database: pragmas, the write lock for writers, migrations to the newest schema."""

from __future__ import annotations

import os
import sqlite3
import unicodedata
from collections.abc import Callable
from contextlib import closing, suppress
from errno import ENOSPC
from pathlib import Path
from shutil import disk_usage
from tempfile import TemporaryFile
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url
from sqlalchemy.exc import DBAPIError

from control.store.prepared import DriverCursor

BUSY_TIMEOUT_S = 10
PAUSE_MAX_S = 10  # within a transaction on PostgreSQL; all that control does in one takes less
CONNECTIONS_MAX = 80  # more than all threads that read (http/threads.py), fewer than PostgreSQL's 100
SYNCHRONOUS = "FULL"  # a commit survives a power cut
CHECKPOINT_TIMEOUT_S = 1
ROOM_BYTES = 1024**2
PAGES_AT_ONCE = 2000  # of 4 KiB that are given back in one transaction
MIGRATIONS = Path(__file__).parents[1] / "migrations"  # the name of a file begins with its revision


def open_database(url: str, *, leader_lock: Callable[[Engine], object] = lambda _: None) -> Engine:
    """Return an engine on the migrated database at `url`. A missing SQLite file is created with its folder.

    Only the owner may read the file and the journals beside it, since they hold users' URLs. `leader_lock`
    is called before the migration. Raises OSError when the database cannot be opened.
    """
    is_file = url.startswith("sqlite")
    engine = create_engine(url, pool_size=20, max_overflow=CONNECTIONS_MAX - 20, pool_pre_ping=not is_file)
    if is_file:
        path = Path(make_url(url).database or "")
        _keep_private(path)
        _prepare(path)
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", _begin)
    if engine.dialect.name == "postgresql":
        event.listen(engine, "connect", _limit_idle)
    try:
        leader_lock(engine)
        _migrate(engine)
    except DBAPIError as error:
        raise OSError(f"DATABASE_URL: the database cannot be opened: {error.orig}") from error
    return engine


def _limit_idle(connection: Any, _: object) -> None:
    """Have the server end a transaction whose control was paused within it: the next one needs its rows."""
    connection.execute(f"SET idle_in_transaction_session_timeout = '{PAUSE_MAX_S}s'")
    connection.commit()


def close_database(engine: Engine) -> None:
    """Write the write-ahead log back into the database file, unless a reader is active; close the engine."""
    if engine.dialect.name == "sqlite":
        connection = engine.raw_connection()
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {CHECKPOINT_TIMEOUT_S * 1000}")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
    engine.dispose()


def require_mounted(url: str, mount: str | None) -> None:
    """Return if a SQLite file lies on the volume that is mounted at `mount`. Raises OSError if not.

    Without its volume control would start on an empty disk that the next restart throws away. Does nothing
    for PostgreSQL, or without a `mount`.
    """
    if mount is None or not url.startswith("sqlite"):
        return
    if not os.path.ismount(mount):
        raise OSError(f"DATABASE_MOUNT: no volume is mounted at {mount}. Attach it to this machine.")
    path = Path(make_url(url).database or "").resolve()
    if not path.is_relative_to(Path(mount).resolve()):
        raise OSError(f"DATABASE_MOUNT: {path} is not on the volume at {mount}. Correct DATABASE_URL.")


def require_writable(url: str) -> None:
    """Return if the folder of a SQLite file has space for the next commits. Raises OSError if not.

    Does nothing for PostgreSQL: the disk of a server is not visible here.
    """
    if not url.startswith("sqlite"):
        return
    folder = Path(make_url(url).database or "").parent
    if disk_usage(folder).free < ROOM_BYTES:
        raise OSError(ENOSPC, "No room for the next commits", str(folder))
    with TemporaryFile(dir=folder) as file:  # fails if it is read-only or over its quota
        file.write(b"room?")


def volume(url: str) -> tuple[int, int] | None:
    """Return the free bytes and all bytes of the disk that holds a SQLite file, or None for PostgreSQL."""
    if not url.startswith("sqlite"):
        return None
    usage = disk_usage(Path(make_url(url).database or "").parent)
    return usage.free, usage.total


def give_back(connection: Connection) -> None:
    """Return some free pages of a SQLite file to its file system, within the caller's transaction.

    Call it again for more. Does nothing for PostgreSQL, and for a file that was made before this was possible
    (docs/operations.md, "Storage is full").
    """
    if connection.dialect.name == "sqlite":
        free = int(connection.exec_driver_sql("PRAGMA freelist_count").scalar_one())
        cursor = connection.connection.cursor()
        for _ in range(min(free, PAGES_AT_ONCE)):
            cursor.execute("PRAGMA incremental_vacuum(1)")  # of a larger number the driver would do one only
        cursor.close()


def for_writing(engine: Engine) -> Engine:
    """Return the engine whose transactions take the write lock at once.

    In WAL mode a transaction that reads first and writes later can fail with BUSY, whatever the timeout
    (https://sqlite.org/isolation.html). So a writer takes the lock when it begins.
    """
    return engine.execution_options(begin="IMMEDIATE")


def _keep_private(path: Path) -> None:
    """Create the file if it is missing. SQLite gives its journals the same mode as the database file."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    for kept in (path.with_name(path.name + ending) for ending in ("", "-wal", "-shm", "-journal")):
        if kept.is_file():  # older versions created them readable for everyone
            with suppress(PermissionError):  # another user owns the file and lets us write: their decision
                kept.chmod(0o600)


def _prepare(path: Path) -> None:
    """Have a new file give back free pages (`give_back`), which only an empty one can be told."""
    if path.stat().st_size == 0:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            connection.execute("PRAGMA journal_mode = WAL")  # the first write


def _configure(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # `_begin` begins transactions, not the driver
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {SYNCHRONOUS}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")  # a removed URL must not stay in a free page
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
    connection.create_function("lower", 1, _lower, deterministic=True)


def _lower(text: str | None) -> str | None:
    """Lower a text and leave out its accents, for searches. SQLite's own function knows ASCII alone."""
    if text is None or text.isascii():
        return text and text.lower()
    letters = unicodedata.normalize("NFD", text.casefold())
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _begin(connection: Connection) -> None:
    begin = f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}"
    with DriverCursor(connection, begin) as cursor:
        cursor.execute(begin)


def _migrate(engine: Engine) -> None:
    known = sorted(path.name[:4] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
    found = _revision(engine)
    if found == known[-1]:
        return
    if found is not None and found not in known:
        raise OSError(
            f"DATABASE_URL: the database has the schema {found}, but the newest that this release knows is "
            f"{known[-1]}. Start a newer release, or restore a copy of the database from before."
        )
    from alembic import command  # an eighth of control's start-up, which most starts do not need
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with for_writing(engine).connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()


def _revision(engine: Engine) -> str | None:
    """Return the revision of the database's schema, or None for an empty database."""
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        found: str | None = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
        return found
