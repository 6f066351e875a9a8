"""Two controls on one PostgreSQL: one is active, the other waits for its end, and both never write."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy import make_url

from tests.support.postgres import Postgres
from tests.support.processes import until
from tests.support.settings import SETTINGS
from tests.support.stack import PASSWORD, Part, free_port

pytestmark = pytest.mark.peer


class Control(Part):
    """A control that needs neither bucket nor Fly, since no request needs them."""

    def __init__(self, folder: Path, database_url: str) -> None:
        folder.mkdir()
        self.folder, self.port = folder, free_port()
        env = {name.upper(): value for name, value in SETTINGS.items()}
        env |= {"AUTH_PASSWORD": PASSWORD, "DATABASE_URL": database_url}
        super().__init__(folder, "serve", "--host", "127.0.0.1", "--port", self.port, env=env)

    @property
    def log(self) -> str:
        return "".join(path.read_text() for path in self.folder.glob("*.log"))

    def answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/api/health").status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture
def database(postgres: Postgres) -> str:
    return postgres.database()


@pytest.fixture
def pair(tmp_path: Path, database: str) -> Iterator[tuple[Control, Control]]:
    first, second = (Control(tmp_path / name, database) for name in ("first", "second"))
    try:
        first.start()
        second.begin()
        until(lambda: "standing_by" in second.log)
        yield first, second
    finally:
        for control in (first, second):
            control.kill()


def test_a_second_control_waits_until_the_first_is_killed(pair):
    first, second = pair
    assert first.answers()
    assert not second.answers()
    first.kill()
    second.ready()
    assert second.answers()


def test_a_second_control_takes_over_when_the_first_stops(pair):
    first, second = pair
    assert first.stop() == 0
    second.ready()


def test_a_control_that_lost_its_lock_exits_before_it_writes_beside_the_new_one(pair, database):
    first, second = pair
    token = httpx.post(f"http://127.0.0.1:{first.port}/api/auth", json={"password": PASSWORD}).json()["token"]
    os.kill(first.pid, signal.SIGSTOP)
    free_the_lock(database)
    second.ready()
    os.kill(first.pid, signal.SIGCONT)
    with pytest.raises(httpx.TransportError):
        httpx.post(
            f"http://127.0.0.1:{first.port}/api/auth/revoke",
            headers={"Authorization": f"Bearer {token}"},
            timeout=30,
        )
    until(lambda: not first.runs)
    assert "superseded_by_another_control" in first.log
    assert second.answers()


def free_the_lock(database: str) -> None:
    """End the server's session that holds the lock, as the server does with a client that it cannot reach."""
    url = make_url(database)
    with psycopg.connect(
        host=str(url.query["host"]), user="postgres", dbname=url.database, autocommit=True
    ) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        )
