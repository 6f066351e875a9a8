"""From a request to jobs."""

from __future__ import annotations

from itertools import count

from control.planning.planner import OUTPUTS_PER_JOB_MAX, PlannedSource, plan


def planned(sources: int, variations: int):
    ids = count()
    rows = [
        PlannedSource(source_id=f"src_{n}", name=f"ad{n}.mp4", fingerprint=str(n)) for n in range(sources)
    ]
    return plan(rows, variations=variations, seed=1, new_id=lambda: f"out_{next(ids)}")


def test_every_source_gets_its_variations_in_order():
    batch = planned(2, 3)
    made = [(output.source_id, output.variation) for job in batch.jobs for output in job]
    assert made == [(f"src_{source}", n) for source in range(2) for n in (1, 2, 3)]


def test_outputs_are_named_for_source_variation_and_effects():
    name = planned(1, 1).jobs[0][0].name
    folder, _, file = name.partition("/")
    assert folder == "ad0"
    assert file.startswith("ad0_var01_")
    assert file.endswith(".mp4")


def test_a_small_batch_is_one_job():
    assert len(planned(2, 100).jobs) == 1


def test_no_job_is_larger_than_a_job_may_be_and_none_is_lost():
    batch = planned(5, 100)
    assert len(batch.jobs) == 3, "as few as can be"
    assert batch.outputs_count == 500
    assert all(len(job) <= OUTPUTS_PER_JOB_MAX for job in batch.jobs)
    assert len({output.name for job in batch.jobs for output in job}) == 500
