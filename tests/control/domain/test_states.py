"""The state machine of jobs and attempts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.domain import states
from control.domain.states import AttemptState, JobStatus, OutputState, Trigger
from runner.contract import Reason

READY, FAILED, QUEUED, RUNNING = (
    OutputState.READY,
    OutputState.FAILED,
    OutputState.QUEUED,
    OutputState.RUNNING,
)
ROOT = Path(__file__).parents[3]
ENDED_STATES = set(AttemptState) - states.LIVE


def test_no_trigger_changes_an_attempt_that_has_ended():
    moved = [(fact, state) for fact in Trigger for state in ENDED_STATES if states.move(state, fact)]
    assert moved == []


def test_every_live_state_ends_at_some_deadline():
    deadlines = {Trigger.BOOT_DEADLINE, Trigger.LEASE_EXPIRED, Trigger.RUN_DEADLINE}
    for state in states.LIVE:
        assert any(states.move(state, fact) in ENDED_STATES for fact in deadlines)


def test_only_a_running_attempt_may_beat_or_finish():
    runner_facts = (
        Trigger.HEARTBEAT,
        Trigger.FINISHED_OK,
        Trigger.FINISHED_ERROR,
        Trigger.FINISHED_CANCELLED,
    )
    for fact in runner_facts:
        assert {state for state in AttemptState if states.move(state, fact)} == {AttemptState.RUNNING}


@pytest.mark.parametrize(
    ("outputs", "reason", "used", "status", "partial"),
    [
        ([READY, READY], None, 1, JobStatus.COMPLETED, False),
        ([READY, FAILED], None, 1, JobStatus.COMPLETED, True),
        ([FAILED, FAILED], None, 1, JobStatus.FAILED, False),
        ([READY, QUEUED], Reason.LEASE_EXPIRED, 1, JobStatus.QUEUED, False),
        ([QUEUED, QUEUED], Reason.LEASE_EXPIRED, 3, JobStatus.FAILED, False),
        ([READY, RUNNING], Reason.LEASE_EXPIRED, 3, JobStatus.COMPLETED, True),
        ([QUEUED, QUEUED], Reason.LAUNCH_REFUSED, 1, JobStatus.FAILED, False),
        ([READY, READY], Reason.LEASE_EXPIRED, 1, JobStatus.COMPLETED, False),
        ([READY, FAILED], Reason.MACHINE_ENDED, 1, JobStatus.COMPLETED, True),  # nothing is left to retry
    ],
)
def test_the_outcome_of_a_job_after_an_attempt(outputs, reason, used, status, partial):
    job_outcome = states.job_outcome(outputs, reason=reason, is_cancelled=False, may_retry=used < 3)
    assert job_outcome == states.JobOutcome(status, partial)


@given(
    st.lists(st.sampled_from([READY, FAILED, QUEUED, RUNNING]), min_size=1),
    st.one_of(st.none(), st.sampled_from(list(Reason))),
)
def test_a_job_without_attempts_left_always_ends(outputs, reason):
    job_outcome = states.job_outcome(outputs, reason=reason, is_cancelled=False, may_retry=False)
    assert job_outcome.status in states.ENDED


@given(
    st.lists(st.sampled_from([READY, FAILED, QUEUED, RUNNING]), min_size=1),
    st.one_of(st.none(), st.sampled_from(list(Reason))),
)
def test_a_cancelled_job_never_starts_again(outputs, reason):
    job_outcome = states.job_outcome(outputs, reason=reason, is_cancelled=True, may_retry=True)
    all_ready = set(outputs) == {READY}
    assert job_outcome.status is (JobStatus.COMPLETED if all_ready else JobStatus.CANCELLED)


@pytest.mark.parametrize(
    ("jobs", "status"),
    [
        ([JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.COMPLETED], JobStatus.RUNNING),
        ([JobStatus.QUEUED, JobStatus.LAUNCHING], JobStatus.LAUNCHING),
        ([JobStatus.COMPLETED, JobStatus.QUEUED], JobStatus.QUEUED),
    ],
)
def test_a_live_batch_shows_the_first_of_running_launching_queued(jobs, status):
    assert states.live_status(jobs) is status


@pytest.mark.parametrize(
    ("outputs", "status"),
    [
        ([QUEUED, QUEUED], QUEUED),
        ([READY, QUEUED], RUNNING),
        ([FAILED, RUNNING], RUNNING),
        ([READY, FAILED], READY),
        ([FAILED, FAILED], FAILED),
        ([OutputState.CANCELLED, FAILED], OutputState.CANCELLED),
    ],
)
def test_the_status_of_a_source(outputs, status):
    assert states.source_status(outputs) is status


def test_retries_wait_longer_each_time_and_never_over_a_minute():
    delays = [states.retry_delay(used).total_seconds() for used in range(1, 12)]
    assert delays == sorted(delays)
    assert delays[0] == 2
    assert delays[-1] == 60


def test_the_architecture_document_shows_the_transitions_of_the_code():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    live = [AttemptState.LAUNCHING, AttemptState.BOOTING, AttemptState.RUNNING]
    shown = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 5 and cells[0] in set(Trigger):
            moves = zip(live, cells[2:], strict=True)
            shown[Trigger(cells[0])] = {state: AttemptState(to) for state, to in moves if to != "-"}
    assert shown == states.TRANSITIONS


ARROW = re.compile(r"^ +(\w+) --> (\w+): (.+)$", re.MULTILINE)


def diagram(heading: str) -> list[tuple[str, str, str]]:
    """Return the arrows of a diagram of docs/state_machine.md: from, to, label."""
    text = (ROOT / "docs" / "state_machine.md").read_text()
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    return ARROW.findall(section)


def test_the_diagram_of_an_attempt_shows_the_transitions_of_the_code():
    shown: dict[str, dict[str, str]] = {}
    for before, after, trigger in diagram("An attempt"):
        assert before not in shown.setdefault(trigger, {})
        shown[trigger][before] = after
    assert shown == states.TRANSITIONS


def test_the_diagram_of_a_job_has_every_status_and_every_outcome_of_an_attempt():
    arrows = {(before, after) for before, after, _ in diagram("A job")}
    assert {status for arrow in arrows for status in arrow} == set(JobStatus)
    outcomes = {
        states.job_outcome(outputs, reason=reason, is_cancelled=is_cancelled, may_retry=True).status
        for outputs in ([READY], [READY, QUEUED], [QUEUED])
        for reason in (None, *Reason)
        for is_cancelled in (False, True)
    }
    for live in (JobStatus.LAUNCHING, JobStatus.RUNNING):
        assert {after for before, after in arrows if before == live} - {JobStatus.RUNNING} == outcomes
    assert {after for before, after in arrows if before in states.ENDED} == {
        JobStatus.QUEUED,
        JobStatus.EXPIRED,
    }
