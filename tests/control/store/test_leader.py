"""Two controls on one PostgreSQL: one is active, the other waits for its end, and both never write."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session

from control.auth.tokens import Signer
from control.domain.ids import machine_name
from control.settings import load_settings
from control.store import Store
from control.store.database import open_database
from control.store.leader import ACTIVE, FencingToken
from control.store.tables import Attempt, Event, Job, Machine, Meta
from infra.flysim.events import StartProcess
from infra.flysim.world import World
from infra.local.fly_host import utc_now
from infra.local.fly_server import create_app
from infra.local.serve import serving
from tests.support.postgres import Postgres
from tests.support.processes import until
from tests.support.rows import Rows
from tests.support.settings import SETTINGS
from tests.support.stack import PASSWORD, Part, free_port

pytestmark = pytest.mark.peer
JOBS = 2
WAIT_S = 60.0


class Control(Part):
    """A control that needs no bucket, since no request needs it."""

    def __init__(self, folder: Path, database_url: str, fly_url: str) -> None:
        folder.mkdir()
        self.folder, self.port = folder, free_port()
        env = {name.upper(): value for name, value in SETTINGS.items()}
        env |= {"AUTH_PASSWORD": PASSWORD, "DATABASE_URL": database_url, "FLY_API_URL": fly_url}
        super().__init__(folder, "serve", "--host", "127.0.0.1", "--port", self.port, env=env)

    @property
    def log(self) -> str:
        return "".join(path.read_text() for path in self.folder.glob("*.log"))

    def answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/api/health").status_code == 200
        except httpx.TransportError:
            return False


class Fly:
    """The model of Fly without processes. It takes no notice of the first create until `release` is set."""

    def __init__(self) -> None:
        self.world = World(["runners"], seed="two controls", now=utc_now())
        self.held, self.release = threading.Event(), threading.Event()
        self.creates = 0
        self._one_at_a_time = threading.Lock()

    def ask(self, request: Callable[[World], Any]) -> Any:
        with self._one_at_a_time:
            for effect in self.world.advance(utc_now()):
                if isinstance(effect, StartProcess):
                    self.world.started(effect.machine_id)
            return request(self.world)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope.get("method") == "POST":
            self.creates += 1
            if self.creates == 1:
                self.held.set()
                await asyncio.to_thread(self.release.wait, WAIT_S)
        await self.app(scope, receive, send)

    @cached_property
    def app(self) -> Any:
        return create_app(self, token=SETTINGS["fly_api_token"])  # type: ignore[arg-type]


@pytest.fixture
def fly() -> Fly:
    return Fly()


@pytest.fixture
def database(postgres: Postgres) -> str:
    return postgres.database()


@pytest.fixture
def pair(tmp_path: Path, database: str, fly: Fly) -> Iterator[tuple[Control, Control]]:
    with serving(fly) as url:
        first, second = (Control(tmp_path / name, database, f"{url}/v1") for name in ("first", "second"))
        try:
            first.start()
            second.begin()
            until(lambda: "standing_by" in second.log)
            yield first, second
        finally:
            fly.release.set()
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


def test_a_transaction_of_a_paused_control_is_ended_and_its_rows_are_free(database, monkeypatch):
    monkeypatch.setattr("control.store.database.PAUSE_MAX_S", 1)
    hurried = make_url(database).update_query_dict({"options": "-c lock_timeout=20s"})
    paused = open_database(database)
    next_one = open_database(hurried.render_as_string(hide_password=False))
    FencingToken(paused)
    with Session(paused) as session:
        session.get_one(Meta, ACTIVE, with_for_update=True)
        FencingToken(next_one)  # waits for the row
        with pytest.raises(DBAPIError):
            session.get_one(Meta, ACTIVE, populate_existing=True)
    for engine in (paused, next_one):
        engine.dispose()


def test_a_control_that_is_paused_in_a_create_and_wakes_beside_the_next_one_changes_nothing(
    pair, database, fly
):
    """It wakes when its lock has gone to the other one, and its create reaches Fly after the other's."""
    first, second = pair
    engine = open_database(database)
    rows = Rows(engine, Store(engine, load_settings(**SETTINGS), utc_now), utc_now)
    for _ in range(JOBS):
        rows.submit()
    assert fly.held.wait(WAIT_S), "the first control creates a machine"
    os.kill(first.pid, signal.SIGSTOP)
    free_the_lock(database)
    second.ready()
    until(lambda: [attempt.state for attempt in rows.all(Attempt)] == ["booting"] * JOBS)
    fly.release.set()
    os.kill(first.pid, signal.SIGCONT)
    until(lambda: not first.runs)
    assert "superseded_by_another_control" in first.log
    assert fly.creates > JOBS, "both asked for the first machine"
    names = {machine_name(attempt.id) for attempt in rows.all(Attempt)}
    assert sorted(machine.name for machine in fly.world.truth()) == sorted(names), "nothing is made twice"
    assert {machine.attempt_id for machine in rows.all(Machine)} == {each.id for each in rows.all(Attempt)}
    created = [event for event in rows.all(Event) if event.name == "machine_created"]
    assert len(created) == len(rows.all(Job)) == JOBS, "nothing is lost"
    for attempt in rows.all(Attempt):
        token = Signer(SETTINGS["token_secret"]).attempt_token(attempt.id)
        claim = httpx.post(
            f"http://127.0.0.1:{second.port}/runner/attempts/{attempt.id}/claim",
            headers={"Authorization": f"Bearer {token}"},
            json={"machine_id": attempt.machine_id},
        )
        assert claim.status_code == 200, claim.text
    engine.dispose()


def free_the_lock(database: str) -> None:
    """End the server's session that holds the lock, as the server does with a client that it cannot reach."""
    url = make_url(database)
    with psycopg.connect(
        host=str(url.query["host"]), user="postgres", dbname=url.database, autocommit=True
    ) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        )
