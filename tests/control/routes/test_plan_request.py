"""From a request to a plan: which machines it may have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from control.domain.errors import Code, ControlError
from control.planning.planner import PlannedSource
from control.planning.workload import SourceInfo
from control.routes.plan_request import planned_batch, planned_source
from control.store import batches
from control.store.tables import Source
from control.views.schemas.submit import NewJob

JOB = NewJob(sources=[{"source_id": "src_1"}], variations=1, seed=1)
DELIVERED = JOB.model_copy(update={"output_url": "https://results.example/a.mp4"})


def source(*, size_bytes: int = 1 << 20, duration_s: float = 10, width: int, height: int) -> PlannedSource:
    source_info = SourceInfo(size_bytes=size_bytes, duration_s=duration_s, pixels=width * height)
    return PlannedSource(source_id="src_1", name="ad.mp4", fingerprint="f", source_info=source_info)


def test_a_small_job_gets_the_cheapest_machine(context):
    planned = planned_batch(context, JOB, [source(width=1280, height=720)])
    assert planned.schedule.size == "performance-1x"


def test_a_job_gets_a_machine_whose_memory_its_sources_fit(context):
    planned = planned_batch(context, JOB, [source(width=3840, height=2160)])
    assert planned.schedule.size in ("performance-2x", "performance-4x", "performance-8x")


def test_what_fits_no_allowed_machine_is_refused_with_the_numbers(context):
    small = context.settings.model_copy(update={"runner_sizes": ("performance-1x",)})
    huge = source(size_bytes=2 << 30, width=8000, height=4000)
    with pytest.raises(ControlError, match=r"ad.mp4' needs a machine with \d+\.\d GiB") as refused:
        planned_batch(replace(context, settings=small), JOB, [huge])
    assert refused.value.code is Code.INVALID


def test_a_url_is_set_aside_for_by_the_largest_source_that_is_taken_and_its_output_url_as_well(context, rows):
    rows.source()
    [row] = rows.all(Source)
    row.url, row.duration_s, row.width, row.height, row.size_bytes = (
        "https://videos.example/a.mp4",
        0,
        0,
        0,
        0,
    )
    found = [planned_batch(context, job, [planned_source(context, row)]) for job in (JOB, DELIVERED)]
    most_bytes = [planned.schedule.assignments[0].bytes_max for planned in found]
    assert most_bytes[1] == 2 * most_bytes[0] > 2 * context.settings.max_source_bytes
    with pytest.raises(ControlError) as refused:
        batches.submit(rows.store, replace(found[0], max_cost_usd=0.01))
    assert refused.value.code is Code.BUDGET_EXCEEDED
