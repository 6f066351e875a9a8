"""Reserves, waits and settlements on a real SQLite file, with a fake cloud."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from importlib import import_module

import pytest
from sqlalchemy import text

from control.domain.errors import Code, ControlError
from control.domain.ids import machine_name, new_id
from control.domain.states import UNKNOWN_CREATE_TTL_S
from control.passes.launch import launch
from control.passes.observe import observe
from control.planning.planner import plan
from control.planning.schedule import Capacity
from control.routes.runner import job_spec
from control.store import Store, batches, changes, reports
from control.store import machines as ledger
from control.store.calibration import bill_ratios, speeds
from control.store.recipe import recipe_of
from control.store.tables import Attempt, Job, Source
from control.store.tables import Machine as MachineRow
from control.views.costs import costs
from infra.ports import MachineExit
from runner.contract import Finish, Reason, Timings, Usage
from tests.support.fakes import FakeMachines
from tests.support.rows import Rows, ready, seen

LIMIT_S = 3600 + 600
PER_S = 1.2731e-05  # performance-1x in iad
LIMIT_USD = (LIMIT_S + 10) * PER_S


def with_budget(context, rows: Rows, **settings: object):
    """Return the parts with these settings, in the store as well."""
    changed = context.settings.model_copy(update=settings)
    store = Store(rows.engine, changed, rows.clock)
    rows.store = store
    return replace(context, settings=changed, store=store)


def submit(rows: Rows, *, jobs: int = 1, variations: int = 2, **planned: object) -> list[str]:
    """Store a batch of so many jobs, one source each, and return them in their order."""
    capacity = Capacity(sizes=("performance-1x",), machines_max=1, outputs_max=variations)
    sources = [rows.source(f"{new_id('ad')}.mp4") for _ in range(jobs)]
    made = plan(
        sources, variations=variations, seed=7, new_id=lambda: new_id("out"), capacity=capacity, **planned
    )  # type: ignore[arg-type]
    batch_id = batches.submit(rows.store, made)
    mine = [job for job in rows.all(Job) if job.batch_id == batch_id]
    return [job.id for job in sorted(mine, key=lambda job: job.position)]


def end_machine(context, rows: Rows, machines: FakeMachines, attempt_id: str, *, ran_s: float) -> None:
    """Have the machine of an attempt run for so long and be gone."""
    name = machine_name(attempt_id)
    rows.clock.forward(ran_s)
    end = MachineExit(exit_code=0, signal=0, oom_killed=False, requested_stop=False, at=rows.clock())
    machines.change(name, state="destroyed", exit=end)
    context.cloud.observed_at = None
    observe(context)


def finish(context, rows: Rows, attempt_id: str) -> None:
    """Claim an attempt and have it make all that it was asked for."""
    attempt = rows.attempt(attempt_id)
    reports.claim(context.store, attempt_id, attempt.machine_id)
    todo = [output for output in rows.outputs(attempt.job_id) if output.state == "queued"]
    usage = Usage(wall_s=5, cpu_s=1, timings=Timings())
    message = Finish(seq=1, outcome="ok", outputs=[ready(o.id) for o in todo], usage=usage)
    reports.finish(context.store, attempt_id, message, seen(*todo))


# --- reserve ------------------------------------------------------------------------------------------


def test_without_a_budget_a_machine_gets_the_whole_limit(context, rows, machines):
    [job_id] = submit(rows)
    launch(context)
    attempt = rows.attempt(f"{job_id}-1")
    assert attempt.wall_s == LIMIT_S
    assert machines.specs[0].env["RUN_TIMEOUT_S"] == str(LIMIT_S)
    assert attempt.reserve_usd == pytest.approx(LIMIT_USD, rel=0.01)


def test_the_wall_deadline_is_what_the_money_pays_for_and_the_machine_and_its_spec_carry_it(
    context, rows, machines, storage
):
    context = replace(with_budget(context, rows, budget_usd_per_day=0.01), storage=storage)
    [job_id] = submit(rows)
    launch(context)
    attempt = rows.attempt(f"{job_id}-1")
    assert attempt.wall_s == pytest.approx(0.01 / PER_S - 10, rel=0.01)
    assert attempt.reserve_usd == pytest.approx(0.01)
    assert machines.specs[0].env["RUN_TIMEOUT_S"] == str(int(attempt.wall_s))
    reports.claim(context.store, attempt.id, "m1")
    assert job_spec(context, attempt.id).run_timeout_s == attempt.wall_s
    assert (rows.attempt(attempt.id).run_until - rows.clock()).total_seconds() == pytest.approx(
        attempt.wall_s
    )


@pytest.mark.parametrize("cap", ["budget_usd_per_day", "budget_usd_per_month"])
def test_a_job_over_the_cap_shows_that_it_waits_and_starts_when_a_machine_has_cost_less(
    context, rows, machines, cap
):
    context = with_budget(context, rows, **{cap: 0.01})
    first, second = submit(rows)[0], submit(rows)[0]
    with rows.store.transaction() as tx:  # the first has all of it
        tx.session.get_one(Job, first).estimate_s = 380.0
    launch(context)
    assert rows.job(second).status == "queued"
    assert context.views.job(second).waiting.code == "budget"
    assert "budget of $0.01" in context.views.job(second).waiting.message
    changes.cancel(context.store, [first])
    end_machine(context, rows, machines, f"{first}-1", ran_s=20)
    launch(context)
    assert rows.job(second).status == "launching"
    assert context.views.job(second).waiting is None


def test_a_machine_not_confirmed_gone_keeps_accruing_beyond_its_reserve(context, rows, machines):
    context = with_budget(context, rows, budget_usd_per_day=0.02)
    [job_id] = submit(rows)
    launch(context)
    rows.clock.forward(0.02 / PER_S)  # its host is away: it is still shown as started
    changes.cancel(context.store, [job_id])
    next_job = rows.submit()
    launch(context)
    assert rows.job(next_job).status == "queued"
    assert rows.job(next_job).waiting_code == "budget"


def test_a_new_day_has_a_new_budget_and_live_machines_count_in_it(context, rows, machines):
    context = with_budget(context, rows, budget_usd_per_day=0.01)
    first = rows.submit()
    launch(context)
    second = rows.submit()
    launch(context)
    assert rows.job(second).waiting_code == "budget"
    rows.clock.now = datetime(2026, 11, 22, 0, 0, 30, tzinfo=UTC)
    launch(context)
    assert rows.job(second).status == "queued", "yesterday's machine is not gone"
    changes.cancel(context.store, [first])
    end_machine(context, rows, machines, f"{first}-1", ran_s=0)
    rows.clock.now = datetime(2026, 11, 23, 0, 0, 30, tzinfo=UTC)
    launch(context)
    assert rows.job(second).status == "launching"


def test_a_create_during_which_control_crashed_keeps_its_money_reserved(context, rows, machines):
    context = with_budget(context, rows, budget_usd_per_day=0.01)
    machines.answers = [KeyboardInterrupt()]
    first = rows.submit()
    with pytest.raises(KeyboardInterrupt):
        launch(context)
    changes.cancel(context.store, [first])
    second = rows.submit()
    launch(context)
    assert rows.job(second).waiting_code == "budget"
    rows.clock.forward(UNKNOWN_CREATE_TTL_S + 1)
    launch(context)
    assert rows.job(second).status == "launching"


def test_jobs_that_wait_for_money_do_not_delay_a_job_that_has_some(context, rows, machines):
    capped = submit(rows, jobs=5, max_cost_usd=0.003)
    with rows.store.transaction() as tx:
        for job_id in capped:
            tx.session.get_one(Job, job_id).estimate_s = 100.0
    rows.clock.forward(1)
    free = rows.submit()
    for _ in range(4):
        launch(context)
        rows.clock.forward(1)
    assert [rows.job(job_id).status for job_id in capped].count("launching") == 1
    assert rows.job(free).status == "launching"


# --- a batch's own money ------------------------------------------------------------------------------


def test_a_batch_never_reserves_more_than_its_own_budget(context, rows, machines):
    jobs = submit(rows, jobs=4, max_cost_usd=0.02)
    for _ in range(3):
        launch(context)
        rows.clock.forward(1)
    reserved = sum(attempt.reserve_usd for attempt in rows.all(Attempt))
    assert 0.01 < reserved <= 0.02
    assert len(rows.all(Attempt)) > 1, "its jobs share it"
    assert {rows.job(job_id).waiting_code for job_id in jobs} <= {None, "budget"}


def test_a_job_whose_own_money_is_used_up_fails_and_what_is_ready_stays(context, rows, machines):
    [job_id] = submit(rows, max_cost_usd=0.002)
    launch(context)
    attempt_id = f"{job_id}-1"
    reports.claim(context.store, attempt_id, rows.attempt(attempt_id).machine_id)
    one = rows.outputs(job_id)[0]
    usage = Usage(wall_s=1, cpu_s=1, timings=Timings())
    message = Finish(seq=1, outcome="error", reason=Reason.RUN_DEADLINE, outputs=[ready(one.id)], usage=usage)
    reports.finish(context.store, attempt_id, message, seen(one))
    end_machine(context, rows, machines, attempt_id, ran_s=150)
    rows.clock.forward(60)
    launch(context)
    shown = context.views.job(job_id)
    assert (shown.status, shown.partial, shown.error.code) == ("completed", True, "budget_exceeded")
    assert [output.state for output in rows.outputs(job_id)] == ["ready", "failed"]
    assert rows.batch_of(job_id).status == "completed"


# --- submit -------------------------------------------------------------------------------------------


def test_a_submit_that_its_own_cap_cannot_pay_for_is_402_with_the_numbers(rows):
    with pytest.raises(ControlError) as refused:
        submit(rows, max_cost_usd=0.00001)
    assert refused.value.code is Code.BUDGET_EXCEEDED
    assert "$0.000010" in refused.value.message
    assert rows.all(Job) == []


def test_a_submit_that_the_day_cannot_pay_for_is_402_with_the_numbers(context, rows):
    with_budget(context, rows, budget_usd_per_day=0.0001)
    with pytest.raises(ControlError) as refused:
        submit(rows, jobs=3)
    assert refused.value.code is Code.BUDGET_EXCEEDED
    assert "budget of $0.000100" in refused.value.message


def test_work_that_has_not_ended_counts_against_the_next_submit(context, rows):
    with_budget(context, rows, budget_usd_per_day=0.0009)
    submit(rows, jobs=2)
    submit(rows, jobs=2)
    with pytest.raises(ControlError, match="for work that has not ended"):
        submit(rows, jobs=20)


# --- settle -------------------------------------------------------------------------------------------


def test_a_machine_is_settled_once_with_its_seconds_bytes_and_requests(context, rows, machines):
    [job_id] = submit(rows)
    launch(context)
    finish(context, rows, f"{job_id}-1")
    end_machine(context, rows, machines, f"{job_id}-1", ran_s=30)
    [row] = rows.all(MachineRow)
    assert (row.machine_seconds, row.outputs, row.egress_bytes, row.leaked_seconds) == (30, 2, 1000, 0)
    assert row.cost_usd == pytest.approx(30 * PER_S + 1000 * 0.02 / 1e9 + 2 * 6e-6)
    assert rows.attempt(f"{job_id}-1").cost_usd == row.cost_usd
    assert context.views.job(job_id).cost_usd == pytest.approx(row.cost_usd, abs=1e-6)


def test_costs_stay_when_the_batch_is_deleted_and_say_what_an_output_cost(context, rows, machines):
    [job_id] = submit(rows)
    launch(context)
    finish(context, rows, f"{job_id}-1")
    end_machine(context, rows, machines, f"{job_id}-1", ran_s=30)
    batch_id = rows.job(job_id).batch_id
    before = costs(context.views, context.settings, context.clock(), date(2026, 11, 1), date(2026, 11, 30))
    changes.delete(context.store, batch_id)
    changes.remove_rows(context.store, batch_id)
    after = costs(context.views, context.settings, context.clock(), date(2026, 11, 1), date(2026, 11, 30))
    assert after == before
    [day], [batch] = after.days, after.batches
    assert (day.date, day.machines, day.outputs, day.egress_bytes) == (date(2026, 11, 21), 1, 2, 1000)
    assert batch.batch_id == batch_id
    assert batch.usd_per_output == pytest.approx(batch.cost_usd / 2, abs=1e-6)
    assert after.cost_usd == day.cost_usd == batch.cost_usd


def test_a_live_machine_counts_today_with_its_cost_and_in_the_budget_with_its_reserve(
    context, rows, machines
):
    context = with_budget(context, rows, budget_usd_per_day=1.0)
    submit(rows)
    launch(context)
    rows.clock.forward(100)
    found = costs(context.views, context.settings, context.clock(), date(2026, 11, 21), date(2026, 11, 21))
    assert found.days[0].cost_usd == pytest.approx(100 * PER_S, abs=1e-6)
    assert found.budget.month is None
    assert found.budget.day.left_usd == pytest.approx(1 - found.budget.day.reserved_usd)
    assert found.budget.day.reserved_usd == pytest.approx(LIMIT_USD, rel=0.01)
    assert (
        costs(context.views, context.settings, context.clock(), date(2026, 11, 20), date(2026, 11, 20)).days
        == []
    )


def test_a_machine_that_outlives_its_attempt_is_shown_as_leaked(context, rows, machines):
    [job_id] = submit(rows)
    launch(context)
    finish(context, rows, f"{job_id}-1")
    rows.clock.forward(50)
    day = date(2026, 11, 21)
    assert costs(context.views, context.settings, context.clock(), day, day).leaked_seconds == pytest.approx(
        20
    )
    end_machine(context, rows, machines, f"{job_id}-1", ran_s=50)
    assert (
        costs(context.views, context.settings, context.clock(), day, day).leaked_seconds
        == rows.all(MachineRow)[0].leaked_seconds
        == pytest.approx(70)
    )


def test_downloads_are_counted_by_day_and_not_capped(context, rows):
    context = with_budget(context, rows, budget_usd_per_day=0.0001)
    for _ in range(2):
        ledger.count_download(context.store, 10**9)
    [day] = costs(
        context.views, context.settings, context.clock(), date(2026, 11, 21), date(2026, 11, 21)
    ).days
    assert (day.download_bytes, day.cost_usd) == (2 * 10**9, 0)


# --- bytes --------------------------------------------------------------------------------------------


def launched(context, rows: Rows) -> tuple[str, int]:
    """Return an attempt whose machine has claimed it, and how much it may send."""
    [job_id] = submit(rows)
    launch(context)
    attempt = rows.attempt(f"{job_id}-1")
    reports.claim(context.store, attempt.id, attempt.machine_id)
    return attempt.id, attempt.send_bytes_max


def report(sent_bytes: int) -> Finish:
    usage = Usage(wall_s=1, cpu_s=1, timings=Timings(), sent_bytes=sent_bytes)
    return Finish(seq=1, outcome="error", reason=Reason.RUN_DEADLINE, outputs=[], usage=usage)


def charged_bytes(context, rows: Rows, machines: FakeMachines, attempt_id: str) -> int:
    """Return what the ledger has of an attempt's bytes, its machine being gone after 30 s."""
    end_machine(context, rows, machines, attempt_id, ran_s=30)
    [row] = rows.all(MachineRow)
    others_usd = row.egress_bytes * 0.02 / 1e9 + row.outputs * 6e-6
    assert row.cost_usd == pytest.approx(30 * PER_S + others_usd, rel=1e-4)
    return row.egress_bytes


