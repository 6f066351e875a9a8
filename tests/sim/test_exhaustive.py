"""Complete enumerations: every interleaving of triggers, a crash at every effect, a failure of every call."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, product

import pytest

from control.domain import states
from control.domain.states import LIVE, AttemptState, JobStatus, OutputState, Trigger
from infra.flysim.faults import FailPoint, Faults, Window
from runner.contract import Reason
from tests.sim.database import Database
from tests.sim.swarm import Mishap, Swarm
from tests.sim.world import World

# --- the move table -----------------------------------------------------------------------------------------


def test_no_fact_moves_an_attempt_that_has_ended_and_none_makes_it_younger():
    age = {AttemptState.LAUNCHING: 0, AttemptState.BOOTING: 1, AttemptState.RUNNING: 2}
    for state, fact in product(AttemptState, Trigger):
        to = states.move(state, fact)
        if state not in LIVE:
            assert to is None
        elif to in LIVE:
            assert age[to] >= age[state]


@dataclass(frozen=True)
class Job:
    """As much of a job as decides what follows; at most `tries` attempts."""

    attempts: tuple[AttemptState, ...]
    outputs: tuple[OutputState, ...]
    status: JobStatus
    is_cancelled: bool = False


ENDS = {
    Trigger.LAUNCH_REFUSED: Reason.LAUNCH_REFUSED,
    Trigger.FINISHED_OK: None,
    Trigger.FINISHED_ERROR: Reason.RUNNER_CRASHED,
    Trigger.FINISHED_CANCELLED: Reason.CANCELLED,
    Trigger.BOOT_DEADLINE: Reason.BOOT_DEADLINE,
    Trigger.LEASE_EXPIRED: Reason.LEASE_EXPIRED,
    Trigger.RUN_DEADLINE: Reason.RUN_DEADLINE,
    Trigger.MACHINE_ENDED: Reason.MACHINE_ENDED,
    Trigger.CANCELLED: Reason.CANCELLED,
}


def after(job: Job, tries: int) -> Iterator[Job]:
    """Yield every job that one fact about any attempt, an output or a start leads to."""
    if job.status is JobStatus.QUEUED and len(job.attempts) < tries:
        yield replace(job, attempts=(*job.attempts, AttemptState.LAUNCHING), status=JobStatus.LAUNCHING)
    for index, state in enumerate(job.attempts):
        for fact in Trigger:
            to = states.move(state, fact)
            if to is None or (fact is Trigger.FINISHED_OK and OutputState.QUEUED in job.outputs):
                continue
            moved = (*job.attempts[:index], to, *job.attempts[index + 1 :])
            yield (
                _ended(replace(job, attempts=moved), fact, tries)
                if to not in LIVE
                else replace(job, attempts=moved)
            )
    if AttemptState.RUNNING in job.attempts:
        for index, end in product(range(len(job.outputs)), (OutputState.READY, OutputState.FAILED)):
            if job.outputs[index] is OutputState.QUEUED:
                yield replace(job, outputs=(*job.outputs[:index], end, *job.outputs[index + 1 :]))


def _ended(job: Job, fact: Trigger, tries: int) -> Job:
    is_cancelled = job.is_cancelled or fact is Trigger.CANCELLED
    job_outcome = states.job_outcome(
        job.outputs, reason=ENDS[fact], is_cancelled=is_cancelled, may_retry=len(job.attempts) < tries
    )
    return replace(job, status=job_outcome.status, is_cancelled=is_cancelled)


@pytest.mark.parametrize("tries", [1, 2, 3])
def test_over_every_interleaving_of_facts_a_job_ends_once_and_from_everywhere(tries: int):
    first = Job((), (OutputState.QUEUED, OutputState.QUEUED), JobStatus.QUEUED)
    seen, edges, todo = {first}, {}, [first]
    while todo:
        job = todo.pop()
        edges[job] = set(after(job, tries))
        new = edges[job] - seen
        seen |= new
        todo += new
    ended = {job for job in seen if job.status in states.ENDED}
    for job in seen:
        live = [state for state in job.attempts if state in LIVE]
        assert len(live) <= 1
        if job in ended:
            assert not edges[job], f"{job} had ended and was moved"
            assert not live
        if job.status is JobStatus.COMPLETED:
            assert OutputState.READY in job.outputs
        if job.status is JobStatus.FAILED:
            assert OutputState.READY not in job.outputs
    able = set(ended)
    while grown := {job for job in seen - able if edges[job] & able}:
        able |= grown
    assert able == seen, "from these no end is reached"


# --- scripts ------------------------------------------------------------------------------------------------

QUICK = {"heartbeat_s": 5, "lease_s": 15, "boot_timeout_s": 40, "run_timeout_s": 120, "max_machines": 1}
SMALL = Swarm(
    settings=QUICK, batches=1, jobs_max=1, outputs_max=2, submits_s=1, faults_s=40, tick_s_max=5,
    fly=Faults(pull_s=(0, 1), boot_s=(0.3, 1)),
)  # fmt: skip


def once(*fail_points: FailPoint, until_s: float = 8.0) -> Faults:
    """Return faults that surely strike in the first seconds, and then never again."""
    return replace(
        SMALL.fly,
        windows=[Window(fail_point=fail_point, from_s=0, until_s=until_s) for fail_point in fail_points],
    )


SAMPLES = 12  # points of each script that a short run tries
SEEDS = {"cancel": 4, "disk full": 24, "clock steps": 5}  # the fault comes while its job runs
SCRIPTS = {
    "happy": SMALL,
    "ambiguous create": replace(SMALL, fly=once(FailPoint.CREATE_LOST_DONE, FailPoint.LIST_LAG)),
    "cancel": replace(SMALL, rates={Mishap.CANCEL: 1.0}),
    "lost runner": replace(
        SMALL, fly=replace(once(FailPoint.HOST_CUT_OFF), host_lost_s=(1, 5), host_away_s=(60, 90))
    ),
    "out of memory": replace(SMALL, fly=replace(once(FailPoint.OUT_OF_MEMORY), death_s=(1, 5))),
    "no capacity": replace(SMALL, fly=once(FailPoint.NO_CAPACITY)),
    "control away": replace(SMALL, rates={Mishap.AWAY: 1.0}),
    "delete": replace(SMALL, rates={Mishap.DELETE: 1.0}),
    "retry of what is deleted": replace(SMALL, rates={Mishap.DELETE: 1.0, Mishap.RETRY: 1.0}),
    "disk full": replace(SMALL, rates={Mishap.DISK_FULL: 1.0}),
    "clock steps": replace(SMALL, rates={Mishap.CLOCK_STEP: 1.0}),
}


def step(points: int) -> int:
    """Return how far apart the points to try are: some in a short run, every one with SIM_FULL=1."""
    return 1 if os.environ.get("SIM_FULL") == "1" else max(1, points // SAMPLES)


@pytest.mark.parametrize("name", SCRIPTS)
def test_one_crash_at_every_effect_breaks_nothing(database: Database, name: str):
    points = World(SEEDS.get(name, 1), database, swarm=SCRIPTS[name]).run().crash_points
    assert points > 20
    for point in range(1, points + 1, step(points)):
        World(SEEDS.get(name, 1), database, swarm=SCRIPTS[name], crash_at=point).run()


@pytest.mark.parametrize("name", ["happy", "delete"])
def test_a_failure_of_every_single_call_breaks_nothing(database: Database, name: str):
    for number in count(1, step(120)):
        world = World(SEEDS.get(name, 1), database, swarm=SCRIPTS[name], fail_at=number)
        world.run()
        if world.io_calls < number:
            break
    assert number > 20


def test_in_each_script_happens_what_its_name_says(database: Database):
    for name, fail_point in (
        ("cancel", Mishap.CANCEL), ("delete", Mishap.DELETE), ("control away", Mishap.AWAY),
        ("retry of what is deleted", Mishap.RETRY_DELETED), ("disk full", Mishap.DISK_FULL),
        ("clock steps", Mishap.CLOCK_STEP),
        ("ambiguous create", FailPoint.CREATE_LOST_DONE), ("lost runner", FailPoint.HOST_CUT_OFF),
        ("out of memory", FailPoint.OUT_OF_MEMORY), ("no capacity", FailPoint.NO_CAPACITY),
    ):  # fmt: skip
        assert World(SEEDS.get(name, 1), database, swarm=SCRIPTS[name]).run().hits[fail_point], name
