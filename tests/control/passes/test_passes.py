"""Launch and watch against a cloud that misbehaves, on a clock that the tests move."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest

from control.cloud_state import LIMIT_FOR_S
from control.domain.errors import Code, ControlError
from control.domain.ids import machine_name
from control.domain.states import UNKNOWN_CREATE_TTL_S, Trigger
from control.passes.launch import launch
from control.passes.loop import Every, Ticker, is_idle
from control.passes.observe import observe
from control.passes.reap import reap
from control.passes.retention import LATE_PUT_S, forget
from control.passes.watch import LEARN_EVERY_S, watch
from control.routes.runner import output_key
from control.store import Store, attempts, changes, leases, queue, reports
from control.store import machines as ledger
from control.store.alive import possibly_alive
from control.store.tables import Attempt, Batch, Event, Job, Output, Source
from control.store.tables import Machine as MachineRow
from control.telemetry.log import log_failure
from infra.ports import Machine, MachineExit, Refusal, Refused, Unanswered
from runner.contract import Heartbeat, OutputError, OutputFault, OutputReport, Reason
from tests.support.fakes import FakeMachines
from tests.support.rows import Rows, finished, ready, seen

ERROR = OutputError(code=OutputFault.RENDER_FAILED, message="no")


@pytest.fixture
def world(context, rows: Rows, machines: FakeMachines):
    return context, rows, machines


def tick(context) -> None:
    """Look at the cloud now, judge and reap: what the ticker does but for launching."""
    context.cloud.observed_at = None
    observe(context)
    watch(context)
    reap(context)


def exited(clock, **facts) -> MachineExit:
    plain = {"exit_code": 1, "signal": 0, "oom_killed": False, "requested_stop": False, "at": clock()}
    return MachineExit(**{**plain, **facts})


def claimed(context, rows: Rows) -> tuple[str, str]:
    job_id = rows.submit()
    launch(context)
    attempt_id = f"{job_id}-1"
    reports.claim(context.store, attempt_id, rows.attempt(attempt_id).machine_id)
    return job_id, attempt_id


# --- launch -----------------------------------------------------------------------------------------


def test_a_waiting_job_gets_a_machine_named_after_its_attempt(world):
    parts, rows, machines = world
    job_id = rows.submit()
    launch(parts)
    spec = machines.specs[0]
    assert spec.name == machine_name(f"{job_id}-1")
    assert spec.metadata["attempt"] == f"{job_id}-1"
    assert rows.attempt(f"{job_id}-1").state == "booting"
    assert rows.attempt(f"{job_id}-1").region == "iad"


def test_the_machine_gets_its_own_token_and_no_other_secret(world):
    parts, rows, machines = world
    job_id = rows.submit()
    launch(parts)
    env = machines.specs[0].env
    assert set(env) == {"CONTROL_URL", "ATTEMPT_ID", "ATTEMPT_TOKEN", "RUN_TIMEOUT_S"}
    assert parts.signer.is_attempt_token(env["ATTEMPT_TOKEN"], f"{job_id}-1")
    spec = str(machines.specs[0])
    for secret in ("secret for tests", "a password long enough", "aws_secret"):
        assert secret not in spec


def test_the_common_environment_never_replaces_the_own_values_of_a_machine(world):
    parts, rows, machines = world
    common = {"RUNNER_JAIL": "off", "ATTEMPT_ID": "another"}
    job_id = rows.submit()
    launch(dataclasses.replace(parts, machine_env=common))
    env = machines.specs[0].env
    assert (env["RUNNER_JAIL"], env["ATTEMPT_ID"]) == ("off", f"{job_id}-1")


def test_an_unanswered_create_is_repeated_with_the_same_machine(world):
    parts, rows, machines = world
    machines.answers = [Unanswered("cut"), None]
    job_id = rows.submit()
    launch(parts)
    assert rows.attempt(f"{job_id}-1").state == "launching"
    launch(parts)
    assert len(machines.specs) == 1  # not before it is due
    rows.clock.forward(5)
    launch(parts)
    assert machines.specs[0] == machines.specs[1]
    assert rows.attempt(f"{job_id}-1").state == "booting"
    assert rows.job(job_id).attempts_used == 1


@pytest.mark.parametrize("refusal", [refusal for refusal in Refusal if refusal is not Refusal.INVALID])
def test_a_fly_that_says_no_makes_the_job_wait_visibly_and_uses_up_no_attempt(world, refusal):
    context, rows, machines = world
    machines.answers = [Refused(refusal, "no")] * 20
    job_id = rows.submit()
    for _ in range(20):
        launch(context)
        tick(context)
        rows.clock.forward(60)
    assert rows.job(job_id).attempts_used == 1
    assert context.views.job(job_id).waiting.code == refusal
    launch(context)
    assert rows.attempt(f"{job_id}-1").state == "booting"
    assert context.views.job(job_id).waiting is None


def test_a_create_refused_for_an_unknown_reason_is_repeated_before_the_job_fails_with_fly_s_words(world):
    context, rows, machines = world
    machines.answers = [Refused(Refusal.INVALID, "something new")] * 100
    job_id = rows.submit()
    while rows.job(job_id).status != "failed":
        launch(context)
        if rows.job(job_id).status == "launching":
            assert "something new" in context.views.job(job_id).waiting.message
        rows.clock.forward(10)
    attempt = rows.attempt(f"{job_id}-1")
    assert (attempt.reason, attempt.detail) == ("launch_refused", "something new")
    waited_s = (attempt.ended_at - attempt.created_at).total_seconds()
    assert waited_s == context.settings.boot_timeout_s


def test_a_refusal_for_an_unknown_reason_that_ends_in_time_costs_no_job(world):
    context, rows, machines = world
    machines.answers = [
        *[Refused(Refusal.INVALID, "something new")] * 17,
        Refused(Refusal.CAPACITY, "full"),  # that was known: the time begins again
        *[Refused(Refusal.INVALID, "something new")] * 17,
    ]
    job_id = rows.submit()
    for _ in range(40):
        launch(context)
        rows.clock.forward(10)
    assert rows.attempt(f"{job_id}-1").state == "booting"


def test_an_image_that_is_not_found_for_minutes_must_be_pushed_again_and_asking_gets_rarer(world):
    context, rows, machines = world
    machines.answers = [Refused(Refusal.IMAGE_NOT_FOUND, "MANIFEST_UNKNOWN")] * 1000
    job_id = rows.submit()
    asked_at = []
    for second in range(700):
        launch(context)
        if len(machines.specs) > len(asked_at):
            asked_at.append(second)
        if second == 500:
            assert "normal for seconds after a push" in context.views.job(job_id).waiting.message
        rows.clock.forward(1)
    assert asked_at[:3] == [0, 5, 10]
    assert asked_at[-1] - asked_at[-2] == 60
    assert "push the image again" in context.views.job(job_id).waiting.message


def test_a_job_that_waits_uses_the_image_of_a_newer_release(world):
    context, rows, machines = world
    machines.answers = [Refused(Refusal.IMAGE_NOT_FOUND, "MANIFEST_UNKNOWN")]
    job_id = rows.submit()
    queue.start(context.store, ["runners"])
    newer = context.settings.model_copy(update={"runner_image": "registry.test/runner@sha256:1"})
    store = Store(rows.engine, newer, rows.clock, monotonic=rows.clock.monotonic)
    launch(replace(context, store=store, settings=newer))
    rows.clock.forward(5)
    launch(replace(context, store=store, settings=newer))
    assert machines.specs[0].image == "registry.test/runner@sha256:0"
    assert machines.specs[-1].image == rows.attempt(f"{job_id}-1").image == "registry.test/runner@sha256:1"


def test_at_the_organisation_s_limit_no_more_machines_are_started_than_it_had(world):
    context, rows, machines = world
    rows.submit()
    launch(context)
    machines.answers = [Refused(Refusal.MACHINE_LIMIT, "reached its machine limit")]
    second = rows.submit()
    launch(context)
    third = rows.submit()
    rows.clock.forward(1)
    launch(context)
    for waiting in map(context.views.job, (second, third)):
        assert waiting.waiting.code == "machine_limit"
        assert "billing@fly.io" in waiting.waiting.message, "an operator learns what to do"
    assert rows.job(third).status == "queued"
    rows.clock.forward(LIMIT_FOR_S)
    launch(context)
    assert {rows.attempt(f"{job_id}-1").state for job_id in (second, third)} == {"booting"}


def test_a_job_that_waits_for_a_machine_s_place_names_the_limit_that_holds_now(world):
    """Its own limit, then the organisation's, which control believes for a while, then its own again."""
    context, rows, _ = world
    settings = context.settings.model_copy(update={"max_machines": 2})
    store = Store(rows.engine, settings, rows.clock, monotonic=rows.clock.monotonic)
    context = replace(context, settings=settings, store=store)
    waits = [rows.submit() for _ in range(3)][-1]

    def said() -> str:
        launch(context)
        waiting = context.views.job(waits).waiting
        assert rows.job(waits).status == "queued"
        return f"{waiting.code}: {waiting.message}"

    launch(context)
    assert said().startswith("machine_cap: All 2 machines that MAX_MACHINES allows")
    context.cloud.note_limit(1, context.store.monotonic())
    assert said().startswith("machine_limit: The Fly organisation has reached its machine limit")
    rows.clock.forward(LIMIT_FOR_S)
    assert said().endswith("an operator can raise MAX_MACHINES.")