def test_the_reserve_pays_for_as_many_bytes_as_the_runner_is_allowed_to_send(
    context, rows, machines, storage
):
    attempt_id, most_bytes = launched(context, rows)
    assert job_spec(replace(context, storage=storage), attempt_id).send_bytes_max == most_bytes > 0
    attempt = rows.attempt(attempt_id)
    time_usd = (attempt.wall_s + 10) * PER_S
    assert attempt.reserve_usd == pytest.approx(time_usd + most_bytes * 0.02 / 1e9 + 2 * 6e-6, rel=1e-4)


def test_a_job_whose_shorter_video_is_done_or_refused_may_send_all_of_the_longer_one(context, rows, machines):
    sources = [rows.source("short.mp4"), rows.source("long.mp4")]
    long = replace(sources[1].source_info, duration_s=60.0)
    sources[1] = replace(sources[1], source_info=long)
    with rows.store.transaction() as tx:
        tx.session.get_one(Source, sources[1].source_id).duration_s = 60.0
    capacity = Capacity(sizes=("performance-1x",), machines_max=1, outputs_max=2)
    made = plan(sources, variations=1, seed=7, new_id=lambda: new_id("out"), capacity=capacity)
    batches.submit(rows.store, made)
    [job] = rows.all(Job)
    with rows.store.transaction() as tx:
        short = next(output for output in tx.outputs(job.id) if output.source_id == sources[0].source_id)
        short.state = "failed"
    launch(context)
    attempt = rows.attempt(f"{job.id}-1")
    [effects] = [recipe_of(o) for o in rows.outputs(job.id) if o.source_id == sources[1].source_id]
    assert attempt.send_bytes_max == pytest.approx(long.bytes_max(effects), abs=2)


