"""The list of machines comes from the ledger; only a reap calls Fly."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from inspect import unwrap

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from control.domain.errors import ControlError
from control.http.errors import STATUS
from control.passes.launch import launch
from control.passes.observe import observe
from control.routes import machines as api
from infra.local.serve import serving
from infra.ports import Machine, Unanswered


@pytest.fixture
def routes(context):
    async def anybody() -> None: ...

    return api.routes(context, anybody)


@pytest.fixture
def shown(routes):
    return unwrap(next(route.endpoint for route in routes.routes if route.name == "machines"))


def look_again(context) -> None:
    context.cloud.observed_at = None
    observe(context)


def add_orphan(context, machines) -> None:
    machines.machines["orphan"] = Machine(
        app="runners",
        id="o1",
        name="orphan",
        state="started",
        region="iad",
        created_at=context.clock(),
        metadata={"owner": context.store.owner_id, "attempt": "job_deleted-1"},
    )


def test_machines_are_shown_with_their_jobs_and_orphans_without_asking_fly(context, rows, machines, shown):
    job_id = rows.submit()
    launch(context)
    add_orphan(context, machines)
    look_again(context)
    asked = machines.lists
    machines.is_away = Unanswered("away")
    for _ in range(50):
        items = {item.machine_id: item for item in shown().items}
    assert machines.lists == asked
    assert {id_: (item.job_id, item.orphan) for id_, item in items.items()} == {
        "m1": (job_id, False),
        "o1": (None, True),
    }


def test_a_machine_that_is_gone_is_not_shown(context, machines, shown):
    add_orphan(context, machines)
    look_again(context)
    assert len(shown().items) == 1
    machines.change("orphan", state="destroyed")
    look_again(context)
    assert shown().items == []


def test_somebody_who_looks_while_all_is_idle_sees_what_has_changed_soon(context, machines, shown):
    look_again(context)
    look_again(context)
    assert shown().items == []
    add_orphan(context, machines)
    context.clock.forward(3)
    observe(context)
    assert len(shown().items) == 1
    machines.change("orphan", state="destroyed")
    context.clock.forward(3)
    observe(context)
    assert shown().items == []


def test_the_answer_says_how_old_it_is(context, machines, shown):
    assert shown().observed_at is None, "nothing was seen yet"
    observe(context)
    seen_at = context.clock()
    assert shown().observed_at == seen_at
    machines.is_away = Unanswered("away")
    context.clock.forward(100)
    look_again(context)
    assert shown().observed_at == seen_at


def test_a_reap_asks_fly_once_and_a_second_one_meanwhile_is_told_to_come_again(
    context, machines, routes, monkeypatch
):
    add_orphan(context, machines)
    begun, go_on, real = threading.Event(), threading.Event(), machines.list

    def slow(app, metadata):
        begun.set()
        assert go_on.wait(30)
        return real(app, metadata)

    monkeypatch.setattr(machines, "list", slow)
    app = FastAPI()
    app.include_router(routes)
    app.add_exception_handler(ControlError, lambda _, e: JSONResponse(e.code, STATUS[e.code], e.headers))
    with serving(app) as url, ThreadPoolExecutor(1) as pool:
        reap = f"{url}/api/machines/reap"
        first = pool.submit(httpx.post, reap, timeout=30)
        assert begun.wait(30)
        second = httpx.post(reap, timeout=30)
        go_on.set()
        assert [item["machine_id"] for item in first.result().json()["items"]] == ["o1"]
    assert (second.status_code, second.json()) == (503, "unavailable")
    assert "Retry-After" in second.headers
    assert (machines.lists, machines.destroyed) == (1, ["o1"])
