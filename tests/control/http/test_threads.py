"""Each class of routes has its own threads: a call that hangs or a flood in one does not delay another."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Depends

from control import app as wiring
from control.domain.errors import Code, ControlError
from control.http import server, threads
from control.http.threads import BATCHES, BUCKET, REPORTS, SHARED, Threads, require_threads
from control.routes import health, shares
from control.store import queue
from control.store.database import CONNECTIONS_MAX
from control.store.leases import Leases
from control.views.batches import Views
from infra.local.serve import serving
from infra.ports import NotStarted, Unanswered
from runner.contract import Heartbeat
from tests.support.processes import until
from tests.support.rows import finished, ready
from tests.support.settings import SETTINGS

pytestmark = pytest.mark.peer

UPLOAD = {"name": "a.mp4", "size_bytes": 1000, "content_type": "video/mp4"}
QUIET = {"seq": 1, "outputs": []}
TOO_LONG_S = 3.5  # a runner waits 4 s for the answer to a beat


@dataclass
class Frozen:
    """A bucket that accepts every call and answers none until it thaws; then all calls fail."""

    thaws: threading.Event = field(default_factory=threading.Event)

    def _call(self, *_: Any, **__: Any) -> Any:
        self.thaws.wait(30)
        raise Unanswered("away")

    check = head = start_multipart = list_parts = list_objects = list_multiparts = _call
    complete_multipart = abort_multipart = delete = delete_many = read = _call

    def sign_get(self, key: str, **_: Any) -> str:
        return f"http://bucket.test/{key}"

    def sign_put(self, key: str, **_: Any) -> tuple[str, dict[str, str]]:
        return f"http://bucket.test/{key}", {}

    def sign_download(self, key: str, **_: Any) -> str:
        return f"http://bucket.test/{key}"


@dataclass
class World:
    """A served control whose bucket is frozen, and many clients."""

    http: httpx.Client
    rows: Any
    signer: Any
    pool: ThreadPoolExecutor

    def many(self, count: int, method: str, path: str, **content: Any) -> list[Future[httpx.Response]]:
        """Start `count` calls and return when they have arrived."""
        calls = [self.pool.submit(self.http.request, method, path, **content) for _ in range(count)]
        wait(calls, timeout=1)
        return calls

    def beats_with_outputs(self, attempt_id: str, count: int) -> list[Future[httpx.Response]]:
        """Start heartbeats that report the outputs of an attempt as ready."""
        made = [ready(output.id) for output in self.rows.outputs(attempt_id.partition("-")[0])]
        news = Heartbeat(seq=1, outputs=made).model_dump(mode="json")
        token = {"Authorization": f"Bearer {self.signer.attempt_token(attempt_id)}"}
        path = f"/runner/attempts/{attempt_id}/heartbeat"
        return [self.pool.submit(self.http.post, path, json=news, headers=token) for _ in range(count)]

    def runner(self, attempt_id: str, call: str, body: dict[str, Any]) -> float:
        """Call as a runner does. Return how long the answer took, in seconds."""
        began = time.monotonic()
        answer = self.http.post(
            f"/runner/attempts/{attempt_id}/{call}",
            json=body,
            headers={"Authorization": f"Bearer {self.signer.attempt_token(attempt_id)}"},
        )
        assert answer.status_code == 200, answer.text
        return time.monotonic() - began

    def attempt(self) -> str:
        job_id = self.rows.submit()
        queue.start(self.rows.store, ["runners"])
        return f"{job_id}-1"


@contextmanager
def serving_with(settings, rows, context, monkeypatch, bucket) -> Iterator[World]:
    monkeypatch.setattr(wiring, "storage_of", lambda *_: bucket)
    with (
        serving(wiring.create_app(settings.model_copy(update={"fly_api_url": "http://127.0.0.1:9"}))) as url,
        httpx.Client(base_url=url, timeout=30, limits=httpx.Limits(max_connections=None)) as http,
        ThreadPoolExecutor(200) as pool,
    ):
        token = http.post("/api/auth", json={"password": SETTINGS["auth_password"]}).json()["token"]
        http.headers["Authorization"] = f"Bearer {token}"
        try:
            # Rows of the served control's own time: it removes sources that are old and unused.
            yield World(http, replace(rows, clock=lambda: datetime.now(UTC)), context.signer, pool)
        finally:
            bucket.thaws.set()


@pytest.fixture
def world(settings, rows, context, monkeypatch) -> Iterator[World]:
    with serving_with(settings, rows, context, monkeypatch, Frozen()) as world:
        yield world


def test_uploads_that_wait_for_a_frozen_bucket_delay_no_claim_no_beat_and_no_health_check(world):
    attempt_id = world.attempt()
    waiting = world.many(45, "POST", "/api/uploads", json=UPLOAD)
    assert world.runner(attempt_id, "claim", {"machine_id": "m1"}) < TOO_LONG_S
    assert world.runner(attempt_id, "heartbeat", QUIET) < TOO_LONG_S
    assert world.http.get("/api/health").status_code == 200
    assert world.http.get("/api/batches").status_code == 200
    assert sum(not call.done() for call in waiting) == BUCKET.total


def test_an_upload_that_finds_no_thread_is_refused_at_once_with_retry_after(world):
    waiting = world.many(BUCKET.total + 5, "POST", "/api/uploads", json=UPLOAD)
    until(lambda: sum(call.done() for call in waiting) == 5)
    for answer in [call.result() for call in waiting if call.done()]:
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) >= 1


def test_heartbeats_that_wait_for_a_frozen_bucket_delay_no_other_heartbeat(world):
    quiet, *others = [world.attempt() for _ in range(1 + (REPORTS.total + 30) // 2)]
    for number, attempt_id in enumerate((quiet, *others)):
        world.runner(attempt_id, "claim", {"machine_id": f"m{number}"})
    beats = [beat for attempt_id in others for beat in world.beats_with_outputs(attempt_id, 2)]
    wait(beats, timeout=0.5)  # until they have arrived
    assert world.runner(quiet, "heartbeat", QUIET) < TOO_LONG_S
    done, _ = wait(beats, timeout=REPORTS.patience_s + 2)
    assert len(done) == 30, "they found no thread, and extend the lease nevertheless"
    assert all(beat.result().json()["continue"] for beat in done)
    reported = {beat.result().request.url.path.split("/")[3].partition("-")[0] for beat in done}
    states = {output.state for job_id in reported for output in world.rows.outputs(job_id)}
    assert states == {"running"}


def test_calls_that_wait_for_a_frozen_bucket_have_extended_the_lease_before(world, monkeypatch):
    attempt_id, extended = world.attempt(), []
    world.runner(attempt_id, "claim", {"machine_id": "m1"})
    monkeypatch.setattr(Leases, "extend", lambda _, id_, __: extended.append(id_))
    made = [ready(output.id) for output in world.rows.outputs(attempt_id.partition("-")[0])]
    messages = {"heartbeat": Heartbeat(seq=1, outputs=made), "finish": finished(*made)}
    for count, (call, message) in enumerate(messages.items(), start=1):
        waiting = world.pool.submit(world.runner, attempt_id, call, message.model_dump(mode="json"))
        until(lambda count=count: extended == [attempt_id] * count)
        assert not waiting.done()


def test_readiness_checks_by_strangers_delay_no_heartbeat(world, monkeypatch):
    monkeypatch.setattr(health, "FIRST_S", 2.0)
    attempt_id = world.attempt()
    world.runner(attempt_id, "claim", {"machine_id": "m1"})
    asked = world.many(100, "GET", "/api/ready")
    assert world.runner(attempt_id, "heartbeat", QUIET) < TOO_LONG_S
    assert world.http.get("/api/health").status_code == 200
    answers = [call.result(timeout=30) for call in asked]
    assert {answer.status_code for answer in answers} == {503}
    assert {answer.json()["parts"]["storage"] for answer in answers} == {"does not answer"}


def test_strangers_who_look_at_shared_batches_delay_nobody_else_and_are_counted(world, monkeypatch):
    may_end = threading.Event()
    monkeypatch.setattr(shares, "shared", lambda *_: may_end.wait(30) and None)
    attempt_id = world.attempt()
    world.runner(attempt_id, "claim", {"machine_id": "m1"})
    with httpx.Client(base_url=world.http.base_url, limits=httpx.Limits(max_connections=None)) as stranger:
        looks = [world.pool.submit(stranger.get, "/api/shared") for _ in range(shares.LOOKS.burst + 10)]
        assert world.runner(attempt_id, "heartbeat", QUIET) < TOO_LONG_S
        assert world.http.get("/api/batches").status_code == 200
        until(lambda: sum(not look.done() for look in looks) == SHARED.total)
        may_end.set()
        found = Counter(look.result(timeout=30).status_code for look in looks)
    assert found[401] == SHARED.total
    assert found[429] >= 5, "a second gives one more"
    assert found[503] == len(looks) - found[401] - found[429]


def test_only_two_whole_batches_are_in_memory_at_a_time_and_delay_nothing_else(world, monkeypatch):
    may_end, begun = threading.Event(), []

    def read(_: Views, batch_id: str) -> None:
        begun.append(batch_id)
        may_end.wait(30)
        raise ControlError(Code.NOT_FOUND, "")

    monkeypatch.setattr(Views, "batch", read)
    monkeypatch.setattr(Views, "job_ids", lambda *_: [])
    waiting = world.many(20, "GET", "/api/batches/b") + world.many(20, "POST", "/api/batches/b/cancel")
    assert world.http.get("/api/batches").status_code == 200
    assert len(begun) == BATCHES.total == 2
    may_end.set()
    assert {call.result().status_code for call in waiting} == {404}


def test_a_thread_that_computes_gives_way_to_others_soon(monkeypatch):
    seen: list[float] = []
    before = sys.getswitchinterval()
    monkeypatch.setattr(server._Server, "run", lambda *_, **__: seen.append(sys.getswitchinterval()))
    with socket.socket() as listener, pytest.raises(NotStarted):
        server.serve(None, listener, on_ready=lambda: None, on_stop=lambda: None)
    sys.setswitchinterval(before)
    assert seen == [pytest.approx(0.001)]


def test_a_route_without_threads_of_its_own_is_refused_at_the_start():
    router = APIRouter()

    @router.get("/forgotten")
    def forgotten() -> None: ...

    with pytest.raises(TypeError, match="/forgotten"):
        require_threads(router)


def test_a_dependency_without_threads_of_its_own_is_refused_at_the_start():
    def forgotten() -> None: ...

    router = APIRouter(dependencies=[Depends(forgotten)], route_class=BUCKET.route)

    @router.get("/guarded")
    def guarded() -> None: ...

    with pytest.raises(TypeError, match="forgotten"):
        require_threads(router)


def test_all_threads_together_find_a_connection_to_the_database():
    classes = [each for each in vars(threads).values() if isinstance(each, Threads)]
    passes, forms = 4, 2
    assert sum(each.total for each in classes) - REPORTS.total + passes + forms < CONNECTIONS_MAX