def test_a_payment_that_is_wanted_stops_launching_and_queued_jobs_say_so(world):
    context, rows, machines = world
    machines.answers = [Refused(Refusal.PAYMENT_REQUIRED, "add a payment method")]
    first = rows.submit()
    launch(context)
    second = rows.submit()
    launch(context)
    tick(context)
    assert len(machines.specs) == 1
    assert rows.job(second).status == "queued"
    assert {context.views.job(job_id).waiting.code for job_id in (first, second)} == {"payment_required"}
    rows.clock.forward(30)
    launch(context)
    launch(context)
    assert {rows.attempt(f"{job_id}-1").state for job_id in (first, second)} == {"booting"}
    assert context.cloud.blocked == {}


def test_jobs_stop_saying_that_an_operator_must_act_once_he_has_though_they_still_wait(world):
    context, rows, machines = world
    context = replace(context, settings=context.settings.model_copy(update={"max_machines": 1}))
    store = Store(rows.engine, context.settings, rows.clock, monotonic=rows.clock.monotonic)
    context = replace(context, store=store)
    machines.answers = [Refused(Refusal.PAYMENT_REQUIRED, "add a payment method")]
    for _ in range(6):
        rows.submit()
    launch(context)
    launch(context)
    assert [job.waiting_code for job in rows.all(Job)] == ["payment_required"] * 6
    rows.clock.forward(30)
    machines.answers = [Unanswered("cut")]
    launch(context)  # the probe of the app
    assert {job.waiting_code for job in rows.all(Job)} == {"unanswered", "machine_cap", None}


# --- several apps -----------------------------------------------------------------------------------


@pytest.fixture
def two_apps(world):
    context, rows, machines = world
    settings = context.settings.model_copy(update={"runner_apps": ("runners", "spare")})
    context.cloud.trusted["spare"] = 2
    return replace(context, settings=settings), rows, machines


def test_one_app_that_refuses_our_token_holds_back_neither_its_jobs_nor_the_other_app(two_apps):
    context, rows, machines = two_apps
    machines.refused_apps = {"runners"}
    jobs = [rows.submit() for _ in range(4)]
    for _ in range(5):
        launch(context)
        tick(context)
        rows.clock.forward(1)
    assert machines.specs[0].app == "runners", "an attempt has moved"
    assert {rows.attempt(f"{job_id}-1").app for job_id in jobs} == {"spare"}
    assert {rows.attempt(f"{job_id}-1").state for job_id in jobs} == {"booting"}
    assert {job.attempts_used for job in rows.all(Job)} == {1}
    assert set(context.cloud.blocked) == {"runners"}


