"""Opens the database: pragmas, writers that begin as writers, migrations to the newest schema."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from errno import ENOSPC
from pathlib import Path
from shutil import disk_usage
from tempfile import TemporaryFile
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError

BUSY_TIMEOUT_S = 10
CONNECTIONS_MAX = (
    80  # more than all threads that read rows (control/http/threads.py), fewer than PostgreSQL's 100
)
CHECKPOINT_TIMEOUT_S = 1
ROOM_BYTES = 1024**2


def open_database(url: str, *, leader_lock: Callable[[Engine], object] = lambda _: None) -> Engine:
    """Return an engine on the migrated database at `url`; a SQLite file is made with its folder if absent.

    Of the file and what SQLite puts beside it, only its owner may read anything: it holds users' URLs.
    `turn` is called before anything is migrated. Raises OSError when the database cannot be opened.
    """
    is_file = url.startswith("sqlite")
    engine = create_engine(url, pool_size=20, max_overflow=CONNECTIONS_MAX - 20, pool_pre_ping=not is_file)
    if is_file:
        _keep_private(Path(make_url(url).database or ""))
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", _begin)
    try:
        leader_lock(engine)
        _migrate(engine)
    except DBAPIError as error:
        raise OSError(f"DATABASE_URL: the database cannot be opened: {error.orig}") from error
    return engine


def close_database(engine: Engine) -> None:
    """Move what the write-ahead log holds into the database file, unless somebody still reads, and let go."""
    if engine.dialect.name == "sqlite":
        connection = engine.raw_connection()
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {CHECKPOINT_TIMEOUT_S * 1000}")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
    engine.dispose()


def require_writable(url: str) -> None:
    """Return if a SQLite file's folder has room for what the next commits write. Raises OSError.

    A server's disk is not seen from here.
    """
    if not url.startswith("sqlite"):
        return
    folder = Path(make_url(url).database or "").parent
    if disk_usage(folder).free < ROOM_BYTES:
        raise OSError(ENOSPC, "No room for the next commits", str(folder))
    with TemporaryFile(dir=folder) as file:  # read-only, or over its quota
        file.write(b"room?")


def for_writing(engine: Engine) -> Engine:
    """Return the engine whose transactions take the write lock at once.

    In WAL mode a read that turns into a write fails with BUSY whatever the time-out
    (https://sqlite.org/isolation.html), so a writer says that it is one from the start.
    """
    return engine.execution_options(begin="IMMEDIATE")


def _keep_private(path: Path) -> None:
    """Make the file if it is absent; SQLite gives its journals the mode that the database has."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    for kept in (path.with_name(path.name + ending) for ending in ("", "-wal", "-shm", "-journal")):
        if kept.is_file():  # an older version made them for all to read
            with suppress(PermissionError):  # somebody else's, who lets us write: theirs to decide
                kept.chmod(0o600)


def _configure(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # an acknowledged commit survives a power cut
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")  # a forgotten URL is not to stay in a free page
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")


def _begin(connection: Connection) -> None:
    mode = connection.get_execution_options().get("begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")


def _migrate(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[1] / "migrations"))
    with for_writing(engine).connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
