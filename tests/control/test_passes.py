"""Launch and watch against a cloud that misbehaves, on a clock that the tests move."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from control.ids import machine_name
from control.launch import launch
from control.log import failure
from control.store import attempts, reports
from control.ticker import Every, Ticker
from control.watch import watch
from infra.ports import MachineExit, Refusal, Refused, Unanswered
from runner.contract import Heartbeat
from tests.control.conftest import FakeMachines, Rows, finished, ready


@pytest.fixture
def world(parts, rows: Rows, machines: FakeMachines):
    return parts, rows, machines


def exited(clock, **facts) -> MachineExit:
    plain = {"exit_code": 1, "signal": 0, "oom_killed": False, "requested_stop": False, "at": clock()}
    return MachineExit(**{**plain, **facts})


def claimed(parts, rows: Rows) -> tuple[str, str]:
    job_id = rows.submit()
    launch(parts)
    attempt_id = f"{job_id}-1"
    reports.claim(parts.store, attempt_id, rows.attempt(attempt_id).machine_id)
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
    told = str(machines.specs[0])
    for secret in ("secret for tests", "a password long enough", "aws_secret"):
        assert secret not in told


def test_an_unanswered_create_is_asked_again_with_the_same_machine(world):
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


@pytest.mark.parametrize("refusal", [Refusal.CAPACITY, Refusal.RATE_LIMITED, Refusal.UNAUTHORIZED])
def test_a_fly_that_says_no_makes_the_job_wait_visibly_and_uses_up_no_attempt(world, refusal):
    parts, rows, machines = world
    machines.answers = [Refused(refusal, "no")] * 20
    job_id = rows.submit()
    for _ in range(20):
        launch(parts)
        watch(parts)
        rows.clock.forward(60)
    assert rows.job(job_id).attempts_used == 1
    assert parts.views.job(job_id).waiting.code == refusal
    launch(parts)
    assert rows.attempt(f"{job_id}-1").state == "booting"
    assert parts.views.job(job_id).waiting is None


def test_a_create_that_can_never_succeed_fails_the_job_with_fly_s_words(world):
    parts, rows, machines = world
    machines.answers = [Refused(Refusal.INVALID, "no such image")]
    job_id = rows.submit()
    launch(parts)
    assert rows.job(job_id).status == "failed"
    assert rows.attempt(f"{job_id}-1").detail == "no such image"


def test_a_crash_between_the_row_and_the_call_is_picked_up_by_the_next_pass(world):
    parts, rows, machines = world
    job_id = rows.submit()
    attempts.start(parts.store, 3)  # and control dies here
    launch(parts)
    assert rows.attempt(f"{job_id}-1").state == "booting"
    assert len(machines.machines) == 1


# --- watch ------------------------------------------------------------------------------------------


def test_a_machine_that_never_claims_is_lost_after_the_boot_deadline_and_destroyed(world):
    parts, rows, machines = world
    job_id = rows.submit()
    launch(parts)
    rows.clock.forward(179)
    watch(parts)
    assert rows.attempt(f"{job_id}-1").state == "booting"
    rows.clock.forward(2)
    watch(parts)
    assert rows.attempt(f"{job_id}-1").reason == "boot_deadline"
    assert rows.job(job_id).status == "queued"
    rows.clock.forward(11)
    watch(parts)
    assert machines.destroyed == ["m1"]


def test_heartbeats_keep_an_attempt_alive_and_silence_loses_it(world):
    parts, rows, _ = world
    job_id, attempt_id = claimed(parts, rows)
    for seq in range(1, 10):
        rows.clock.forward(50)
        reports.heartbeat(parts.store, attempt_id, Heartbeat(seq=seq, outputs=[]), {})
        watch(parts)
    assert rows.attempt(attempt_id).state == "running"
    rows.clock.forward(61)
    watch(parts)
    assert rows.attempt(attempt_id).state == "lost"
    assert rows.job(job_id).status == "queued"


def test_a_run_that_takes_too_long_fails_and_another_machine_goes_on(world):
    parts, rows, _ = world
    job_id, attempt_id = claimed(parts, rows)
    for seq in range(1, 80):
        rows.clock.forward(50)
        if rows.attempt(attempt_id).state == "running":
            reports.heartbeat(parts.store, attempt_id, Heartbeat(seq=seq, outputs=[]), {})
        watch(parts)
    assert (rows.attempt(attempt_id).state, rows.attempt(attempt_id).reason) == ("failed", "run_deadline")
    assert rows.job(job_id).status == "queued"


@pytest.mark.parametrize(("oom", "reason"), [(True, "out_of_memory"), (False, "machine_ended")])
def test_a_machine_that_ends_without_a_finish_is_noticed_at_once(world, oom, reason):
    parts, rows, machines = world
    job_id, attempt_id = claimed(parts, rows)
    end = exited(rows.clock, exit_code=137, oom_killed=oom)
    machines.change(machine_name(attempt_id), state="destroyed", exit=end)
    watch(parts)
    assert rows.attempt(attempt_id).reason == reason
    assert rows.job(job_id).status == "queued"


def test_absence_from_the_list_is_no_evidence(world):
    parts, rows, machines = world
    _, attempt_id = claimed(parts, rows)
    machines.machines.clear()
    watch(parts)
    assert rows.attempt(attempt_id).state == "running"


def test_deadlines_hold_while_the_machines_api_is_away(world):
    parts, rows, machines = world
    _, attempt_id = claimed(parts, rows)
    machines.is_away = Unanswered("503")
    rows.clock.forward(61)
    watch(parts)
    assert rows.attempt(attempt_id).reason == "lease_expired"


def test_a_twin_that_exits_does_not_end_the_owner_s_attempt(world):
    parts, rows, machines = world
    _, attempt_id = claimed(parts, rows)
    machines.change(machine_name(attempt_id), id="m9", exit=exited(rows.clock, exit_code=0))
    watch(parts)
    assert rows.attempt(attempt_id).state == "running"


def test_a_machine_of_ours_without_an_attempt_is_destroyed_and_others_are_left_alone(world):
    parts, rows, machines = world
    job_id = rows.submit()
    launch(parts)
    own = machines.machines[machine_name(f"{job_id}-1")]
    stray = replace(own, id="stray", name="x", metadata={**own.metadata, "attempt": "job_gone-1"})
    foreign = replace(own, id="foreign", name="y", metadata={"owner": "someone else"})
    machines.machines |= {"x": stray, "y": foreign}
    watch(parts)
    assert machines.destroyed == ["stray"]


def test_a_finished_machine_gets_a_moment_to_exit_by_itself(world):
    parts, rows, machines = world
    job_id, attempt_id = claimed(parts, rows)
    both = rows.outputs(job_id)
    reports.finish(parts.store, attempt_id, finished(*[ready(o.id) for o in both]), {})
    watch(parts)
    assert machines.destroyed == []
    rows.clock.forward(11)
    watch(parts)
    assert machines.destroyed == ["m1"]


def test_nothing_is_asked_of_the_cloud_while_there_is_nothing_to_do(world):
    parts, _, machines = world
    machines.is_away = AssertionError("not to be asked")
    launch(parts)
    watch(parts)


# --- ticker -----------------------------------------------------------------------------------------


def test_a_pass_that_crashes_is_logged_with_its_trace_and_never_stops_the_next(caplog):
    caplog.set_level("INFO", logger="control")
    from threading import Event

    ran = Event()

    def crash() -> None:
        raise RuntimeError("boom")

    ticker = Ticker(Every(60, crash, name="crash"), Every(60, ran.set))
    ticker.start()
    assert ran.wait(5)
    ticker.stop()
    line = json.loads(caplog.messages[-1])
    assert (line["event"], line["name"], line["error"]) == ("pass_failed", "crash", "RuntimeError: boom")
    assert "in crash" in line["trace"]


def test_a_stop_does_not_wait_for_ever_for_a_pass_that_hangs(monkeypatch):
    from threading import Event

    monkeypatch.setattr("control.ticker.STOP_TIMEOUT_S", 0.01)
    began, go_on = Event(), Event()

    def hang() -> None:
        began.set()
        go_on.wait()

    ticker = Ticker(Every(60, hang))
    ticker.start()
    assert began.wait(5)
    ticker.stop()
    go_on.set()
    ticker.stop()


def test_a_trace_in_the_log_holds_no_signed_url(caplog):
    caplog.set_level("INFO", logger="control")
    failure("broken", ValueError("no answer from https://bucket.test/k?X-Amz-Signature=abc"))
    assert "abc" not in caplog.text
    assert "URL" in json.loads(caplog.messages[-1])["trace"]


def test_a_poke_runs_the_prompt_passes_now():
    from threading import Event

    runs, again = [], Event()

    def prompt() -> None:
        runs.append(1)
        if len(runs) == 2:
            again.set()

    ticker = Ticker(Every(3600, prompt, promptly=True))
    ticker.start()
    while not runs:
        pass
    ticker.poke()
    assert again.wait(5)
    ticker.stop()
