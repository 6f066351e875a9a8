"""Decisions that the submitting routes make alone."""

from __future__ import annotations

from inspect import unwrap

import pytest

from control.domain.errors import Code, ControlError
from control.planning.planner import jobs_count
from control.routes.batches import digest, routes
from control.views.schemas.submit import NewBatch, NewJob


class NewerJob(NewJob):
    """A job as a later deploy may know it."""

    wish: str | None = None


BODY = {"sources": [{"source_id": "src_1"}], "variations": 3}


def test_a_deploy_that_adds_a_field_knows_the_requests_of_before():
    assert digest("job", NewJob(**BODY)) == digest("job", NewerJob(**BODY))
    assert digest("job", NewJob(**BODY)) != digest("job", NewerJob(**BODY, wish="soon"))
    assert digest("job", NewJob(**BODY)) != digest("batch", NewBatch(**BODY))


def test_a_batch_that_needs_more_machines_than_it_may_have_is_refused_with_the_numbers(context):
    submit = next(
        unwrap(r.endpoint) for r in routes(context, lambda: None).routes if r.name == "submit_batch"
    )
    sources = [{"source_id": f"src_{n}"} for n in range(5)]
    with pytest.raises(ControlError, match="500 need 3 machines") as refused:
        submit(NewBatch(sources=sources, variations=100, max_machines=2), None)
    assert refused.value.code is Code.INVALID
    with pytest.raises(ControlError, match="no source"):
        submit(NewBatch(sources=sources, variations=100, max_machines=3), None)


@pytest.mark.parametrize(("outputs", "jobs"), [(1, 1), (200, 1), (201, 2), (10_000, 50)])
def test_a_batch_has_as_few_jobs_as_can_be(outputs, jobs):
    assert jobs_count(outputs) == jobs
