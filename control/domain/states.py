"""The state machine of jobs and attempts: states, triggers, transitions, what follows when an attempt ends.

PURE: only the standard library and the reasons of the wire. Must never read a clock, a row or a socket.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from control.domain.reasons import REASONS
from runner.contract import Reason


class AttemptState(StrEnum):
    """The state of one try of a job. After the colon: what ends the state."""

    LAUNCHING = "launching"  # the row is written: launch, the first claim, or a deadline
    BOOTING = "booting"  # the cloud has the machine: the first claim, or the boot deadline
    RUNNING = "running"  # claimed: finish, or watch after the lease or the run deadline
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    CANCELLED = "cancelled"


UNKNOWN_CREATE_TTL_S = 180  # after an unanswered create call, its machine (if any) is listed by then
LIVE = frozenset({AttemptState.LAUNCHING, AttemptState.BOOTING, AttemptState.RUNNING})


class JobStatus(StrEnum):
    """The status of a job or batch."""

    QUEUED = "queued"  # launch starts an attempt as soon as a machine is allowed
    LAUNCHING = "launching"  # follows its attempt
    RUNNING = "running"  # follows its attempt
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


ENDED = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED})


class OutputState(StrEnum):
    """The state of one result. Ready is final; failed ends only by a retry; the others follow the attempt."""

    QUEUED = "queued"
    RUNNING = "running"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Trigger(StrEnum):
    """Something that happened to an attempt. The comment says which part of control reports it."""

    MACHINE_CREATED = "machine_created"  # launch: an answer, or "name exists"
    LAUNCH_REFUSED = "launch_refused"  # launch: Fly will never make it
    CLAIMED = "claimed"  # runner: first machine
    HEARTBEAT = "heartbeat"  # runner
    FINISHED_OK = "finished_ok"  # runner
    FINISHED_ERROR = "finished_error"  # runner
    FINISHED_CANCELLED = "finished_cancelled"  # runner: its machine was asked to stop
    BOOT_DEADLINE = "boot_deadline"  # watch
    LEASE_EXPIRED = "lease_expired"  # watch
    RUN_DEADLINE = "run_deadline"  # watch
    MACHINE_ENDED = "machine_ended"  # watch: it exited without a finish, or is confirmed to be gone
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
    """Return the state that follows `state` after `trigger`, or None if the trigger must be refused."""
    return TRANSITIONS[trigger].get(state)


@dataclass(frozen=True)
class JobOutcome:
    """What happens to a job when its attempt has ended."""

    status: JobStatus  # queued (again), completed, failed or cancelled
    partial: bool


def job_outcome(
    outputs: Collection[OutputState], *, reason: Reason | None, is_cancelled: bool, may_retry: bool
) -> JobOutcome:
    """Decide what follows the end of an attempt. `reason` is None after a success."""
    unfinished = {OutputState.QUEUED, OutputState.RUNNING}.intersection(outputs)
    retryable = reason is not None and REASONS[reason].is_retryable and may_retry
    if unfinished and retryable and not is_cancelled:
        return JobOutcome(JobStatus.QUEUED, partial=False)
    return final_outcome(outputs, is_cancelled=is_cancelled)


def final_outcome(outputs: Collection[OutputState], *, is_cancelled: bool) -> JobOutcome:
    """Return how a job or batch ends, from its outputs: it has failed only if no output is ready."""
    ready = sum(state is OutputState.READY for state in outputs)
    if ready == len(outputs):
        return JobOutcome(JobStatus.COMPLETED, partial=False)
    if is_cancelled:
        return JobOutcome(JobStatus.CANCELLED, partial=ready > 0)
    if ready == 0:
        return JobOutcome(JobStatus.FAILED, partial=False)
    return JobOutcome(JobStatus.COMPLETED, partial=True)


def retry_delay(attempts_used: int) -> timedelta:
    """Return how long a job waits before its next attempt: 2 s, 4 s, 8 s ... at most one minute."""
    return timedelta(seconds=min(60, 2**attempts_used))


def live_status(jobs: Iterable[JobStatus]) -> JobStatus:
    """Return the status of a live batch: the first of running, launching and queued that any job has."""
    present = set(jobs)
    order = (JobStatus.RUNNING, JobStatus.LAUNCHING, JobStatus.QUEUED)
    return next(status for status in order if status in present)


def source_status(outputs: Collection[OutputState]) -> OutputState:
    """Return the status of a source: live while an output is, and ready at the end if any output is."""
    states = set(outputs)
    if OutputState.RUNNING in states:
        return OutputState.RUNNING
    if OutputState.QUEUED in states:
        return OutputState.QUEUED if states == {OutputState.QUEUED} else OutputState.RUNNING
    for state in (OutputState.READY, OutputState.CANCELLED):
        if state in states:
            return state
    return OutputState.FAILED
