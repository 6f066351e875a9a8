"""A failed attempt keeps the end of its runner's log, without anything that opens a door."""

from __future__ import annotations

import pytest

from control.cli import lines
from control.domain.errors import ControlError
from control.domain.states import Trigger
from control.passes.launch import launch
from control.store import changes, reports
from control.store.attempts import end_within
from control.store.tables import AttemptLog
from runner.contract import LOG_CHARS_MAX, Finish, Reason, Timings, Usage
from video_refresher.models import Job

SAID = '{"event": "claimed"}\n{"event": "crashed", "detail": "PUT https://b/k?X-Amz-Signature=canary failed"}'


def failing(context, rows, *, outcome: str = "error", said: str = SAID) -> str:
    """Have a runner of a new job report its end, and return the job's id."""
    job_id = rows.submit()
    launch(context)
    reports.claim(context.store, f"{job_id}-1", rows.attempt(f"{job_id}-1").machine_id)
    finish(context, job_id, outcome, said)
    return job_id


def finish(context, job_id: str, outcome: str, said: str) -> None:
    reason = {"error": Reason.RUNNER_CRASHED, "cancelled": Reason.CANCELLED}[outcome]
    usage = Usage(wall_s=1, cpu_s=1, timings=Timings(), sent_bytes=0)
    end = Finish(seq=1, outcome=outcome, reason=reason, outputs=[], usage=usage, log_tail=said)
    reports.finish(context.store, f"{job_id}-1", end, {})


def test_a_failed_attempt_shows_the_end_of_its_log_and_where_the_rest_is(context, rows, machines):
    job_id = failing(context, rows)
    shown = context.views.job(job_id)
    [attempt] = shown.attempts
    assert attempt.log_tail == SAID.replace("https://b/k?X-Amz-Signature=canary", "URL")
    assert context.views.batch(shown.batch_id).attempts == shown.attempts
    text = list(lines.of_items(Job.model_validate(shown.model_dump(mode="json"))))
    assert '    {"event": "claimed"}' in text
    assert text[-1].strip().endswith(f"fly logs --machine {attempt.machine_id} --app {attempt.app}")


def test_only_an_error_leaves_a_log_and_it_goes_with_its_batch(context, rows, machines):
    cancelled = failing(context, rows, outcome="cancelled")
    assert context.views.job(cancelled).attempts[0].log_tail is None
    assert rows.all(AttemptLog) == []
    failed = failing(context, rows)
    assert len(rows.all(AttemptLog)) == 1
    changes.remove_rows(context.store, rows.job(failed).batch_id)
    assert rows.all(AttemptLog) == []


def test_a_runner_that_was_given_up_still_leaves_its_log_once(context, rows, machines):
    job_id = rows.submit()
    launch(context)
    reports.claim(context.store, f"{job_id}-1", rows.attempt(f"{job_id}-1").machine_id)
    with context.store.transaction() as tx:
        end_within(tx, tx.attempt(f"{job_id}-1"), Trigger.LEASE_EXPIRED, Reason.LEASE_EXPIRED, "")
    for said in ("first", "second"):
        with pytest.raises(ControlError, match="ended"):
            finish(context, job_id, "error", said)
    assert [log.tail for log in rows.all(AttemptLog)] == ["first"]


def test_of_a_longer_log_the_end_is_kept_and_what_is_no_text_is_replaced():
    usage = Usage(wall_s=1, cpu_s=1, timings=Timings())
    whole = "\x1b[31m" + "a" * LOG_CHARS_MAX + "end\n\x00"
    kept = Finish(seq=1, outcome="error", outputs=[], usage=usage, log_tail=whole).log_tail
    assert kept == "a" * (LOG_CHARS_MAX - 5) + "end\n\ufffd"
