"""Event streams over real HTTP and with readers that misbehave, without machines."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.event import listen, remove

from control.context import AppContext
from control.domain.errors import Code, ControlError
from control.http import sse
from control.http.errors import add_error_handlers
from control.http.guard import Guard
from control.http.sse import Live
from control.routes import events
from control.store import Store, changes
from control.store.tables import Batch, Event, Output
from control.views import event_log
from control.views.event_log import NewEvents, Timeline
from control.views.progress import Subject
from infra.local.serve import serving
from tests.support.rows import Rows


class Counting(Timeline):
    """A timeline that counts what it is asked."""

    def __init__(self, *args) -> None:
        super().__init__(*args)
        self.asked = Counter[str]()

    def news(self, subjects, after):
        self.asked["news"] += 1
        return super().news(subjects, after)

    def page(self, subject, after, until):
        self.asked["page"] += 1
        return super().page(subject, after, until)


@dataclass
class World:
    """One control that streams, on rows that outlive it."""

    context: AppContext
    rows: Rows
    timeline: Counting
    live: Live

    @contextmanager
    def served(self) -> Iterator[httpx.Client]:
        app = FastAPI()
        app.include_router(events.routes(Guard(self.context), self.timeline, self.live))
        add_error_handlers(app)
        token, _ = self.context.signer.bearer(generation=0, now=self.context.clock())
        headers = {"Authorization": f"Bearer {token}"}
        with (
            serving(app, on_stop=self.live.stop) as url,
            httpx.Client(base_url=url, headers=headers, timeout=10) as http,
        ):
            yield http


@pytest.fixture
def make(context: AppContext, engine, clock) -> Callable[[], World]:
    def world() -> World:
        timeline = Counting(context.views.session, clock)
        live = Live(timeline)
        store = Store(engine, context.settings, clock, on_commit=live.poke)
        return World(replace(context, store=store), Rows(engine, store, clock), timeline, live)

    return world


@pytest.fixture
def world(make: Callable[[], World], monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(sse, "TICK_S", 0.01)
    return make()


def parsed(lines: Iterator[str]) -> Iterator[tuple[str, int | None, dict]]:
    """Yield the name, id and data of each event."""
    event: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line:
            event[name] = value
        elif "data" in event:
            yield event["event"], int(event["id"]) if "id" in event else None, json.loads(event["data"])
            event = {}


def durable(found) -> list[tuple[str, int, dict]]:
    return [event for event in found if event[1] is not None]


def address(rows: Rows, job_id: str) -> str:
    return f"/api/batches/{rows.job(job_id).batch_id}/events"


def cancel(world: World, job_id: str) -> None:
    batch_id = world.rows.job(job_id).batch_id
    changes.cancel(world.context.store, world.context.views.job_ids(Batch, batch_id))


def test_a_stream_is_resumed_without_loss_over_a_restart_of_control(make: Callable[[], World]) -> None:
    first, second = make(), make()
    with first.served() as http:
        job_id = first.rows.submit(variations=3)
        path = address(first.rows, job_id)
        with http.stream("GET", path) as answer:
            before = durable(itertools.islice(parsed(answer.iter_lines()), 2))
    cancel(second, job_id)  # while no control serves
    with second.served() as http:
        last = {"Last-Event-ID": str(before[-1][1])}
        with http.stream("GET", path, headers=last) as answer:
            after = durable(parsed(answer.iter_lines()))
        with http.stream("GET", path) as answer:
            whole = durable(parsed(answer.iter_lines()))
    assert before
    assert before + after == whole
    assert [name for name, *_ in whole] == ["state", "output", "output", "output", "state", "end"]


def test_a_shutdown_ends_open_streams_completely_and_refuses_new_ones(world: World) -> None:
    job_id = world.rows.submit()
    path = address(world.rows, job_id)
    with world.served() as http, http.stream("GET", path) as answer:
        lines = answer.iter_lines()
        assert next(parsed(lines))[0] == "progress"
        world.live.stop()
        names = [name for name, *_ in parsed(lines)]  # a stream that is cut off raises here
        assert "end" not in names
        refused = http.get(path)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")


def test_a_stream_of_many_events_is_read_page_by_page(world: World) -> None:
    job_id = world.rows.submit(sources=3, variations=100)
    cancel(world, job_id)
    with world.served() as http, http.stream("GET", address(world.rows, job_id)) as answer:
        found = durable(parsed(answer.iter_lines()))
    assert world.timeline.asked["page"] >= 3
    assert Counter(name for name, *_ in found) == {"state": 2, "output": 300, "end": 1}
    ids = [id_ for _, id_, _ in found]
    assert ids == sorted(set(ids))


# --- one broadcaster ----------------------------------------------------------------------------------


@dataclass
class Reader:
    """Stands for uvicorn; accepts nothing while it is `stuck`."""

    sent: list[bytes] = field(default_factory=list)
    stuck: bool = False
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self) -> dict:
        await self.hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(self, message) -> None:
        while self.stuck:
            await asyncio.sleep(0.005)
        self.sent.append(message.get("body", b""))
        if message["type"] == "http.response.body" and not message["more_body"]:
            self.hung_up.set()

    def events(self) -> list[tuple[str, int | None, dict]]:
        return list(parsed(iter(b"".join(self.sent).decode().split("\n"))))


async def watching(world: World, id_: str, reader: Reader) -> asyncio.Task[None]:
    opening = await asyncio.to_thread(world.timeline.open, id_)
    assert opening is not None
    stream = world.live.stream(opening, after=0)
    return asyncio.create_task(stream({"type": "http"}, reader.receive, reader.send))


async def quiet(world: World) -> Counter[str]:
    """Return what was asked once nothing is asked any more."""
    while True:
        before = world.timeline.asked.copy()
        await asyncio.sleep(0.1)
        if before and before == world.timeline.asked:
            return before


def test_a_commit_is_read_once_for_all_streams_and_idle_streams_read_nothing(world: World) -> None:
    async def run() -> None:
        jobs = [world.rows.submit() for _ in range(20)]
        readers = [Reader() for _ in jobs]
        tasks = [await watching(world, job_id, r) for job_id, r in zip(jobs, readers, strict=True)]
        before = await quiet(world)
        await asyncio.to_thread(cancel, world, jobs[0])
        await tasks[0]
        after = await quiet(world)
        assert after["page"] == before["page"], "what is new is handed out"
        assert after["news"] - before["news"] == 1
        assert readers[0].events()[-1][0] == "end"
        for reader in readers[1:]:
            reader.hung_up.set()
        await asyncio.gather(*tasks)
        await asyncio.to_thread(world.rows.submit)
        assert await quiet(world) == after, "without streams nothing is read"

    asyncio.run(run())


def test_news_that_a_round_cannot_hold_is_read_in_rounds_that_follow_by_themselves(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "NEWS_ROWS", 100)

    async def run() -> None:
        job_id = world.rows.submit(sources=3, variations=100)
        reader = Reader()
        task = await watching(world, world.rows.job(job_id).batch_id, reader)
        before = await quiet(world)
        await asyncio.to_thread(cancel, world, job_id)
        await asyncio.wait_for(task, 30)
        assert world.timeline.asked["news"] - before["news"] >= 3
        found = durable(reader.events())
        ids = [id_ for _, id_, _ in found]
        assert ids == sorted(set(ids))
        assert Counter(name for name, *_ in found) == {"state": 2, "output": 300, "end": 1}
        assert found[-1][0] == "end"

    asyncio.run(run())


def test_rounds_of_news_hold_a_limited_number_of_rows_and_together_all(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = world.rows.submit(sources=3, variations=100)
    batch_id = world.rows.job(job_id).batch_id
    cancel(world, job_id)
    subjects = [Subject(batch_id), Subject(batch_id, job_id)]
    whole = world.timeline.news(subjects, 0)
    assert whole.is_all
    monkeypatch.setattr(event_log, "NEWS_ROWS", 50)
    loaded = Counter[str]()

    def note(row: Event | Output, _: object) -> None:
        loaded[type(row).__name__] += 1

    rounds = [NewEvents(last_id=0, is_all=False, pages={}, snapshots={})]
    for table in (Event, Output):
        listen(table, "load", note)
    try:
        while not rounds[-1].is_all:
            loaded.clear()
            rounds.append(world.timeline.news(subjects, rounds[-1].last_id))
            assert loaded["Event"] <= 50 + len(subjects), "those of the round, and the end of each subject"
            assert loaded["Output"] == 0, "they are read as plain rows"
    finally:
        for table in (Event, Output):
            remove(table, "load", note)
    assert len(rounds) > 6
    assert rounds[-1].last_id == whole.last_id
    for subject in subjects:
        pages = [news.pages[subject] for news in rounds if subject in news.pages]
        assert b"".join(page.content for page in pages) == whole.pages[subject].content
        assert [page.is_end for page in pages] == [False] * (len(pages) - 1) + [True]


def test_a_stream_that_joins_while_news_is_read_for_others_misses_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, reading, go_on = world.timeline.news, threading.Event(), threading.Event()

    def news(*args):
        reading.set()
        go_on.wait(30)
        return real(*args)

    async def run() -> None:
        first, second = world.rows.submit(), world.rows.submit()
        tasks = [await watching(world, first, Reader())]
        await quiet(world)
        monkeypatch.setattr(world.timeline, "news", news)
        world.live.poke()
        await asyncio.to_thread(reading.wait, 30)
        reader = Reader()
        tasks.append(await watching(world, second, reader))
        await asyncio.sleep(0.05)  # it has joined, and read all that there was
        await asyncio.to_thread(cancel, world, second)
        go_on.set()
        await asyncio.wait_for(tasks[1], 30)
        assert [name for name, *_ in durable(reader.events())][-2:] == ["state", "end"]
        await asyncio.to_thread(cancel, world, first)
        await tasks[0]

    asyncio.run(run())


def test_a_reader_that_falls_behind_gets_the_rest_in_order_and_holds_no_memory(world: World) -> None:
    async def run() -> None:
        job_id = world.rows.submit(sources=3, variations=100)  # and another job, so that the batch stays live
        many = len(world.rows.outputs(job_id))
        reader = Reader()
        task = await watching(world, world.rows.job(job_id).batch_id, reader)
        await quiet(world)
        reader.stuck = True
        for _ in range(5):
            await asyncio.to_thread(changes.cancel, world.context.store, [job_id])
            await quiet(world)
            await asyncio.to_thread(changes.retry, world.context.store, [job_id])
        assert world.timeline.asked["page"] <= 1, "nothing is read for one who takes nothing in"
        await asyncio.to_thread(cancel, world, job_id)
        reader.stuck = False
        await task
        found = durable(reader.events())
        ids = [id_ for _, id_, _ in found]
        assert ids == sorted(set(ids))
        names = Counter(name for name, *_ in found)
        assert names == {"state": 2, "output": 5 * many + 300, "end": 1}
        assert found[-1][0] == "end"

    asyncio.run(run())


def test_a_reader_that_was_dropped_makes_room_for_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`test_stalls` shows that one who takes nothing in is dropped."""
    monkeypatch.setattr(sse, "STREAMS_MAX", 1)

    async def run() -> None:
        job_id = world.rows.submit()
        reader = Reader()
        task = await watching(world, job_id, reader)
        await quiet(world)
        opening = world.timeline.open(job_id)
        assert opening is not None
        with pytest.raises(ControlError) as refused:
            world.live.join(world.live.stream(opening, after=0), 0)
        assert refused.value.code is Code.STREAMS_FULL
        reader.stuck = True
        await asyncio.to_thread(cancel, world, job_id)
        await quiet(world)
        reader.hung_up.set()
        await task
        world.live.join(world.live.stream(opening, after=0), 0)  # there is room again

    asyncio.run(run())