def test_an_attempt_that_may_have_a_machine_in_a_refused_app_stays_there(two_apps):
    context, rows, machines = two_apps
    machines.answers = [Unanswered("cut")]
    job_id = rows.submit()
    launch(context)
    machines.refused_apps = {"runners"}
    rows.clock.forward(5)
    launch(context)
    assert rows.attempt(f"{job_id}-1").app == "runners"
    assert context.views.job(job_id).waiting.code == "unauthorized"


def test_after_a_start_one_app_that_refuses_or_is_silent_keeps_no_other_from_being_known(two_apps):
    context, rows, machines = two_apps
    context.cloud.trusted.clear()
    machines.silent_apps = {"runners"}
    for _ in range(2):
        tick(context)
    job_id = rows.submit()
    launch(context)
    assert (context.cloud.is_known("runners"), context.cloud.is_known("spare")) == (False, True)
    assert rows.attempt(f"{job_id}-1").app == "spare"


def test_attempts_in_a_refused_app_are_judged_by_their_deadlines_after_a_start(two_apps):
    context, rows, machines = two_apps
    _, attempt_id = claimed(context, rows)
    context.cloud.trusted.clear()
    machines.refused_apps = {rows.attempt(attempt_id).app}
    rows.clock.forward(1000)
    tick(context)
    assert rows.attempt(attempt_id).reason == "lease_expired"


def test_a_crash_between_the_row_and_the_call_is_picked_up_by_the_next_pass(world):
    parts, rows, machines = world
    job_id = rows.submit()
    queue.start(parts.store, ["runners"])  # and control dies here
    launch(parts)
    assert rows.attempt(f"{job_id}-1").state == "booting"
    assert len(machines.machines) == 1


# --- watch ------------------------------------------------------------------------------------------


def test_a_machine_that_never_claims_is_lost_after_the_boot_deadline_and_destroyed(world):
    parts, rows, machines = world
    job_id = rows.submit()
    launch(parts)
    rows.clock.forward(179)
    tick(parts)
    assert rows.attempt(f"{job_id}-1").state == "booting"
    rows.clock.forward(2)
    tick(parts)
    assert rows.attempt(f"{job_id}-1").reason == "boot_deadline"
    assert rows.job(job_id).status == "queued"
    assert machines.destroyed == ["m1"]


def test_a_machine_that_fly_does_not_start_is_replaced_and_uses_up_no_attempt(world):
    context, rows, machines = world
    job_id = rows.submit()
    for number in range(1, 8):  # attempts_max is 3
        launch(context)
        machines.change(machine_name(f"{job_id}-{number}"), state="created", started_at=None)
        for row in rows.all(MachineRow):
            with context.store.transaction() as tx:
                tx.session.get_one(MachineRow, (row.app, row.id)).started_at = None
        rows.clock.forward(181)
        tick(context)
        assert rows.attempt(f"{job_id}-{number}").reason == "boot_deadline"
        assert context.views.job(job_id).waiting.code == "slow_boot"
        rows.clock.forward(61)
    assert rows.job(job_id).status == "queued"


def test_machines_that_start_and_never_call_do_use_up_attempts(world):
    context, rows, _ = world
    job_id = rows.submit()
    for _ in range(3):
        launch(context)
        tick(context)
        rows.clock.forward(181)
        tick(context)
        rows.clock.forward(61)
    assert (rows.job(job_id).status, rows.job(job_id).error_code) == ("failed", "boot_deadline")


def test_the_boot_deadline_is_learned_and_a_second_attempt_gets_the_whole_time(world):
    context, rows, machines = world
    for _ in range(20):
        launch_and_claim_after(context, rows, machines, 4)
    rows.clock.forward(LEARN_EVERY_S)
    job_id = rows.submit()
    launch(context)
    for seconds, state in ((29, "booting"), (2, "lost")):
        rows.clock.forward(seconds)
        tick(context)
        assert rows.attempt(f"{job_id}-1").state == state
    rows.clock.forward(60)
    launch(context)
    rows.clock.forward(170)
    tick(context)
    assert rows.attempt(f"{job_id}-2").state == "booting"


def launch_and_claim_after(context, rows: Rows, machines: FakeMachines, seconds: float) -> None:
    job_id = rows.submit()
    launch(context)
    attempt_id = f"{job_id}-1"
    rows.clock.forward(seconds)
    reports.claim(context.store, attempt_id, rows.attempt(attempt_id).machine_id)
    both = [ready(output.id) for output in rows.outputs(job_id)]
    reports.finish(context.store, attempt_id, finished(*both), {})
    machines.change(machine_name(attempt_id), state="destroyed")
    tick(context)


def test_a_late_destruction_of_a_machine_is_repeated_and_its_place_is_held(world):
    parts, rows, machines = world
    job_id = rows.submit()
    launch(parts)
    rows.clock.forward(181)
    for _ in range(3):
        tick(parts)
        rows.clock.forward(10)
    assert machines.destroyed == ["m1"] * 3
    with parts.store.transaction() as tx:
        assert possibly_alive(tx) == 1
    machines.change(machine_name(f"{job_id}-1"), state="destroyed")
    tick(parts)
    with parts.store.transaction() as tx:
        assert possibly_alive(tx) == 0


def test_heartbeats_keep_an_attempt_alive_and_silence_loses_it(world):
    parts, rows, _ = world
    job_id, attempt_id = claimed(parts, rows)
    for seq in range(1, 10):
        rows.clock.forward(50)
        reports.heartbeat(parts.store, attempt_id, Heartbeat(seq=seq, outputs=[]), {}, next_beat_s=15)
        tick(parts)
    assert rows.attempt(attempt_id).state == "running"
    rows.clock.forward(61)
    tick(parts)
    assert rows.attempt(attempt_id).state == "lost"
    assert rows.job(job_id).status == "queued"


def test_a_run_that_takes_too_long_fails_and_another_machine_continues(world):
    parts, rows, _ = world
    job_id, attempt_id = claimed(parts, rows)
    for seq in range(1, 80):
        rows.clock.forward(50)
        if rows.attempt(attempt_id).state == "running":
            reports.heartbeat(parts.store, attempt_id, Heartbeat(seq=seq, outputs=[]), {}, next_beat_s=15)
        tick(parts)
    assert (rows.attempt(attempt_id).state, rows.attempt(attempt_id).reason) == ("failed", "run_deadline")
    assert rows.job(job_id).status == "queued"