@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_what_a_runner_says_that_it_sent_is_charged(context, rows, machines, share):
    attempt_id, most_bytes = launched(context, rows)
    said = int(share * most_bytes)
    reports.finish(context.store, attempt_id, report(said), {})
    assert charged_bytes(context, rows, machines, attempt_id) == said


def test_a_machine_that_ends_without_a_report_is_charged_all_bytes_that_it_could_send(
    context, rows, machines
):
    attempt_id, most_bytes = launched(context, rows)
    assert charged_bytes(context, rows, machines, attempt_id) == most_bytes


def test_a_machine_that_never_claimed_has_sent_nothing(context, rows, machines):
    [job_id] = submit(rows)
    launch(context)
    assert charged_bytes(context, rows, machines, f"{job_id}-1") == 0


def test_a_cancelled_attempt_still_reports_its_sent_bytes_once_and_is_superseded(context, rows, machines):
    attempt_id, _ = launched(context, rows)
    changes.cancel(context.store, [rows.attempt(attempt_id).job_id])
    for said in (700, 100_000):
        with pytest.raises(ControlError) as refused:
            reports.finish(context.store, attempt_id, report(said), {})
        assert refused.value.code is Code.SUPERSEDED
    assert rows.attempt(attempt_id).state == "cancelled"
    assert charged_bytes(context, rows, machines, attempt_id) == 700


