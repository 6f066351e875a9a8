"""A wall clock that jumps makes nothing in control wait, end or start."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from control import app as wiring
from control.clock import SETTLED_S, SteadyClock
from control.domain.ids import machine_name
from control.domain.states import UNKNOWN_CREATE_TTL_S
from control.passes.launch import launch
from control.passes.observe import EVERY_IDLE_S, observe
from control.passes.reap import ASK_AGAIN_AFTER, EXIT_GRACE, reap
from control.passes.retention import expire, forget
from control.passes.watch import LEARN_EVERY_S, watch
from control.planning import boots
from control.settings import load_settings
from control.store import Store, changes, queue, reports
from control.store.alive import possibly_alive
from control.store.tables import Job, Output
from control.store.tables import Machine as MachineRow
from infra.local.serve import serving
from infra.ports import Refusal, Refused, Unanswered
from runner.contract import Reason
from tests.control.passes.test_passes import claimed, tick
from tests.support.fakes import Clock, FakeMachines
from tests.support.rows import Rows, finished, ready, seen
from tests.support.settings import SETTINGS

JUMPS = [30 * 3600, -30 * 3600, 600, -600]


@pytest.fixture
def world(context, rows: Rows, machines: FakeMachines):
    return context, rows, machines


# --- the clock itself -----------------------------------------------------------------------------------


@pytest.fixture
def steady(clock: Clock) -> SteadyClock:
    return SteadyClock(clock, clock.monotonic)


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_jump_for_a_moment_is_not_seen(clock, steady, jump_s):
    begun = steady()
    for second in range(1, 200):
        clock.forward(1)
        if second % 20 == 0:
            clock.jump(jump_s)
        if second % 20 == 5:
            clock.jump(-jump_s if second > 5 else 0)
        assert steady() == begun + timedelta(seconds=second)


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_step_of_the_clock_is_followed_when_it_has_lasted(clock, steady, caplog, jump_s):
    caplog.set_level("INFO", logger="control")
    begun = steady()
    clock.jump(jump_s)
    for second in range(int(SETTLED_S) + 1):
        assert steady() == begun + timedelta(seconds=second) + timedelta(
            seconds=jump_s if second == SETTLED_S else 0
        )
        clock.forward(1)
    assert steady() == clock()
    assert "clock_set" in caplog.text


def test_a_clock_that_keeps_jumping_is_not_followed_before_it_settles(clock, steady):
    begun = steady()
    for second in range(200):
        assert steady() == begun + timedelta(seconds=second)
        clock.forward(1)
        clock.jump(10)
    for _ in range(int(SETTLED_S) + 2):
        steady()
        clock.forward(1)
    assert steady() == clock()


@pytest.mark.parametrize("step_s", [1.5, -1.5])
def test_small_steps_are_followed_at_once(clock, steady, step_s):
    for _ in range(100):
        clock.forward(1)
        clock.jump(step_s)
        assert steady() == clock()


@pytest.fixture
def wall(monkeypatch) -> Clock:
    """The machine's clock, as control's wiring reads it."""
    wall = Clock(datetime.now(UTC))
    monkeypatch.setattr(wiring, "_now", wall)
    return wall


def test_all_of_control_uses_the_steady_clock(tmp_path, wall):
    settings = load_settings(**SETTINGS, database_url=f"sqlite:///{tmp_path / 'control.db'}")
    begun = wall()
    with serving(wiring.create_app(settings)) as url, httpx.Client(base_url=url) as http:
        wall.jump(30 * 3600)
        signed_in = http.post("/api/auth", json={"password": SETTINGS["auth_password"]}).json()
        assert datetime.fromisoformat(signed_in["expires_at"]) < begun + timedelta(hours=25)
        http.headers["Authorization"] = f"Bearer {signed_in['token']}"
        days = http.get("/api/costs").raise_for_status().json()["days"]
        assert {day["date"] for day in days} <= {begun.date().isoformat()}


# --- what this process paces and times ------------------------------------------------------------------


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_jump_does_not_change_when_the_cloud_is_observed(world, jump_s):
    parts, rows, machines = world
    observe(parts)
    for _ in range(3):
        rows.clock.jump(jump_s)
        rows.clock.forward(5)
        observe(parts)
        rows.clock.jump(-jump_s)
        rows.clock.forward(EVERY_IDLE_S - 5)
        observe(parts)
    assert machines.lists == 4


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_jump_neither_ends_nor_extends_an_attempt(world, jump_s):
    parts, rows, _ = world
    _, attempt_id = claimed(parts, rows)
    tick(parts)
    rows.clock.jump(jump_s)
    for _ in range(5):
        rows.clock.forward(1)
        tick(parts)
    assert rows.attempt(attempt_id).state == "running"
    rows.clock.jump(-jump_s)
    rows.clock.forward(parts.settings.lease_s - 6)
    tick(parts)
    assert rows.attempt(attempt_id).state == "running"
    rows.clock.forward(2)
    tick(parts)
    assert rows.attempt(attempt_id).reason == "lease_expired"


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_jump_does_not_move_the_boot_deadline(world, jump_s):
    parts, rows, _ = world
    job_id = rows.submit()
    launch(parts)
    watch(parts)
    rows.clock.jump(jump_s)
    rows.clock.forward(parts.settings.boot_timeout_s - 1)
    watch(parts)
    assert rows.attempt(f"{job_id}-1").state == "booting"
    rows.clock.forward(2)
    watch(parts)
    assert rows.attempt(f"{job_id}-1").reason == "boot_deadline"


def test_a_boot_deadline_that_is_learned_anew_after_a_jump_counts_from_the_create(world, monkeypatch):
    parts, rows, _ = world
    job_id = rows.submit()
    launch(parts)
    watch(parts)
    rows.clock.jump(3600)
    monkeypatch.setattr(boots, "deadline_s", lambda *_, **__: 170.0)
    rows.clock.forward(LEARN_EVERY_S)
    watch(parts)
    assert rows.attempt(f"{job_id}-1").state == "booting"
    rows.clock.forward(171 - LEARN_EVERY_S)
    watch(parts)
    assert rows.attempt(f"{job_id}-1").reason == "boot_deadline"


@pytest.mark.parametrize("jump_s", [30 * 3600, 600])
def test_a_claim_that_comes_while_the_clock_is_ahead_has_an_ordinary_run_deadline(world, jump_s):
    parts, rows, _ = world
    rows.clock.jump(jump_s)
    _, attempt_id = claimed(parts, rows)
    rows.clock.jump(-jump_s)
    for left_s, state in ((parts.settings.run_timeout_s, "running"), (2, "failed")):
        watch(parts)
        parts.store.leases.extend(attempt_id, timedelta(hours=2))  # it beats
        rows.clock.forward(left_s)
        watch(parts)
        assert rows.attempt(attempt_id).state == state


def test_after_a_restart_leases_count_by_the_rows_and_the_grace_period(world):
    parts, rows, _ = world
    _, attempt_id = claimed(parts, rows)
    store = Store(rows.engine, parts.settings, rows.clock, monotonic=rows.clock.monotonic)
    again = replace(parts, store=store)
    again.cloud.started_at = rows.clock.monotonic()
    for _ in range(2):
        tick(again)
        assert rows.attempt(attempt_id).state == "running"
        rows.clock.jump(30 * 3600)
    rows.clock.forward(2 * parts.settings.lease_s + 1)
    tick(again)
    assert rows.attempt(attempt_id).reason == "lease_expired"


# --- rows that were written while the clock was ahead ---------------------------------------------------

AHEAD_S = 30 * 3600


def test_a_job_that_a_clock_ahead_delayed_starts(world):
    parts, rows, machines = world
    rows.clock.jump(AHEAD_S)
    job_id, attempt_id = claimed(parts, rows)
    reports.finish(parts.store, attempt_id, finished(outcome="error", reason=Reason.RUNNER_CRASHED), {})
    rows.clock.jump(-AHEAD_S)
    launch(parts)
    assert rows.job(job_id).status == "launching"
    assert len(machines.specs) == 2


@pytest.mark.parametrize("answer", [Unanswered("cut"), Refused(Refusal.CAPACITY, "full")])
def test_a_create_that_a_clock_ahead_delayed_is_sent_again(world, answer):
    parts, rows, machines = world
    rows.clock.jump(AHEAD_S)
    machines.answers = [answer]
    job_id = rows.submit()
    launch(parts)
    rows.clock.jump(-AHEAD_S)
    launch(parts)
    assert rows.attempt(f"{job_id}-1").state == "booting"


def test_a_job_that_a_clock_ahead_delayed_starts_before_newer_ones(world):
    parts, rows, _ = world
    rows.clock.jump(AHEAD_S)
    job_id, attempt_id = claimed(parts, rows)
    reports.finish(parts.store, attempt_id, finished(outcome="error", reason=Reason.RUNNER_CRASHED), {})
    rows.clock.jump(-AHEAD_S)
    rows.clock.forward(1)
    rows.submit()
    rows.clock.forward(1)
    with parts.store.transaction() as tx:
        first = tx.session.exec(queue.waiting_longest(tx.now)).first()
        assert first is not None
        assert first.id == job_id


def test_a_place_under_the_cap_is_not_held_for_hours_by_a_clock_ahead(world):
    parts, rows, machines = world
    rows.clock.jump(AHEAD_S)
    machines.answers = [Unanswered("cut")]
    job_id = rows.submit()
    launch(parts)
    changes.cancel(parts.store, [job_id])
    rows.clock.jump(-AHEAD_S)
    rows.clock.forward(2 * UNKNOWN_CREATE_TTL_S)
    with parts.store.transaction() as tx:
        assert possibly_alive(tx) == 0


def test_a_machine_is_destroyed_again_though_a_clock_ahead_noted_the_first_time(world):
    parts, rows, machines = world
    rows.clock.jump(AHEAD_S)
    job_id, attempt_id = claimed(parts, rows)
    output_ids = [output.id for output in rows.outputs(job_id)]
    reports.finish(parts.store, attempt_id, finished(*map(ready, output_ids)), seen(*rows.outputs(job_id)))
    rows.clock.jump(-AHEAD_S)
    rows.clock.forward(EXIT_GRACE.total_seconds() + 1)
    tick(parts)
    assert machines.destroyed == ["m1"]
    rows.clock.jump(AHEAD_S)
    rows.clock.forward(ASK_AGAIN_AFTER.total_seconds() + 1)
    reap(parts)
    rows.clock.jump(-AHEAD_S)
    rows.clock.forward(ASK_AGAIN_AFTER.total_seconds() + 1)
    reap(parts)
    assert machines.destroyed == ["m1"] * 3


def test_a_deleted_batch_is_removed_even_if_a_clock_ahead_saw_its_machine_gone(world, storage):
    context, rows, machines = world
    context = replace(context, storage=storage)
    rows.clock.jump(AHEAD_S)
    job_id, attempt_id = claimed(context, rows)
    changes.delete(context.store, rows.batch_of(job_id).id)
    machines.change(machine_name(attempt_id), state="destroyed")
    tick(context)
    assert rows.all(MachineRow)[0].gone_at is not None
    rows.clock.jump(-AHEAD_S)
    forget(context)
    assert rows.all(Job) == []


def test_results_outlive_a_jump_of_the_machines_clock(world, storage, clock):
    """Retention goes by the wall: it is the steady clock that keeps a jump from it."""
    context, rows, _ = world
    steady = SteadyClock(clock, clock.monotonic)
    store = Store(rows.engine, context.settings, steady, monotonic=clock.monotonic)
    context = replace(context, storage=storage, clock=steady, store=store)
    job_id, attempt_id = claimed(context, rows)
    reports.finish(
        store, attempt_id, finished(*[ready(o.id) for o in rows.outputs(job_id)]), seen(*rows.outputs(job_id))
    )
    clock.jump(AHEAD_S)
    for _ in range(5):
        expire(context)
        clock.forward(1)
    clock.jump(-AHEAD_S)
    expire(context)
    assert rows.job(job_id).status == "completed"
    assert all(output.key for output in rows.all(Output))
