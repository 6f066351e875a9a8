"""The rules of jobs and attempts: states, facts, the move table, what follows when an attempt ends.

PURE: standard library and the wire's reasons only. Must never read a clock, a row or a socket.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from control.domain.reasons import REASONS
from runner.contract import Reason


class AttemptState(StrEnum):
    """One try of a job. The comment says who moves it out."""

    LAUNCHING = "launching"  # row written, machine asked for: launch, the first claim, or a deadline
    BOOTING = "booting"  # the cloud has the machine: the first claim, or the boot deadline
    RUNNING = "running"  # claimed: finish, or watch when the lease or the run deadline passes
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    CANCELLED = "cancelled"


UNKNOWN_CREATE_TTL_S = 180  # by then a machine whose create was unanswered is listed, if there is one
LIVE = frozenset({AttemptState.LAUNCHING, AttemptState.BOOTING, AttemptState.RUNNING})


class JobStatus(StrEnum):
    """Of a job or a batch."""

    QUEUED = "queued"  # launch starts an attempt as soon as there is room
    LAUNCHING = "launching"  # follows its attempt
    RUNNING = "running"  # follows its attempt
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


ENDED = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED})


class OutputState(StrEnum):
    """One result. Ready and failed are for ever; the rest follow the attempt."""

    QUEUED = "queued"
    RUNNING = "running"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Trigger(StrEnum):
    """What somebody learned about an attempt."""

    MACHINE_CREATED = "machine_created"  # launch: an answer, or "name exists"
    LAUNCH_REFUSED = "launch_refused"  # launch: Fly will never make it
    CLAIMED = "claimed"  # runner: first machine
    HEARTBEAT = "heartbeat"  # runner
    FINISHED_OK = "finished_ok"  # runner
    FINISHED_ERROR = "finished_error"  # runner
    FINISHED_CANCELLED = "finished_cancelled"  # runner: its machine was told to stop
    BOOT_DEADLINE = "boot_deadline"  # watch
    LEASE_EXPIRED = "lease_expired"  # watch
    RUN_DEADLINE = "run_deadline"  # watch
    MACHINE_ENDED = "machine_ended"  # watch: it exited without a finish, or is confirmed gone
    CANCELLED = "cancelled"  # api: a user asked for it


_S, _F = AttemptState, Trigger
TRANSITIONS: dict[Trigger, dict[AttemptState, AttemptState]] = {
    _F.MACHINE_CREATED: {_S.LAUNCHING: _S.BOOTING, _S.BOOTING: _S.BOOTING, _S.RUNNING: _S.RUNNING},
    _F.LAUNCH_REFUSED: {_S.LAUNCHING: _S.FAILED},
    _F.CLAIMED: {_S.LAUNCHING: _S.RUNNING, _S.BOOTING: _S.RUNNING, _S.RUNNING: _S.RUNNING},
    _F.HEARTBEAT: {_S.RUNNING: _S.RUNNING},
    _F.FINISHED_OK: {_S.RUNNING: _S.SUCCEEDED},
    _F.FINISHED_ERROR: {_S.RUNNING: _S.FAILED},
    _F.FINISHED_CANCELLED: {_S.RUNNING: _S.CANCELLED},
    _F.BOOT_DEADLINE: {_S.LAUNCHING: _S.LOST, _S.BOOTING: _S.LOST},
    _F.LEASE_EXPIRED: {_S.RUNNING: _S.LOST},
    _F.RUN_DEADLINE: {_S.RUNNING: _S.FAILED},
    _F.MACHINE_ENDED: {_S.BOOTING: _S.LOST, _S.RUNNING: _S.LOST},
    _F.CANCELLED: {_S.LAUNCHING: _S.CANCELLED, _S.BOOTING: _S.CANCELLED, _S.RUNNING: _S.CANCELLED},
}


def move(state: AttemptState, trigger: Trigger) -> AttemptState | None:
    """Return the state that `fact` leads to from `state`, or None when it must be refused."""
    return TRANSITIONS[trigger].get(state)


@dataclass(frozen=True)
class JobOutcome:
    """What becomes of a job when its attempt has ended."""

    status: JobStatus  # queued (again), completed or failed
    partial: bool


def job_outcome(
    outputs: Collection[OutputState], *, reason: Reason | None, is_cancelled: bool, may_retry: bool
) -> JobOutcome:
    """Decide what follows an attempt. `reason` is None when it ended well."""
    unfinished = {OutputState.QUEUED, OutputState.RUNNING}.intersection(outputs)
    retryable = reason is not None and REASONS[reason].is_retryable and may_retry
    if unfinished and retryable and not is_cancelled:
        return JobOutcome(JobStatus.QUEUED, partial=False)
    return final_outcome(outputs, is_cancelled=is_cancelled)


def final_outcome(outputs: Collection[OutputState], *, is_cancelled: bool) -> JobOutcome:
    """Return the end of a job or batch by the rule over its outputs: failed only when none is ready."""
    ready = sum(state is OutputState.READY for state in outputs)
    if ready == len(outputs):
        return JobOutcome(JobStatus.COMPLETED, partial=False)
    if is_cancelled:
        return JobOutcome(JobStatus.CANCELLED, partial=ready > 0)
    if ready == 0:
        return JobOutcome(JobStatus.FAILED, partial=False)
    return JobOutcome(JobStatus.COMPLETED, partial=True)


def retry_delay(attempts_used: int) -> timedelta:
    """Return how long a job waits before its next attempt: 2 s, 4 s, 8 s ... at most a minute."""
    return timedelta(seconds=min(60, 2**attempts_used))


def live_status(jobs: Iterable[JobStatus]) -> JobStatus:
    """Return a batch's status while a job of it lives: the first of these that any job has."""
    present = set(jobs)
    order = (JobStatus.RUNNING, JobStatus.LAUNCHING, JobStatus.QUEUED)
    return next(status for status in order if status in present)


def source_status(outputs: Collection[OutputState]) -> OutputState:
    """Return where a source stands: live while an output is, ready as soon as one is at the end."""
    states = set(outputs)
    if OutputState.RUNNING in states:
        return OutputState.RUNNING
    if OutputState.QUEUED in states:
        return OutputState.QUEUED if states == {OutputState.QUEUED} else OutputState.RUNNING
    for state in (OutputState.READY, OutputState.CANCELLED):
        if state in states:
            return state
    return OutputState.FAILED