def test_the_hundred_and_first_stream_is_refused_and_one_that_closes_makes_room(world: World) -> None:
    job_id = world.rows.submit()
    path = address(world.rows, job_id)
    unlimited = httpx.Limits(max_connections=None)
    with (
        world.served() as http,
        httpx.Client(base_url=http.base_url, headers=http.headers, limits=unlimited) as many,
    ):
        answers = [many.send(many.build_request("GET", path), stream=True) for _ in range(100)]
        assert {answer.status_code for answer in answers} == {200}
        refused = many.get(path)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "streams_full")
        assert int(refused.headers["retry-after"]) > 0
        for answer in answers:
            assert next(parsed(answer.iter_lines()))[0] == "progress"
            answer.close()
        cancel(world, job_id)
        with many.stream("GET", path) as answer:
            assert durable(parsed(answer.iter_lines()))[-1][0] == "end"


def test_a_silent_stream_pings(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "PING_S", 0.01)

    async def run() -> None:
        reader = Reader()
        task = await watching(world, world.rows.submit(), reader)
        while b": ping\n\n" not in reader.sent:
            await asyncio.sleep(0.01)
        reader.hung_up.set()
        await task

    asyncio.run(run())


def test_a_stream_ends_after_its_lifetime_and_its_client_reconnects(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "LIFE_S", 0.05)

    async def run() -> None:
        reader = Reader()
        await (await watching(world, world.rows.submit(), reader))
        assert "end" not in {name for name, *_ in reader.events()}

    asyncio.run(run())


def test_a_database_that_fails_for_a_moment_costs_no_event(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        job_id = world.rows.submit()
        reader = Reader()
        task = await watching(world, job_id, reader)
        await quiet(world)
        real, failures = world.timeline.news, [OSError("no disk"), OSError("no disk")]

        def news(*args):
            if failures:
                raise failures.pop()
            return real(*args)

        monkeypatch.setattr(world.timeline, "news", news)
        await asyncio.to_thread(cancel, world, job_id)
        await task
        assert [name for name, *_ in durable(reader.events())] == [
            "state",
            "output",
            "output",
            "state",
            "end",
        ]

    asyncio.run(run())
