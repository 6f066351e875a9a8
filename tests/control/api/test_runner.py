"""The calls of a runner while the bucket does not answer."""

from __future__ import annotations

import pytest

from control.api.runner import seen_as_reported, seen_so_far, take_heartbeat
from control.passes.launch import launch
from control.store import reports
from infra.ports import Unanswered
from runner.contract import Heartbeat
from tests.support.rows import finished, ready


def test_a_beat_extends_the_lease_though_the_bucket_is_away_and_the_finish_must_be_repeated(
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
    with pytest.raises(Unanswered):
        seen_as_reported(context, attempt_id, finished(*made))
    assert rows.attempt(attempt_id).state == "running"