@pytest.mark.parametrize(("oom", "reason"), [(True, "out_of_memory"), (False, "machine_ended")])
def test_a_machine_that_ends_without_a_finish_is_noticed_at_once(world, oom, reason):
    parts, rows, machines = world
    job_id, attempt_id = claimed(parts, rows)
    end = exited(rows.clock, exit_code=137, oom_killed=oom)
    machines.change(machine_name(attempt_id), state="destroyed", exit=end)
    tick(parts)
    assert rows.attempt(attempt_id).reason == reason
    assert rows.job(job_id).status == "queued"


def test_a_new_machine_that_no_read_finds_yet_is_not_gone(world):
    parts, rows, machines = world
    claimed(parts, rows)
    machines.machines.clear()
    for _ in range(5):
        tick(parts)
    assert [row.gone_at for row in rows.all(MachineRow)] == [None]
    rows.clock.forward(ledger.NEW.total_seconds())
    for _ in range(ledger.MISSES_MAX):
        assert [row.gone_at for row in rows.all(MachineRow)] == [None]
        tick(parts)
    assert [row.gone_at for row in rows.all(MachineRow)] == [rows.clock()]


def test_absence_from_a_list_is_no_evidence_and_only_repeated_absence_from_gets_is(world):
    parts, rows, machines = world
    _, attempt_id = claimed(parts, rows)
    rows.clock.forward(ledger.NEW.total_seconds())
    shown = dict(machines.machines)
    machines.machines.clear()
    for _ in range(2):
        tick(parts)
    assert rows.attempt(attempt_id).state == "running"
    machines.machines |= shown
    tick(parts)
    machines.machines.clear()
    for _ in range(3):
        assert rows.attempt(attempt_id).state == "running"
        tick(parts)
    assert rows.attempt(attempt_id).reason == "machine_ended"


def test_nothing_is_judged_launched_or_destroyed_before_two_trusted_observations(world):
    parts, rows, machines = world
    _, attempt_id = claimed(parts, rows)
    waiting = rows.submit()
    rows.clock.forward(1000)
    parts.cloud.trusted.clear()
    machines.is_away = Unanswered("503")
    for _ in range(5):
        tick(parts)
        launch(parts)
    assert rows.attempt(attempt_id).state == "running"
    assert rows.job(waiting).status == "queued"
    machines.is_away = None
    tick(parts)
    assert rows.attempt(attempt_id).state == "running"
    tick(parts)
    assert rows.attempt(attempt_id).state == "lost"
    launch(parts)
    assert rows.job(waiting).status == "launching"


def test_leases_that_ran_out_while_control_was_down_get_an_amnesty(world):
    parts, rows, _ = world
    _, attempt_id = claimed(parts, rows)
    rows.clock.forward(600)
    parts.cloud.started_at = rows.clock.monotonic()
    tick(parts)
    assert rows.attempt(attempt_id).state == "running"
    rows.clock.forward(121)
    tick(parts)
    assert rows.attempt(attempt_id).reason == "lease_expired"


def test_the_amnesty_is_as_long_as_two_leases_of_that_many_runners(world, monkeypatch):
    monkeypatch.setattr(leases, "BEATS_PER_S_MAX", 0.02)  # one runner alone is told to beat every 50 s
    parts, rows, _ = world
    _, attempt_id = claimed(parts, rows)
    rows.clock.forward(600)
    parts.cloud.started_at = rows.clock.monotonic()
    rows.clock.forward(399)
    tick(parts)
    assert rows.attempt(attempt_id).state == "running"
    rows.clock.forward(2)
    tick(parts)
    assert rows.attempt(attempt_id).reason == "lease_expired"


def test_who_has_ended_is_no_longer_counted_among_those_who_beat(world):
    parts, rows, _ = world
    ids = [claimed(parts, rows)[1] for _ in range(2)]
    for attempt_id in ids:
        reports.heartbeat(parts.store, attempt_id, Heartbeat(seq=1, outputs=[]), {}, next_beat_s=15)
    assert len(parts.store.leases) == 2
    attempts.end(parts.store, ids[0], Trigger.RUN_DEADLINE, Reason.RUN_DEADLINE, "")
    tick(parts)
    assert len(parts.store.leases) == 1


def test_out_of_memory_is_tried_once_more_on_the_next_size(world):
    parts, rows, machines = world
    job_id = rows.submit()
    for number in (1, 2):
        rows.clock.forward(60)
        launch(parts)
        attempt_id = f"{job_id}-{number}"
        reports.claim(parts.store, attempt_id, rows.attempt(attempt_id).machine_id)
        end = exited(rows.clock, exit_code=137, oom_killed=True)
        machines.change(machine_name(attempt_id), state="destroyed", exit=end)
        tick(parts)
    assert [spec.size for spec in machines.specs] == ["performance-1x", "performance-2x"]
    assert rows.job(job_id).error_code == "out_of_memory"


def test_a_runner_that_lacked_memory_has_its_job_continue_on_the_next_size(world):
    parts, rows, machines = world
    _, attempt_id = claimed(parts, rows)
    message = finished(outcome="error", reason=Reason.OUT_OF_MEMORY)
    reports.finish(parts.store, attempt_id, message, {})
    rows.clock.forward(60)
    launch(parts)
    assert [spec.size for spec in machines.specs] == ["performance-1x", "performance-2x"]


def test_without_capacity_the_next_region_comes_first(world):
    context, rows, machines = world
    context = replace(
        context, settings=context.settings.model_copy(update={"runner_regions": ("iad", "ord")})
    )
    machines.answers = [Refused(Refusal.CAPACITY, "full")]
    rows.submit()
    for _ in range(2):
        launch(context)
        rows.clock.forward(1)
    rows.submit()
    launch(context)  # what one was told, the next knows
    rows.clock.forward(60)
    rows.submit()
    launch(context)
    orders = [spec.regions for spec in machines.specs]
    assert orders == [("iad", "ord"), ("ord", "iad"), ("ord", "iad"), ("iad", "ord")]