def test_a_runner_that_does_not_count_is_charged_what_is_stored(context, rows, machines):
    attempt_id, _ = launched(context, rows)
    finish(context, rows, attempt_id)
    assert charged_bytes(context, rows, machines, attempt_id) == 1000


def test_a_false_count_of_bytes_uses_up_no_budget(context, rows, machines):
    attempt_id, most_bytes = launched(context, rows)
    reports.finish(context.store, attempt_id, report(2**53), {})
    assert charged_bytes(context, rows, machines, attempt_id) == most_bytes


def test_stored_outputs_are_charged_even_if_the_runner_reports_less(context, rows, machines):
    attempt_id, _ = launched(context, rows)
    one = rows.outputs(rows.attempt(attempt_id).job_id)[0]
    message = report(0).model_copy(update={"outputs": [ready(one.id)]})
    reports.finish(context.store, attempt_id, message, seen(one))
    assert charged_bytes(context, rows, machines, attempt_id) == 500


def test_a_machine_beyond_its_deadline_counts_with_its_time_and_its_bytes(context, rows, machines):
    context = with_budget(context, rows, budget_usd_per_day=1.0)
    _, most_bytes = launched(context, rows)
    rows.clock.forward(2 * LIMIT_S)
    day = date(2026, 11, 21)
    reserved_usd = costs(context.views, context.settings, context.clock(), day, day).budget.day.reserved_usd
    assert reserved_usd == pytest.approx(2 * LIMIT_S * PER_S + most_bytes * 0.02 / 1e9, rel=1e-4)


