"""The settings of the SQLite file."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import UniqueConstraint, create_engine
from sqlmodel import Session, SQLModel, col, delete, select

from control.app import create_app
from control.settings import load_settings
from control.store import Store, database, retention
from control.store.database import SYNCHRONOUS, for_writing
from control.store.tables import Delivery, Meta, Output
from tests.support.settings import SETTINGS


def test_writers_take_the_lock_at_the_start(engine):
    with Session(for_writing(engine)) as session, session.begin():
        session.connection()
        other = engine.raw_connection()
        other.execute("PRAGMA busy_timeout = 0")
        with pytest.raises(Exception, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.close()


def test_writers_in_many_threads_wait_for_each_other_without_polling_the_database(
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


def test_the_file_is_set_up_to_lose_nothing(settings, monkeypatch):
    monkeypatch.setattr(database, "SYNCHRONOUS", SYNCHRONOUS)
    engine = database.open_database(settings.database_url)
    with engine.connect() as connection:
        found = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    engine.dispose()
    assert found == ["wal", 2, 1]


def test_each_foreign_key_begins_an_index_so_that_no_deleted_row_has_its_whole_table_read():
    for table in SQLModel.metadata.sorted_tables:
        unique = [each for each in table.constraints if isinstance(each, UniqueConstraint)]
        begun = {next(iter(each.columns)) for each in (*table.indexes, table.primary_key, *unique)}
        assert {column for column in table.columns if column.foreign_keys} <= begun, table.name


@pytest.mark.parametrize("is_old", [False, True])
def test_removed_rows_give_their_space_back_and_an_old_file_can_be_converted(
    settings, clock, tmp_path, monkeypatch, is_old
):
    monkeypatch.setattr(database, "PAGES_AT_ONCE", 200)
    path = str(tmp_path / "of_its_own.db")
    if is_old:
        with closing(sqlite3.connect(path)) as before:
            before.execute("CREATE TABLE first (a)")
    engine = database.open_database(f"sqlite:///{path}")
    store = Store(engine, settings, clock)

    def pages() -> int:
        with engine.connect() as connection:
            return int(connection.exec_driver_sql("PRAGMA page_count").scalar())

    def filled_and_emptied() -> int:
        with store.transaction() as tx:
            tx.session.add_all(Meta(key=str(n), value="x" * 4000) for n in range(400))
        most = pages()
        with store.transaction() as tx:
            tx.session.exec(delete(Meta).where(col(Meta.value) != store.owner_id))
        return most

    most = filled_and_emptied()
    assert most > 400
    retention.give_back(store)
    if is_old:
        assert pages() > 400
        [command] = re.findall(r'python3 -c \'(.+)\'"', Path("docs/operations.md").read_text())
        exec(command.replace('\\"', '"').replace("/data/control.db", path), {})
        assert pages() < 130
        assert filled_and_emptied() > 400
        retention.give_back(store)
    assert most - 210 < pages() < most - 190, "one step gives back 200 pages"
    retention.give_back(store)
    assert pages() < 130
    engine.dispose()


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@pytest.mark.parametrize("is_old", [False, True])
def test_only_the_owner_may_read_the_database_and_its_journals(tmp_path, clock, is_old):
    folder, umask = tmp_path / "data", os.umask(0o022)
    url = f"sqlite:///{folder / 'control.db'}"
    try:
        engine = database.open_database(url)
        if is_old:
            for path in folder.iterdir():
                path.chmod(0o644)
            engine.dispose()
            engine = database.open_database(url)
        Store(engine, load_settings(**SETTINGS, database_url=url), clock).revoke_tokens()
        assert modes(folder) == dict.fromkeys(("control.db", "control.db-wal", "control.db-shm"), 0o600)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        engine.dispose()
    finally:
        os.umask(umask)


def test_the_database_of_a_newer_release_is_refused_in_words_and_not_changed(settings):
    engine = database.open_database(settings.database_url)
    with for_writing(engine).begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    engine.dispose()
    with pytest.raises(OSError, match=r"has the schema 9999, but .* Start a newer release"):
        database.open_database(settings.database_url)


def test_a_folder_at_the_path_of_the_database_is_not_changed(tmp_path):
    mode = tmp_path.stat().st_mode
    with pytest.raises(OSError, match="cannot be opened"):
        database.open_database(f"sqlite:///{tmp_path}")
    assert tmp_path.stat().st_mode == mode


def test_control_does_not_start_on_a_path_that_is_not_the_mount(tmp_path: Path):
    place = {"database_url": f"sqlite:///{tmp_path}/data/control.db", "database_mount": f"{tmp_path}/data"}
    with pytest.raises(OSError, match=r"DATABASE_MOUNT: no volume is mounted at .*data\. Attach it"):
        create_app(load_settings(**SETTINGS, **place))
    assert not list(tmp_path.iterdir()), "nothing is written to the wrong disk"
    with pytest.raises(OSError, match=r"control\.db is not on the volume at /proc\. Correct DATABASE_URL"):
        database.require_mounted(place["database_url"], "/proc")
    database.require_mounted(place["database_url"], "/")
    database.require_mounted("postgresql+psycopg://u:p@h/n", "/nowhere")


def test_the_url_of_a_batch_becomes_that_of_its_output(tmp_path):
    """A job that was queued before a deploy is delivered after it."""
    url = f"sqlite:///{tmp_path / 'control.db'}"
    older = create_engine(url)
    config = Config()
    config.set_main_option("script_location", str(database.MIGRATIONS))
    ends = {"waiting": ("queued", None), "refused": ("ready", "403"), "there": ("ready", None)}
    with older.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0016")
        for id_, (state, why) in ends.items():
            filled(connection, "batch", id=id_, output_url=f"https://host/{id_}")
            filled(connection, "source", id=id_)
            filled(connection, "job", id=id_, batch_id=id_)
            made = {"job_id": id_, "source_id": id_, "state": state, "delivery_error": why}
            filled(connection, "output", id=id_, batch_id=id_, **made)
        connection.commit()
    older.dispose()
    engine = database.open_database(url)
    with Session(engine) as session:
        assert [(row.output_id, row.url) for row in session.exec(select(Delivery))] == [
            ("waiting", "https://host/waiting")
        ]
        found = {row.id: row.delivered for row in session.exec(select(Output))}
    engine.dispose()
    assert found == {"waiting": False, "refused": False, "there": True}


def filled(connection, table: str, **values: object) -> None:
    """Write a row with these values, and something in each other column that must have a value."""
    columns = connection.exec_driver_sql(f"PRAGMA table_info({table})").all()
    for _, name, kind, is_needed, default, _ in columns:
        if is_needed and default is None and name not in values:
            values[name] = "2026-11-26 00:00:00" if kind == "DATETIME" else "{}" if kind == "JSON" else 0
    marks = ", ".join("?" * len(values))
    insert = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})"
    connection.exec_driver_sql(insert, tuple(values.values()))