def test_when_every_region_is_full_they_are_tried_again_after_a_while(world):
    context, rows, machines = world
    context = replace(
        context, settings=context.settings.model_copy(update={"runner_regions": ("iad", "ord")})
    )
    machines.answers = [Refused(Refusal.CAPACITY, "full")] * 3
    rows.submit()
    for seconds in (1, 1, 8, 1):  # the second refusal leaves none to try
        launch(context)
        rows.clock.forward(seconds)
    launch(context)
    assert [spec.regions[0] for spec in machines.specs] == ["iad", "ord", "iad"]


def test_a_machine_is_paid_for_once_from_its_start_to_its_exit(world):
    parts, rows, machines = world
    job_id, attempt_id = claimed(parts, rows)
    tick(parts)
    rows.clock.forward(30)
    end = exited(rows.clock, exit_code=0)
    both = rows.outputs(job_id)
    reports.finish(parts.store, attempt_id, finished(*[ready(o.id) for o in both]), {})
    rows.clock.forward(100)
    machines.change(machine_name(attempt_id), state="destroyed", exit=end)
    for _ in range(3):
        tick(parts)
    [row] = rows.all(MachineRow)
    assert row.machine_seconds == rows.attempt(attempt_id).machine_seconds == 30
    assert row.gone_at is not None


def test_a_refused_token_stops_launching_and_turns_ready_red_until_it_is_replaced(world):
    parts, rows, machines = world
    first = rows.submit()
    machines.answers = [Refused(Refusal.UNAUTHORIZED, "token validation error")]
    launch(parts)
    second = rows.submit()
    machines.is_away = Refused(Refusal.UNAUTHORIZED, "token validation error")
    tick(parts)
    launch(parts)
    assert parts.cloud.refusal_of("runners") is Refusal.UNAUTHORIZED
    assert parts.views.job(second).waiting.code == "unauthorized"
    assert rows.job(second).status == "queued"
    machines.is_away = None
    rows.clock.forward(30)
    tick(parts)
    launch(parts)
    assert parts.cloud.refusal_of("runners") is None
    assert {rows.attempt(f"{job}-1").state for job in (first, second)} == {"booting"}


def test_an_app_that_refused_our_token_is_listed_before_it_is_used_again(world):
    parts, rows, machines = world
    machines.is_away = Refused(Refusal.UNAUTHORIZED, "token validation error")
    for _ in range(2):
        rows.clock.forward(60)
        tick(parts)
    job_id = rows.submit()
    machines.is_away = None
    rows.clock.forward(31)
    launch(parts)
    assert rows.job(job_id).status == "queued"
    tick(parts)  # a control without machines looks each minute, but each half while its token is refused
    launch(parts)
    assert rows.attempt(f"{job_id}-1").state == "booting"


def test_no_create_is_repeated_while_a_machine_that_came_to_light_takes_its_place(world):
    parts, rows, machines = world
    parts = replace(parts, settings=parts.settings.model_copy(update={"max_machines": 1}))
    store = Store(rows.engine, parts.settings, rows.clock, monotonic=rows.clock.monotonic)
    parts = replace(parts, store=store)
    job_id = rows.submit()
    machines.answers = [Refused(Refusal.CAPACITY, "no capacity")]
    launch(parts)
    assert rows.attempt(f"{job_id}-1").state == "launching"
    late = Machine(
        app="runners",
        id="late",
        name="late",
        state="started",
        region="iad",
        created_at=rows.clock(),
        started_at=rows.clock(),
        metadata={"owner": store.owner_id, "attempt": "job-gone-1"},
    )
    machines.machines[late.name] = late
    rows.clock.forward(60)
    observe(parts)
    launch(parts)
    assert rows.attempt(f"{job_id}-1").state == "launching"
    assert rows.job(job_id).waiting_code == "machine_cap"
    machines.change(late.name, state="destroyed")
    rows.clock.forward(60)
    observe(parts)
    launch(parts)
    assert rows.attempt(f"{job_id}-1").state == "booting"


def test_a_machine_whose_runner_has_called_holds_its_place_after_the_end_though_it_is_not_listed(world):
    parts, rows, _ = world
    job_id = rows.submit()
    queue.start(parts.store, ["runners"])
    assert attempts.ask(parts.store, f"{job_id}-1")
    rows.clock.forward(2 * UNKNOWN_CREATE_TTL_S)  # in which nothing could be stored
    reports.claim(parts.store, f"{job_id}-1", "unlisted")
    changes.cancel(parts.store, [job_id])
    for forward_s, held in ((0, 1), (UNKNOWN_CREATE_TTL_S - 1, 1), (2, 0)):
        rows.clock.forward(forward_s)
        with parts.store.transaction() as tx:
            assert possibly_alive(tx) == held


def test_a_create_that_is_refused_after_its_batch_was_removed_ends_nothing(world):
    parts, _, _ = world
    again = {"message": "no", "retry_after": timedelta(0), "app": "runners"}
    attempts.postpone(parts.store, "job_gone-1", Refusal.CAPACITY, **again)
    attempts.end(parts.store, "job_gone-1", Trigger.LAUNCH_REFUSED, Reason.LAUNCH_REFUSED, "no")
    queue.wait_for_room(parts.store, "job_gone-1")


def test_attempts_that_no_machine_ever_showed_up_for_use_up_nothing(world):
    parts, rows, machines = world
    machines.answers = [Unanswered("502")] * 1000
    job_id = rows.submit()
    for _ in range(170):
        launch(parts)
        tick(parts)
        rows.clock.forward(30)
    assert rows.job(job_id).attempts_used > 3
    assert rows.job(job_id).status in ("queued", "launching")
    machines.answers = []
    for _ in range(10):
        launch(parts)
        rows.clock.forward(10)
    assert "booting" in {attempt.state for attempt in rows.all(Attempt)}


def test_deadlines_hold_while_the_machines_api_is_away(world):
    parts, rows, machines = world
    _, attempt_id = claimed(parts, rows)
    machines.is_away = Unanswered("503")
    rows.clock.forward(61)
    tick(parts)
    assert rows.attempt(attempt_id).reason == "lease_expired"