def test_a_job_that_is_older_than_byte_estimates_has_no_limit(context, rows, machines):
    [job_id] = submit(rows)
    with rows.store.transaction() as tx:
        tx.session.get_one(Job, job_id).egress_bytes_max = 0.0
    launch(context)
    assert rows.attempt(f"{job_id}-1").send_bytes_max is None


def test_after_a_deploy_waiting_jobs_with_urls_have_a_reserve_for_unknown_sources(context, rows, machines):
    update = import_module("control.migrations.versions.0008_sent_bytes").ROOM_FOR_UNSEEN
    [plain], [of_url], [capped] = submit(rows), submit(rows), submit(rows, max_cost_usd=0.5)
    with rows.store.transaction() as tx:
        for job_id in (of_url, capped):
            tx.session.get_one(Source, tx.outputs(job_id)[0].source_id).url = "https://videos.example/ad.mp4"
        tx.session.flush()
        before = [rows.job(job_id).egress_bytes_max for job_id in (plain, capped)]
        tx.session.execute(text(update))
    found = [rows.job(job_id).egress_bytes_max for job_id in (plain, capped, of_url)]
    assert found == [*before, 2 * 5 * 1024**3]


# --- calibration --------------------------------------------------------------------------------------


def test_a_finished_job_updates_the_speed_of_its_size(context, rows, machines):
    [job_id] = submit(rows)
    launch(context)
    rows.clock.forward(3)
    finish(context, rows, f"{job_id}-1")
    assert rows.attempt(f"{job_id}-1").cost_usd > 0
    with context.views.session() as session:
        assert bill_ratios(session) == []  # the bill is not final
    end_machine(context, rows, machines, f"{job_id}-1", ran_s=39)
    with context.views.session() as session:
        known, ratios = speeds(session), bill_ratios(session)
    assert ratios == [rows.attempt(f"{job_id}-1").cost_usd / rows.job(job_id).estimate_usd]
    assert known.keys() == {"performance-1x"}
    assert known["performance-1x"].launch_s == 3
    again = plan(
        [rows.source()], variations=2, seed=7, new_id=lambda: new_id("out"),
        capacity=Capacity(sizes=("performance-1x",), speeds=known),
    )  # fmt: skip
    assert again.schedule.assignments[0].seconds == pytest.approx(42, rel=0.1)


def test_a_job_with_a_failed_output_updates_no_speed(context, rows, machines):
    job_id = rows.submit()
    launch(context)
    attempt_id = f"{job_id}-1"
    reports.claim(context.store, attempt_id, rows.attempt(attempt_id).machine_id)
    usage = Usage(wall_s=9, cpu_s=1, timings=Timings())
    message = Finish(seq=1, outcome="error", reason=Reason.RUNNER_CRASHED, outputs=[], usage=usage)
    reports.finish(context.store, attempt_id, message, {})
    end_machine(context, rows, machines, attempt_id, ran_s=39)
    with context.views.session() as session:
        assert speeds(session) == {}
        assert bill_ratios(session) == []
