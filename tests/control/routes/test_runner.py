"""The calls of a runner while the bucket does not answer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control.passes.launch import launch
from control.routes.runner import hear, seen_as_reported, seen_so_far, take_heartbeat
from control.store import reports
from infra.ports import Unanswered
from runner.contract import Heartbeat
from tests.support.rows import finished, ready


def test_beats_and_a_finish_that_must_be_repeated_extend_the_lease_though_the_bucket_is_away(
    context, rows, machines
):
    job_id = rows.submit()
    launch(context)
    attempt_id = f"{job_id}-1"
    reports.claim(context.store, attempt_id, "m1")
    made = [ready(output.id) for output in rows.outputs(job_id)]
    rows.clock.forward(30)
    beat = Heartbeat(seq=1, outputs=made)
    assert take_heartbeat(context, attempt_id, beat, seen_so_far(context, attempt_id, beat)).proceed
    assert context.store.leases.until(attempt_id) - rows.clock.monotonic() == 60
    assert {output.state for output in rows.outputs(job_id)} == {"running"}
    rows.clock.forward(30)
    end = finished(*made)
    hear(context, attempt_id, end.model_copy(update={"machine_id": "m2"}))
    assert context.store.leases.until(attempt_id) - rows.clock.monotonic() == 30
    hear(context, attempt_id, end)
    assert context.store.leases.until(attempt_id) - rows.clock.monotonic() == 60
    with pytest.raises(Unanswered):
        seen_as_reported(context, attempt_id, end)
    assert rows.attempt(attempt_id).state == "running"


class NoObjects:
    """A bucket that shows no object, and notes how it is asked."""

    def __init__(self) -> None:
        self.asked: list[bool] = []

    def head(self, key: str, *, is_fresh: bool = False) -> None:
        self.asked.append(is_fresh)


def test_the_last_report_waits_for_the_first_object_that_is_not_seen_and_a_beat_for_none(
    context, rows, machines
):
    job_id = rows.submit()
    launch(context)
    attempt_id = f"{job_id}-1"
    reports.claim(context.store, attempt_id, "m1")
    made = [ready(output.id) for output in rows.outputs(job_id)]
    context = replace(context, storage=NoObjects())
    assert seen_as_reported(context, attempt_id, Heartbeat(seq=1, outputs=made)) == {}
    assert set(context.storage.asked) == {False}
    context.storage.asked.clear()
    assert seen_as_reported(context, attempt_id, finished(*made)) == {}
    assert context.storage.asked == [True, *[False] * (len(context.storage.asked) - 1)]
    assert len(context.storage.asked) > 1