def test_a_twin_that_exits_does_not_end_the_owner_s_attempt(world):
    parts, rows, machines = world
    _, attempt_id = claimed(parts, rows)
    machines.change(machine_name(attempt_id), id="m9", exit=exited(rows.clock, exit_code=0))
    tick(parts)
    assert rows.attempt(attempt_id).state == "running"


def test_a_machine_of_ours_without_an_attempt_is_destroyed_and_others_are_left_alone(world):
    parts, rows, machines = world
    job_id = rows.submit()
    launch(parts)
    own = machines.machines[machine_name(f"{job_id}-1")]
    stray = replace(own, id="stray", name="x", metadata={**own.metadata, "attempt": "job_gone-1"})
    foreign = replace(own, id="foreign", name="y", metadata={"owner": "someone else"})
    machines.machines |= {"x": stray, "y": foreign}
    tick(parts)
    assert machines.destroyed == ["stray"]


def test_one_machine_that_cannot_be_destroyed_takes_one_call_of_a_round_and_hides_no_other(world):
    parts, rows, machines = world
    rows.submit()
    launch(parts)
    own = next(iter(machines.machines.values()))
    for name in ("a", "b", "c"):
        machines.machines[name] = replace(own, id=name, name=name, metadata={**own.metadata, "attempt": name})
    machines.stuck = {"a"}
    tick(parts)
    assert machines.destroyed == []
    tick(parts)
    assert machines.destroyed == ["b", "c"]
    rows.clock.forward(10)
    machines.machines["d"] = replace(machines.machines["b"], id="d", name="d", state="started")
    tick(parts)
    assert machines.destroyed == ["b", "c", "d"], "the one that does not answer comes last"


# --- cancel, retry, delete --------------------------------------------------------------------------


def test_a_cancel_ends_the_job_at_once_and_stops_then_destroys_its_machine(world):
    parts, rows, machines = world
    job_id, attempt_id = claimed(parts, rows)
    changes.cancel(parts.store, [job_id])
    assert rows.job(job_id).status == rows.batch_of(job_id).status == "cancelled"
    assert {output.state for output in rows.outputs(job_id)} == {"cancelled"}
    assert rows.attempt(attempt_id).state == "cancelled"
    tick(parts)
    assert (machines.stopped, machines.destroyed) == (["m1"], [])
    rows.clock.forward(5)
    tick(parts)
    assert machines.destroyed == ["m1"]
    beat = Heartbeat(seq=1, outputs=[])
    assert reports.heartbeat(parts.store, attempt_id, beat, {}, next_beat_s=15) is False


def test_a_cancel_of_a_waiting_job_starts_nothing(world):
    parts, rows, machines = world
    job_id = rows.submit()
    changes.cancel(parts.store, [job_id])
    launch(parts)
    assert rows.job(job_id).status == "cancelled"
    assert machines.specs == []


def test_a_machine_that_shows_up_after_the_cancel_is_ended(world):
    parts, rows, machines = world
    machines.answers = [Unanswered("cut")]
    job_id = rows.submit()
    launch(parts)
    changes.cancel(parts.store, [job_id])
    machines.create(machines.specs[0])
    tick(parts)
    assert machines.stopped == ["m1"]


def test_a_cancel_keeps_what_is_ready_and_a_second_one_changes_nothing(world):
    parts, rows, _ = world
    job_id, attempt_id = claimed(parts, rows)
    first = rows.outputs(job_id)[0]
    beat = Heartbeat(seq=1, outputs=[ready(first.id)])
    reports.heartbeat(parts.store, attempt_id, beat, seen(first), next_beat_s=15)
    changes.cancel(parts.store, [job_id])
    ended_at = rows.job(job_id).ended_at
    rows.clock.forward(10)
    changes.cancel(parts.store, [job_id])
    assert rows.job(job_id).ended_at == ended_at
    assert [output.state for output in rows.outputs(job_id)] == ["ready", "cancelled"]
    assert rows.job(job_id).partial


def test_a_retry_makes_only_what_is_not_ready_and_has_its_own_attempts(world):
    parts, rows, _ = world
    test_a_cancel_keeps_what_is_ready_and_a_second_one_changes_nothing(world)
    job_id = rows.all(Job)[0].id
    changes.retry(parts.store, [job_id])
    assert rows.batch_of(job_id).status == "queued"
    assert rows.batch_of(job_id).expires_at is None
    assert [output.state for output in rows.outputs(job_id)] == ["ready", "queued"]
    launch(parts)
    assert rows.attempt(f"{job_id}-2").state == "booting"
    for again in (changes.retry, changes.retry):
        with pytest.raises(ControlError) as refused:
            again(parts.store, [job_id])
        assert refused.value.code is Code.CONFLICT


def test_a_retry_of_a_deleted_source_is_refused(world):
    parts, rows, _ = world
    job_id = rows.submit()
    changes.cancel(parts.store, [job_id])
    with parts.store.transaction() as tx:
        tx.session.get_one(Source, rows.outputs(job_id)[0].source_id).deleted_at = tx.now
    with pytest.raises(ControlError) as refused:
        changes.retry(parts.store, [job_id])
    assert refused.value.code is Code.SOURCE_GONE


def test_a_deleted_batch_is_hidden_at_once_and_removed_when_its_machines_are_gone(world, storage):
    context, rows, machines = world
    context = replace(context, storage=storage)
    job_id, attempt_id = claimed(context, rows)
    key = output_key(context, attempt_id, rows.outputs(job_id)[0].id)
    url, headers = storage.sign_put(key, expires_s=60)
    assert httpx.put(url, headers=headers, content=b"video").status_code == 200
    changes.delete(context.store, rows.batch_of(job_id).id)
    with pytest.raises(ControlError) as hidden:
        context.views.job(job_id)
    assert hidden.value.code is Code.NOT_FOUND
    tick(context)
    forget(context)
    assert storage.head(key) is not None  # its machine may still write
    machines.change(machine_name(attempt_id), state="destroyed")
    tick(context)
    forget(context)
    assert storage.head(key) is not None  # what it was storing may still come
    rows.clock.forward(LATE_PUT_S + 1)
    forget(context)
    assert storage.head(key) is None
    assert rows.all(Job) == rows.all(Output) == rows.all(Event) == []
    assert len(rows.all(MachineRow)) == 1  # the ledger stays


