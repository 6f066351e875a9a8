"""How the SQLite file is set up."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlmodel import Session

from control import database
from control.database import for_writing
from control.store import Store
from control.tables import Meta


def test_writers_take_the_lock_at_the_start(engine):
    with Session(for_writing(engine)) as session, session.begin():
        session.connection()
        other = engine.raw_connection()
        other.execute("PRAGMA busy_timeout = 0")
        with pytest.raises(Exception, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()


def test_writers_of_many_threads_wait_for_each_other_without_asking_the_database(
    settings, clock, monkeypatch
):
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0)
    engine = database.open_database(settings.database_url)
    store = Store(engine, settings, clock)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: store.revoke_tokens(), range(80)))
    with Session(engine) as session:
        assert session.get_one(Meta, "token_generation").value == "80"
    engine.dispose()


def test_the_file_is_set_up_to_lose_nothing(engine):
    with engine.connect() as connection:
        settings = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert settings == ["wal", 2, 1]
