"""Requests in progress and the last one: control ends only when there is none, and takes none afterwards."""

from __future__ import annotations

import anyio
import httpx
import pytest
from starlette.types import Receive, Scope, Send

from control.http import activity as module
from control.http.activity import Activity, CountRequests


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, as its only item."""
    at = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: at[0])
    return at


def test_a_request_in_progress_keeps_control_awake_and_the_time_counts_from_its_end(now: list[float]) -> None:
    activity = Activity()
    assert activity.idle_since() == 100
    now[0] += 5
    assert activity.begin()
    assert activity.idle_since() is None
    assert not activity.close(idle_since=100)
    now[0] += 1000
    activity.end()
    assert activity.idle_since() == now[0]
    assert activity.begin(), "it was not closed"
    activity.end()
    assert activity.close(idle_since=now[0])
    assert not activity.begin()


def test_a_request_that_came_while_control_read_its_rows_keeps_it_open(now: list[float]) -> None:
    activity = Activity()
    since = activity.idle_since()
    assert since is not None
    now[0] += 5
    assert activity.begin()
    activity.end()
    now[0] += 1000  # the read took longer than any STOP_WHEN_IDLE_S
    assert not activity.close(idle_since=since)
    assert activity.begin()


@pytest.mark.parametrize(
    ("path", "is_counted"), [("/api/batches", True), ("/", True), ("/api/health", False), ("/metrics", False)]
)
def test_health_checks_and_metrics_do_not_count_and_are_never_refused(path: str, is_counted: bool) -> None:
    activity, seen = Activity(), []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(activity._in_progress)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    async def answers() -> tuple[httpx.Response, httpx.Response]:
        transport = httpx.ASGITransport(CountRequests(inner, activity=activity))
        async with httpx.AsyncClient(transport=transport, base_url="http://c") as client:
            first = await client.get(path)
            activity.close(idle_since=activity.idle_since() or 0.0)
            return first, await client.get(path)

    first, second = anyio.run(answers)
    assert first.status_code == 204
    assert seen[0] == is_counted
    assert second.status_code == (503 if is_counted else 204)
    assert second.headers.get("Retry-After") == ("1" if is_counted else None)
    assert activity._in_progress == 0