def refusal(change, context, job_ids) -> Code | None:
    try:
        change(context.store, job_ids)
    except ControlError as error:
        return error.code
    return None


def test_a_retry_that_comes_while_a_batch_is_deleted_starts_nothing(world):
    parts, rows, machines = world
    job_id = rows.submit()
    refusals = []
    parts.store._on_commit = lambda: refusals.append(refusal(changes.retry, again, [job_id]))
    again = replace(parts, store=Store(rows.engine, parts.settings, rows.clock))
    changes.delete(parts.store, rows.batch_of(job_id).id)
    launch(again)
    assert refusals == [Code.NOT_FOUND]  # one commit, and after it there is nothing to retry
    assert rows.job(job_id).status == "cancelled"
    assert machines.specs == []


@pytest.mark.parametrize("change", [changes.retry, changes.cancel])
def test_what_was_looked_up_before_a_delete_is_refused_after_it(world, storage, change):
    context, rows, _ = world
    context = replace(context, storage=storage)
    job_id = rows.submit()
    batch_id = rows.batch_of(job_id).id
    changes.delete(context.store, batch_id)
    assert refusal(change, context, [job_id]) is Code.NOT_FOUND
    assert refusal(changes.delete, context, batch_id) is Code.NOT_FOUND
    forget(context)
    assert rows.all(Job) == []
    assert refusal(change, context, [job_id]) is Code.NOT_FOUND
    assert refusal(changes.delete, context, batch_id) is Code.NOT_FOUND


def test_a_job_that_waits_although_its_batch_is_deleted_is_not_started(world):
    """Such rows were left by versions whose delete could be overtaken by a retry."""
    parts, rows, machines = world
    job_id = rows.submit()
    with parts.store.transaction() as tx:
        tx.session.get_one(Batch, rows.job(job_id).batch_id).deleted_at = tx.now
    launch(parts)
    assert machines.specs == []
    assert rows.all(Attempt) == []


def test_a_finished_machine_gets_a_moment_to_exit_by_itself(world):
    parts, rows, machines = world
    job_id, attempt_id = claimed(parts, rows)
    both = rows.outputs(job_id)
    failures = [OutputReport(output_id=o.id, status="failed", error=ERROR) for o in both]
    reports.finish(parts.store, attempt_id, finished(*failures), {})
    tick(parts)
    assert machines.destroyed == []
    rows.clock.forward(11)
    tick(parts)
    assert machines.destroyed == ["m1"]


def test_a_machine_that_no_list_shows_is_known_once_its_runner_has_called(world):
    parts, rows, machines = world
    machines.answers, machines.unlisted = [Unanswered("cut")], {"m1"}
    job_id = rows.submit()
    launch(parts)
    machines.create(machines.specs[0])
    tick(parts)
    assert rows.all(MachineRow) == []
    reports.claim(parts.store, f"{job_id}-1", "m1")
    changes.cancel(parts.store, [job_id])
    tick(parts)
    assert [row.id for row in rows.all(MachineRow)] == ["m1"]
    assert machines.stopped + machines.destroyed == ["m1"]


def test_a_runner_that_names_a_machine_of_others_cannot_have_it_destroyed(world):
    parts, rows, machines = world
    machines.answers, machines.unlisted = [Unanswered("cut")], {"m1"}
    job_id = rows.submit()
    launch(parts)
    machines.create(replace(machines.specs[0], metadata={"owner": "others"}))
    reports.claim(parts.store, f"{job_id}-1", "m1")
    changes.cancel(parts.store, [job_id])
    tick(parts)
    assert rows.all(MachineRow) == []
    assert machines.stopped + machines.destroyed == []


def test_a_runner_that_names_no_machine_does_not_stop_the_observation(world):
    parts, rows, machines = world
    job_id, _ = claimed(parts, rows)
    with parts.store.transaction() as tx:
        tx.session.get_one(Attempt, f"{job_id}-1").claimed_by = ".."
    machines.unlisted = {"m1"}
    machines.get = lambda _app, id_: {"m1": None}[id_]
    for _ in range(ledger.MISSES_MAX):
        rows.clock.forward(ledger.NEW.total_seconds())
        tick(parts)
    assert rows.all(MachineRow)[0].gone_at is not None


def test_an_idle_control_observes_the_cloud_once_a_minute(world):
    parts, rows, machines = world
    machines.lists = 0
    for _ in range(120):
        observe(parts)
        rows.clock.forward(1)
    assert machines.lists == 2


def test_a_job_that_starts_has_the_cloud_observed_soon(world):
    parts, rows, machines = world
    observe(parts)
    rows.clock.forward(5)
    observe(parts)
    assert machines.lists == 1
    rows.submit()
    launch(parts)
    observe(parts)
    assert machines.lists == 2


def test_a_create_that_control_died_in_holds_its_place_after_a_cancel_and_a_delete(world, storage):
    context, rows, machines = world
    context = replace(context, storage=storage)
    machines.answers = [KeyboardInterrupt()]  # control dies in the call; Fly may have done it
    job_id = rows.submit()
    with pytest.raises(KeyboardInterrupt):
        launch(context)
    changes.delete(context.store, rows.batch_of(job_id).id)
    for at_s, held in ((0, 1), (UNKNOWN_CREATE_TTL_S - 1, 1), (2, 0)):
        rows.clock.forward(at_s)
        forget(context)
        with context.store.transaction() as tx:
            assert possibly_alive(tx) == held
    assert rows.all(Job) == []


def test_a_create_without_an_answer_holds_a_place_after_its_first_machine_has_come_and_gone(world):
    parts, rows, machines = world
    machines.answers = [Unanswered("cut")]
    job_id = rows.submit()
    launch(parts)
    rows.clock.forward(5)
    launch(parts)
    changes.cancel(parts.store, [job_id])
    machines.change(machine_name(f"{job_id}-1"), state="destroyed")
    tick(parts)
    for at_s, held in ((0, 1), (UNKNOWN_CREATE_TTL_S, 0)):
        rows.clock.forward(at_s)
        with parts.store.transaction() as tx:
            assert possibly_alive(tx) == held


