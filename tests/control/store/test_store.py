"""The store on a real SQLite file: state changes, their events, and the effects on job and batch."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from unittest.mock import Mock

import pytest

from control.domain.errors import Code, ControlError
from control.domain.ids import new_id
from control.domain.states import Trigger
from control.planning.planner import plan
from control.store import Store, attempts, batches, machines, queue, reports
from control.store.tables import Attempt, Event, IdempotencyKey, Job, Output, Source
from control.store.tables import Machine as MachineRow
from infra.ports import Machine
from runner.contract import Finish, Heartbeat, OutputError, OutputFault, OutputReport, Reason
from tests.support.rows import Rows, finished, ready, seen

APPS = ["runners"] * 10


def running(rows: Rows, *, variations: int = 2) -> tuple[str, str]:
    """Return a job and its attempt, claimed by machine m1."""
    job_id = rows.submit(variations=variations)
    queue.start(rows.store, APPS)
    attempt_id = f"{job_id}-1"
    reports.claim(rows.store, attempt_id, "m1")
    return job_id, attempt_id


def failed(output: Output) -> OutputReport:
    error = OutputError(code=OutputFault.RENDER_FAILED, message="FFmpeg said no")
    return OutputReport(output_id=output.id, status="failed", error=error)


def events(rows: Rows, name: str) -> list[Event]:
    return [event for event in rows.all(Event) if event.name == name]


# --- submit -----------------------------------------------------------------------------------------


def test_a_submitted_batch_waits_with_all_its_outputs(rows):
    job_id = rows.submit(variations=3, sources=2)
    assert rows.job(job_id).status == "queued"
    assert rows.batch_of(job_id).status == "queued"
    assert [output.state for output in rows.outputs(job_id)] == ["queued"] * 6
    assert [output.position for output in rows.outputs(job_id)] == list(range(6))


def submit_again(rows: Rows, planned, **request) -> str:
    return batches.submit(rows.store, planned, **request)


@pytest.fixture
def planned(rows):
    return plan([rows.source()], variations=2, seed=1, new_id=lambda: new_id("out"))


def test_the_same_key_and_request_give_the_first_batch(rows, planned):
    first = submit_again(rows, planned, key="k", request_sha256="a")
    assert submit_again(rows, planned, key="k", request_sha256="a") == first
    assert len(rows.all(Job)) == 1


def test_the_same_key_with_another_request_is_a_conflict(rows, planned):
    submit_again(rows, planned, key="k", request_sha256="a")
    with pytest.raises(ControlError) as refused:
        submit_again(rows, planned, key="k", request_sha256="b")
    assert refused.value.code is Code.CONFLICT
    assert len(rows.all(Job)) == 1


def test_a_key_is_forgotten_after_a_day(rows, planned):
    first = submit_again(rows, planned, key="k", request_sha256="a")
    rows.clock.forward(24 * 3600)
    other = plan([rows.source("b.mp4")], variations=1, seed=1, new_id=lambda: new_id("out"))
    assert submit_again(rows, other, key="k", request_sha256="b") != first
    rows.clock.forward(24 * 3600)
    third = plan([rows.source("c.mp4")], variations=1, seed=1, new_id=lambda: new_id("out"))
    submit_again(rows, third, key="another", request_sha256="c")
    assert [key.key for key in rows.all(IdempotencyKey)] == ["another"], "a key without use goes too"


def test_eight_submits_at_once_with_one_key_make_one_job(rows, planned):
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(submit_again, rows, planned, key="k", request_sha256="a") for _ in range(8)]
        assert len({call.result() for call in calls}) == 1
    assert len(rows.all(Job)) == 1


def test_a_submit_with_a_deleted_source_leaves_nothing_behind(rows, planned):
    with rows.store.transaction() as tx:
        tx.session.get_one(Source, planned.jobs[0][0].source_id).deleted_at = tx.now
    with pytest.raises(ControlError) as refused:
        submit_again(rows, planned)
    assert refused.value.code is Code.SOURCE_GONE
    assert rows.all(Job) == rows.all(Output) == []


def test_a_full_queue_refuses_and_says_when_to_try_again(engine, settings, clock, rows):
    small = Store(engine, settings.model_copy(update={"queue_outputs_max": 3}), clock)
    rows.submit(variations=2)
    one_more = plan([rows.source("b.mp4")], variations=2, seed=1, new_id=lambda: new_id("out"))
    with pytest.raises(ControlError) as refused:
        batches.submit(small, one_more)
    assert refused.value.code is Code.QUEUE_FULL
    assert refused.value.headers == {"Retry-After": "60"}


# --- start, claim -----------------------------------------------------------------------------------


def test_no_more_attempts_start_than_machines_are_allowed(engine, settings, clock, rows):
    capped = Store(engine, settings.model_copy(update={"max_machines": 2}), clock)
    for _ in range(3):
        rows.submit()
    queue.start(capped, APPS)
    queue.start(capped, APPS)
    assert len(rows.all(Attempt)) == 2


def test_a_claim_makes_the_job_run(rows):
    job_id, attempt_id = running(rows)
    assert rows.job(job_id).status == rows.batch_of(job_id).status == "running"
    assert rows.attempt(attempt_id).state == "running"
    assert rows.attempt(attempt_id).claimed_by == "m1"


def test_the_same_machine_may_claim_again_and_another_may_not(rows):
    _, attempt_id = running(rows)
    reports.claim(rows.store, attempt_id, "m1")
    with pytest.raises(ControlError) as refused:
        reports.claim(rows.store, attempt_id, "m2")
    assert refused.value.code is Code.SUPERSEDED
    assert rows.attempt(attempt_id).claimed_by == "m1"
    assert [event.accepted for event in events(rows, "claimed")] == [True]


def test_exactly_one_of_two_machines_that_claim_at_once_wins(rows):
    job_id = rows.submit()
    queue.start(rows.store, APPS)

    def try_claim(machine_id: str) -> bool:
        try:
            reports.claim(rows.store, f"{job_id}-1", machine_id)
        except ControlError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(try_claim, [f"m{n}" for n in range(6)]))
    assert won.count(True) == 1


def test_a_machine_that_claims_before_the_create_is_answered_stays_the_owner(rows):
    _, attempt_id = running(rows)
    twin = Machine(
        app="runners",
        id="m2",
        name="n",
        state="started",
        region="iad",
        created_at=rows.clock(),
        metadata={"attempt": attempt_id},
    )
    machines.observe(rows.store, [twin])
    assert rows.attempt(attempt_id).state == "running"
    assert rows.attempt(attempt_id).machine_id == "m1"


def test_a_machine_that_is_gone_is_settled_with_the_bytes_of_its_outputs(rows):
    job_id, attempt_id = running(rows)
    machine = Machine(
        app="runners",
        id="m1",
        name="n",
        state="started",
        region="iad",
        created_at=rows.clock(),
        started_at=rows.clock(),
        metadata={"attempt": attempt_id, "size": "performance-1x"},
    )
    machines.observe(rows.store, [machine])
    both = rows.outputs(job_id)
    reports.finish(rows.store, attempt_id, finished(*[ready(o.id) for o in both]), seen(*both))
    machines.ask_to_destroy(rows.store, "runners", "m1")
    asked_at = rows.clock()
    rows.clock.forward(10)
    machines.observe(rows.store, [replace(machine, state="destroyed", destroyed_at=rows.clock())])
    (row,) = rows.all(MachineRow)
    assert (row.destroy_asked_at, row.gone_at) == (asked_at, rows.clock())
    assert (row.outputs, row.egress_bytes, row.machine_seconds) == (2, 1000, 10)
    assert rows.attempt(attempt_id).cost_usd == row.cost_usd > 0


# --- reports ----------------------------------------------------------------------------------------


def test_an_output_is_ready_only_when_control_has_verified_the_object(rows):
    job_id, attempt_id = running(rows)
    first, second = rows.outputs(job_id)
    beat = Heartbeat(seq=1, outputs=[ready(first.id), ready(second.id)])
    reports.heartbeat(rows.store, attempt_id, beat, seen(first), next_beat_s=15)
    first, second = rows.outputs(job_id)
    assert (first.state, second.state) == ("ready", "running")
    assert (first.size_bytes, first.crc32, first.etag) == (500, 7, "d" * 32)


def test_progress_never_falls_within_an_attempt(rows):
    job_id, attempt_id = running(rows)
    output = rows.outputs(job_id)[0]
    for seq, percent in enumerate([10, 60, 30], start=1):
        report = OutputReport(output_id=output.id, status="running", percent=percent)
        reports.heartbeat(rows.store, attempt_id, Heartbeat(seq=seq, outputs=[report]), {}, next_beat_s=15)
    assert rows.outputs(job_id)[0].percent == 60


def test_a_claim_that_is_repeated_keeps_the_lease(rows):
    _, attempt_id = running(rows)
    rows.clock.forward(30)
    reports.claim(rows.store, attempt_id, rows.attempt(attempt_id).claimed_by)
    assert lease_s(rows, attempt_id) == 60


def test_a_beat_that_comes_late_or_twice_reports_nothing_but_keeps_the_lease(rows):
    job_id, attempt_id = running(rows)
    output = rows.outputs(job_id)[0]
    begun = OutputReport(output_id=output.id, status="running", percent=10)
    reports.heartbeat(rows.store, attempt_id, Heartbeat(seq=5, outputs=[begun]), {}, next_beat_s=15)
    rows.clock.forward(30)
    late = Heartbeat(seq=5, outputs=[failed(output)])
    reports.heartbeat(rows.store, attempt_id, late, {}, next_beat_s=15)
    assert rows.outputs(job_id)[0].state == "running"
    assert lease_s(rows, attempt_id) == 60


def test_a_beat_without_news_keeps_the_lease_and_commits_nothing(rows, monkeypatch):
    _, attempt_id = running(rows)
    monkeypatch.setattr(rows.store, "transaction", None)
    for seq in range(1, 5):
        rows.clock.forward(50)
        assert reports.heartbeat(rows.store, attempt_id, Heartbeat(seq=seq, outputs=[]), {}, next_beat_s=15)
        assert lease_s(rows, attempt_id) == 60


def test_a_lease_is_longer_when_heartbeats_are_rarer(rows):
    _, attempt_id = running(rows)
    reports.heartbeat(rows.store, attempt_id, Heartbeat(seq=1, outputs=[]), {}, next_beat_s=50)
    assert lease_s(rows, attempt_id) == 200


def lease_s(rows: Rows, attempt_id: str) -> float:
    return rows.store.leases.until(attempt_id) - rows.clock.monotonic()


def test_a_ready_output_is_never_changed_again(rows):
    job_id, attempt_id = running(rows)
    output = rows.outputs(job_id)[0]
    reports.heartbeat(
        rows.store, attempt_id, Heartbeat(seq=1, outputs=[ready(output.id)]), seen(output), next_beat_s=15
    )
    reports.heartbeat(rows.store, attempt_id, Heartbeat(seq=2, outputs=[failed(output)]), {}, next_beat_s=15)
    assert rows.outputs(job_id)[0].state == "ready"


def test_an_output_of_another_job_cannot_be_reported(rows):
    other = rows.outputs(rows.submit())[0]
    _, attempt_id = running(rows)
    reports.heartbeat(
        rows.store, attempt_id, Heartbeat(seq=1, outputs=[ready(other.id)]), seen(other), next_beat_s=15
    )
    assert rows.outputs(other.job_id)[0].state == "queued"


# --- finish -----------------------------------------------------------------------------------------


def test_a_job_with_all_outputs_ready_is_completed(rows):
    job_id, attempt_id = running(rows)
    both = rows.outputs(job_id)
    rows.clock.forward(100)
    reports.finish(rows.store, attempt_id, finished(*[ready(o.id) for o in both]), seen(*both))
    job, batch, attempt = rows.job(job_id), rows.batch_of(job_id), rows.attempt(attempt_id)
    assert (job.status, job.partial) == (batch.status, batch.partial) == ("completed", False)
    assert attempt.state == "succeeded"
    assert attempt.machine_seconds == 100
    assert attempt.cost_usd > 0
    assert (batch.expires_at - batch.ended_at).total_seconds() == 24 * 3600


def test_a_failed_output_makes_the_job_partial_and_is_not_tried_again(rows):
    job_id, attempt_id = running(rows)
    good, bad = rows.outputs(job_id)
    reports.finish(rows.store, attempt_id, finished(ready(good.id), failed(bad)), seen(good))
    assert (rows.job(job_id).status, rows.job(job_id).partial) == ("completed", True)
    assert rows.outputs(job_id)[1].error_code == "render_failed"


def test_a_job_of_which_every_output_failed_has_failed(rows):
    job_id, attempt_id = running(rows)
    reports.finish(rows.store, attempt_id, finished(*[failed(o) for o in rows.outputs(job_id)]), {})
    job = rows.job(job_id)
    assert job.status == rows.batch_of(job_id).status == "failed"
    assert (job.error_code, job.error_message) == ("render_failed", "FFmpeg said no")


def test_a_job_whose_outputs_were_all_ready_when_its_runner_was_lost_has_no_error(rows):
    job_id, attempt_id = running(rows)
    both = rows.outputs(job_id)
    beat = Heartbeat(seq=1, outputs=[ready(o.id) for o in both])
    reports.heartbeat(rows.store, attempt_id, beat, seen(*both), next_beat_s=15)
    attempts.end(rows.store, attempt_id, Trigger.LEASE_EXPIRED, Reason.LEASE_EXPIRED, "")
    assert (rows.job(job_id).status, rows.job(job_id).error_code) == ("completed", None)


def test_an_identical_finish_is_accepted_again_and_another_is_superseded(rows):
    job_id, attempt_id = running(rows)
    message = finished(*[failed(o) for o in rows.outputs(job_id)])
    reports.finish(rows.store, attempt_id, message, {})
    before = len(rows.all(Event))
    reports.finish(rows.store, attempt_id, message, {})
    assert len(rows.all(Event)) == before
    with pytest.raises(ControlError) as refused:
        reports.finish(rows.store, attempt_id, finished(seq=10), {})
    assert refused.value.code is Code.SUPERSEDED


class LaterFinish(Finish):
    """The message as a later release knows it."""

    news: str = ""


def test_a_finish_is_accepted_again_after_a_deploy_that_adds_a_field_and_after_one_of_before(rows):
    _, attempt_id = running(rows)
    message = finished(outcome="error")
    reports.finish(rows.store, attempt_id, message, {})
    before = len(rows.all(Event))
    reports.finish(rows.store, attempt_id, LaterFinish(**message.model_dump()), {})
    with rows.store.transaction() as tx:  # as the release before stored it, of fields that it knew
        tx.attempt(attempt_id).finish_digest = hashlib.sha256(b"{}").hexdigest()
    reports.finish(rows.store, attempt_id, message, {})
    assert len(rows.all(Event)) == before
    other = message.model_copy(update={"machine_id": "m2"})
    with pytest.raises(ControlError) as refused:
        reports.finish(rows.store, attempt_id, other, {})
    assert refused.value.code is Code.SUPERSEDED


def test_a_finish_that_cannot_be_stored_keeps_the_lease(rows, monkeypatch):
    _, attempt_id = running(rows)
    rows.clock.forward(50)
    monkeypatch.setattr(reports, "_finish", Mock(side_effect=OSError("the disk is full")))
    with pytest.raises(OSError, match="disk"):
        reports.finish(rows.store, attempt_id, finished(), {})
    assert rows.attempt(attempt_id).state == "running"
    assert lease_s(rows, attempt_id) == 60


def test_a_finish_whose_outputs_are_not_in_the_bucket_is_tried_again(rows):
    job_id, attempt_id = running(rows)
    both = rows.outputs(job_id)
    reports.finish(rows.store, attempt_id, finished(*[ready(o.id) for o in both]), seen(both[0]))
    assert rows.attempt(attempt_id).reason == Reason.STORAGE_UNAVAILABLE
    assert rows.job(job_id).status == "queued"
    assert [output.state for output in rows.outputs(job_id)] == ["ready", "queued"]


def test_a_retry_waits_and_then_makes_only_what_is_missing(rows):
    job_id, attempt_id = running(rows)
    first = rows.outputs(job_id)[0]
    reports.heartbeat(
        rows.store, attempt_id, Heartbeat(seq=1, outputs=[ready(first.id)]), seen(first), next_beat_s=15
    )
    attempts.end(rows.store, attempt_id, Trigger.LEASE_EXPIRED, Reason.LEASE_EXPIRED, "")
    queue.start(rows.store, APPS)
    assert len(rows.all(Attempt)) == 1  # not yet
    rows.clock.forward(2)
    queue.start(rows.store, APPS)
    assert rows.job(job_id).status == "launching"
    assert [output.state for output in rows.outputs(job_id)] == ["ready", "queued"]


def test_a_job_out_of_attempts_fails_with_the_reason_on_each_output(rows):
    job_id = rows.submit()
    for number in (1, 2, 3):
        rows.clock.forward(60)
        queue.start(rows.store, APPS)
        reports.claim(rows.store, f"{job_id}-{number}", f"m{number}")
        end = (Trigger.LEASE_EXPIRED, Reason.LEASE_EXPIRED, "")
        attempts.end(rows.store, f"{job_id}-{number}", *end)
    assert rows.job(job_id).status == "failed"
    assert rows.job(job_id).error_code == "lease_expired"
    assert {output.error_code for output in rows.outputs(job_id)} == {"lease_expired"}


def test_a_stale_attempt_changes_nothing(rows):
    job_id, attempt_id = running(rows)
    output = rows.outputs(job_id)[0]
    attempts.end(rows.store, attempt_id, Trigger.LEASE_EXPIRED, Reason.LEASE_EXPIRED, "")
    beat = Heartbeat(seq=7, outputs=[ready(output.id)])
    for late in (
        lambda: reports.heartbeat(rows.store, attempt_id, beat, seen(output), next_beat_s=15),
        lambda: reports.finish(rows.store, attempt_id, finished(ready(output.id)), seen(output)),
        lambda: reports.claim(rows.store, attempt_id, "m1"),
    ):
        with pytest.raises(ControlError) as refused:
            late()
        assert refused.value.code is Code.SUPERSEDED
    assert rows.outputs(job_id)[0].state == "queued"
    assert all(event.accepted for event in rows.all(Event)), "what is refused is not stored"


def test_a_lease_that_was_extended_meanwhile_is_not_expired(rows):
    _, attempt_id = running(rows)
    looked = rows.store.leases.until(attempt_id)
    rows.clock.forward(61)
    reports.heartbeat(rows.store, attempt_id, Heartbeat(seq=1, outputs=[]), {}, next_beat_s=15)
    end = (Trigger.LEASE_EXPIRED, Reason.LEASE_EXPIRED, "")
    attempts.end(rows.store, attempt_id, *end, lease_seen=looked)
    assert rows.attempt(attempt_id).state == "running"


def test_the_batch_ends_with_its_last_job(engine, rows):
    planned = plan(
        [rows.source(f"s{n}.mp4") for n in range(3)], variations=100, seed=1, new_id=lambda: new_id("out")
    )
    batch_id = batches.submit(rows.store, planned)
    queue.start(rows.store, APPS)
    jobs = [job for job in rows.all(Job) if job.batch_id == batch_id]
    assert len(jobs) == 2
    for number, job in enumerate(jobs):
        reports.claim(rows.store, f"{job.id}-1", f"m{number}")
        outputs = rows.outputs(job.id)
        reports.finish(rows.store, f"{job.id}-1", finished(*[ready(o.id) for o in outputs]), seen(*outputs))
        assert rows.batch_of(job.id).status == ("launching" if number == 0 else "completed")


# --- the database -----------------------------------------------------------------------------------


def test_an_event_is_logged_only_once_it_is_committed(rows, caplog):
    job_id = rows.submit()
    caplog.set_level("INFO", logger="control")
    caplog.clear()
    with pytest.raises(ValueError, match="rolled back"), rows.store.transaction() as tx:  # noqa: PT012
        tx.event("seen", tx.session.get_one(Job, job_id))
        raise ValueError("rolled back")
    assert caplog.messages == []
    with rows.store.transaction() as tx:
        tx.event("seen", tx.session.get_one(Job, job_id))
        assert caplog.messages == []
    assert '"event": "seen"' in caplog.text


def test_the_migrations_make_exactly_the_tables_of_the_code(engine):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlmodel import SQLModel

    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, SQLModel.metadata) == []


def test_the_owner_of_a_database_stays_the_same_over_a_restart(engine, settings, clock, store):
    assert Store(engine, settings, clock).owner_id == store.owner_id