def test_an_attempt_that_no_machine_came_of_costs_nothing_once_none_can_come(world):
    parts, rows, machines = world
    machines.answers = [Unanswered("cut")]
    job_id = rows.submit()
    launch(parts)
    rows.clock.forward(60)
    changes.cancel(parts.store, [job_id])
    assert parts.views.job(job_id).cost_usd > 0, "a bound"
    rows.clock.forward(UNKNOWN_CREATE_TTL_S)
    shown = parts.views.job(job_id)
    assert (shown.cost_usd, shown.attempts[0].machine_seconds) == (0, 0)


def test_a_cancel_while_the_launch_pass_runs_keeps_the_next_machine_from_being_created(world, monkeypatch):
    parts, rows, machines = world
    first, second = rows.submit(), rows.submit()
    create = machines.create

    def cancelled_meanwhile(spec):
        changes.cancel(parts.store, [second])
        return create(spec)

    monkeypatch.setattr(machines, "create", cancelled_meanwhile)
    launch(parts)
    assert [spec.metadata["job"] for spec in machines.specs] == [first]


# --- ticker -----------------------------------------------------------------------------------------


def test_a_pass_that_crashes_is_logged_with_its_trace_and_never_stops_the_next(caplog):
    caplog.set_level("INFO", logger="control")
    from threading import Event

    ran = Event()

    def crash() -> None:
        raise RuntimeError("boom")

    ticker = Ticker("ticker")
    ticker.start([Every(60, crash, name="crash"), Every(60, ran.set)])
    assert ran.wait(5)
    assert ticker.stop(wait_s=10)
    # A control of other tests may write lines at the same time.
    [line] = [line for line in map(json.loads, caplog.messages) if line.get("name") == "crash"]
    assert (line["event"], line["error"]) == ("pass_failed", "RuntimeError: boom")
    assert "in crash" in line["trace"]


def test_a_stop_does_not_wait_for_ever_for_a_pass_that_hangs():
    from threading import Event

    began, go_on = Event(), Event()

    def hang() -> None:
        began.set()
        go_on.wait()

    ticker = Ticker("ticker")
    ticker.start([Every(60, hang)])
    assert began.wait(5)
    assert not ticker.stop(wait_s=0.01)
    go_on.set()
    assert ticker.stop(wait_s=10)


def test_a_trace_in_the_log_holds_no_signed_url(caplog):
    caplog.set_level("INFO", logger="control")
    log_failure("broken", ValueError("no answer from https://bucket.test/k?X-Amz-Signature=abc"))
    assert "abc" not in caplog.text
    assert "URL" in json.loads(caplog.messages[-1])["trace"]


def test_a_poke_runs_the_prompt_passes_now():
    from threading import Event

    runs, again = [], Event()

    def prompt() -> None:
        runs.append(1)
        if len(runs) == 2:
            again.set()

    ticker = Ticker("ticker")
    ticker.start([Every(3600, prompt, promptly=True)])
    while not runs:
        pass
    ticker.poke()
    assert again.wait(5)
    assert ticker.stop(wait_s=10)


def test_work_that_starts_right_after_an_idle_observation_is_observed_soon(world, monkeypatch):
    parts, rows, machines = world
    looks = []
    seen = machines.list
    monkeypatch.setattr(machines, "list", lambda *asked: looks.append(rows.clock()) or seen(*asked))
    tick(parts)
    rows.clock.forward(6)
    observe(parts)
    assert len(looks) == 1, "nothing lives"
    claimed(parts, rows)
    observe(parts)
    assert len(looks) == 2
    rows.clock.forward(1)
    observe(parts)
    assert len(looks) == 2


# --- rest -------------------------------------------------------------------------------------------


def test_control_rests_only_when_no_row_is_left_for_any_pass(world):
    context, rows, machines = world
    tick(context)
    assert is_idle(context)
    job_id = rows.submit()
    assert not is_idle(context), "a job waits"
    machines.answers = [Unanswered("cut")]
    launch(context)
    assert not is_idle(context), "an attempt lives, and no machine is known"
    rows.clock.forward(5)
    launch(context)
    changes.cancel(context.store, [job_id])
    assert not is_idle(context), "a machine lives, and no attempt"
    machines.change(machine_name(f"{job_id}-1"), state="destroyed")
    tick(context)
    assert is_idle(context)
    changes.delete(context.store, rows.batch_of(job_id).id)
    assert is_idle(context), "a deleted batch is removed by a pass of another thread"


def test_control_is_not_idle_while_the_cloud_is_unknown_or_an_observation_is_due(world):
    parts, rows, _ = world
    tick(parts)
    rows.clock.forward(59)
    assert is_idle(parts)
    rows.clock.forward(1)
    assert not is_idle(parts)
    tick(parts)
    parts.cloud.trusted["runners"] = 1
    rows.clock.forward(1)
    assert not is_idle(parts), "it looks each second"


def test_a_ticker_at_rest_runs_no_pass_until_there_is_something_to_do():
    from threading import Event

    asked, ran, rests = Event(), Event(), [True]

    def is_idle() -> bool:
        asked.set()
        return rests[0]

    ticker = Ticker("ticker", is_idle=is_idle)
    ticker.start([Every(3600, ran.set, promptly=True)])
    assert asked.wait(5)
    rests[0] = False
    assert not ran.is_set()
    ticker.poke()
    assert ran.wait(5)
    assert ticker.stop(wait_s=10)


def test_when_idleness_cannot_be_checked_the_passes_run(caplog):
    caplog.set_level("INFO", logger="control")
    from threading import Event

    ran = Event()

    def broken() -> bool:
        raise RuntimeError("the database is away")

    ticker = Ticker("ticker", is_idle=broken)
    ticker.start([Every(3600, ran.set)])
    assert ran.wait(5)
    assert ticker.stop(wait_s=10)
    assert "the database is away" in caplog.text
