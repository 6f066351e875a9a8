"""Changes of attempts after their start, and the effects of an attempt's end on its job and batch.

The end of an attempt changes attempt, job, outputs and batch in one transaction, so it is one file.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Executable, Update, bindparam, func, update
from sqlmodel import and_, col, not_, or_, select
from sqlmodel.sql.expression import SelectOfScalar

from control.domain import states
from control.domain.reasons import REASONS
from control.domain.states import AttemptState, JobStatus, OutputState, Trigger
from control.planning import sizing
from control.planning.prices import machine_seconds, machine_usd
from control.store import webhooks
from control.store.alive import count_others
from control.store.prepared import Moment, Prepared, Row
from control.store.tables import Attempt, Batch, Job, Machine, Output
from control.store.transaction import Store, Transaction
from infra.ports import Refusal
from runner.contract import Reason

FINAL = frozenset({OutputState.READY, OutputState.FAILED, OutputState.CANCELLED})

PAUSE_MAX = timedelta(seconds=60)  # the longest delay that any rule gives to a job or a create call
SLOW_BOOT = "slow_boot"  # why a job waits whose machine did not start in time


def adopt(tx: Transaction, attempt: Attempt, machine_id: str, region: str) -> None:
    """Record the machine that the cloud has for an attempt; a launching attempt becomes booting."""
    if attempt.state == AttemptState.LAUNCHING:
        tx.move(attempt, Trigger.MACHINE_CREATED, machine_id=machine_id, region=region)
        attempt.boot_from = attempt.boot_from or tx.now
        _stop_waiting(tx.job(attempt))
    attempt.machine_id = attempt.machine_id or machine_id
    attempt.region = attempt.region or region


def ask(store: Store, attempt_id: str) -> bool:
    """Record a create call before it is sent. Return False if it must not be sent (now).

    Then the attempt has ended, or a machine was found meanwhile that leaves no room under MAX_MACHINES.
    If control crashes before the answer, the boot deadline still runs and the machine still counts under
    MAX_MACHINES.
    """
    with store.transaction() as tx:
        return tx.change(_asked, attempt_id=attempt_id, most=store.settings.max_machines) == 1


@Prepared
def _asked(now: Moment) -> Executable:
    has_room = count_others(now) < bindparam("most")
    launching = _of_attempt().where(col(Attempt.state) == AttemptState.LAUNCHING, has_room)
    return launching.values(asked_at=now, boot_from=func.coalesce(col(Attempt.boot_from), now))


def _of_attempt() -> Update:
    return update(Attempt).where(col(Attempt.id) == bindparam("attempt_id"))


def record_answered(store: Store, before: Row, *, is_done: bool) -> None:
    """Undo what `ask` recorded, as far as the answer settles it. `before` is the row before `ask`.

    An earlier create call without an answer may still make a machine, so its record stays.
    """
    with store.transaction() as tx:
        tx.change(_answered, attempt_id=before.id, asked_at_before=before.asked_at)
        if not is_done:
            tx.change(_not_booting, attempt_id=before.id, boot_from_before=before.boot_from)


@Prepared
def _answered(_: Moment) -> Executable:
    return _of_attempt().values(asked_at=bindparam("asked_at_before"))


@Prepared
def _not_booting(_: Moment) -> Executable:
    launching = _of_attempt().where(col(Attempt.state) == AttemptState.LAUNCHING)
    return launching.values(boot_from=bindparam("boot_from_before"))


def record_unanswered(store: Store, attempt_id: str, *, retry_after: timedelta) -> None:
    """Record a create call that may have succeeded. The same call is sent again later."""
    with store.transaction() as tx:
        attempt = tx.attempt(attempt_id)
        attempt.asked_at = tx.now
        if attempt.state == AttemptState.LAUNCHING:
            attempt.launch_after = tx.now + retry_after
            wait(tx, tx.job(attempt), "unanswered", "Fly has not answered yet; it is asked again.")


def postpone(
    store: Store, attempt_id: str, refusal: Refusal, *, message: str, retry_after: timedelta, app: str
) -> None:
    """Record a create that was certainly not done: the job waits, visibly, and no attempt is used up.

    If no earlier create can have been done either, the next one uses `app` and the image of this release.
    """
    with store.transaction() as tx:
        attempt = tx.find_attempt(attempt_id)
        if attempt is None or attempt.state != AttemptState.LAUNCHING:
            return
        if attempt.asked_at is None:
            if app != attempt.app:
                retry_after = timedelta(0)
            attempt.app, attempt.image = app, tx.settings.runner_image
        attempt.launch_after = tx.now + retry_after
        wait(tx, tx.job(attempt), refusal, message)


def wait(tx: Transaction, job: Job, code: str, message: str) -> None:
    """Show why a job waits. An event is written only when the reason changes."""
    if (job.waiting_code, job.waiting_message) != (code, message):
        job.waiting_code, job.waiting_message = code, message
        tx.event("waiting", job, code=code)


def end(
    store: Store,
    attempt_id: str,
    trigger: Trigger,
    reason: Reason,
    detail: str,
    *,
    lease_seen: float | None = None,
) -> None:
    """End a live attempt because of what launch or watch found; the transition table may refuse that.

    With `lease_seen`, nothing happens if the lease was extended since the caller read it.
    """
    with store.transaction() as tx:
        attempt = tx.find_attempt(attempt_id)
        is_renewed = lease_seen is not None and store.leases.until(attempt_id) != lease_seen
        if attempt is not None and attempt.state in states.LIVE and not is_renewed:
            end_within(tx, attempt, trigger, reason, detail)


def end_within(
    tx: Transaction, attempt: Attempt, trigger: Trigger, reason: Reason | None, detail: str
) -> None:
    """End an attempt inside a transaction and decide what follows for its job and batch."""
    if not tx.move(attempt, trigger, reason=reason, detail=detail):
        return
    _close(tx, attempt, reason, detail)
    job = tx.job(attempt)
    outputs = tx.outputs(job.id)
    job_outcome = states.job_outcome(
        [OutputState(output.state) for output in outputs],
        reason=reason,
        is_cancelled=job.cancelled_at is not None,
        may_retry=_may_retry(tx, job, reason),
    )
    unfinished = [output for output in outputs if output.state not in FINAL]
    if job_outcome.status is JobStatus.QUEUED:
        _requeue(job, unfinished, tx.now)
    else:
        end_job(tx, job, outputs, job_outcome, reason)
    follow(tx, job, job_outcome.status, attempt)
    if job_outcome.status is JobStatus.QUEUED and reason is Reason.BOOT_DEADLINE:
        wait(tx, job, SLOW_BOOT, "Fly did not start the machine in time; another one is asked for.")


@Prepared
def newest_boots(_: Moment) -> Executable:
    """Return `boot_from` and `started_at`, the create and the first claim, of the newest `most` boots."""
    booted = col(Attempt.boot_from).is_not(None), col(Attempt.started_at).is_not(None)
    boots = select(Attempt.boot_from, Attempt.started_at).where(*booted)
    return boots.order_by(col(Attempt.started_at).desc()).limit(bindparam("most"))


def _close(tx: Transaction, attempt: Attempt, reason: Reason | None, detail: str) -> None:
    """Close the attempt. Its cost is an upper bound until the ledger settles its machine."""
    attempt.ended_at, attempt.reason, attempt.detail = tx.now, reason, detail
    machine = tx.session.get(Machine, (attempt.app, attempt.machine_id)) if attempt.machine_id else None
    if machine is not None and machine.gone_at is not None:
        attempt.machine_seconds, attempt.cost_usd = machine.machine_seconds, machine.cost_usd
    else:
        attempt.machine_seconds = seconds = machine_seconds(attempt.boot_from, tx.now)
        attempt.cost_usd = machine_usd(size=attempt.size, region=attempt.region, seconds=seconds)


def _may_retry(tx: Transaction, job: Job, reason: Reason | None) -> bool:
    """Return whether another attempt is allowed. After OUT_OF_MEMORY the job gets the next size, once."""
    if used_up(tx, job) >= job.attempts_max:
        return False
    if reason is not Reason.OUT_OF_MEMORY:
        return True
    larger = sizing.next_size(job.size, tx.settings.runner_sizes)
    [(out_of_memory,)] = tx.rows(_out_of_memory, job_id=job.id)
    if larger is None or out_of_memory > 1:
        return False
    job.size = larger
    return True


def used_up(tx: Transaction, job: Job) -> int:
    """Return how many attempts count against the job's largest number.

    Not one that never had a machine, or whose machine did not start in time: that is Fly's fault.
    """
    [(count,)] = tx.rows(_used_up, job_id=job.id)
    return int(count)


@Prepared
def _used_up(_: Moment) -> Executable:
    own = and_(col(Machine.app) == col(Attempt.app), col(Machine.id) == col(Attempt.machine_id))
    is_stuck = and_(col(Attempt.reason) == Reason.BOOT_DEADLINE, col(Machine.started_at).is_(None))
    had_one = col(Attempt.machine_id).is_not(None)
    mine = _count_of_job().outerjoin(Machine, own)
    return mine.where(had_one, or_(col(Attempt.reason).is_(None), not_(is_stuck)))


@Prepared
def _out_of_memory(_: Moment) -> Executable:
    return _count_of_job().where(col(Attempt.reason) == Reason.OUT_OF_MEMORY)


def _count_of_job() -> SelectOfScalar[int]:
    return select(func.count()).select_from(Attempt).where(col(Attempt.job_id) == bindparam("job_id"))


def _requeue(job: Job, unfinished: Sequence[Output], now: datetime) -> None:
    job.not_before = now + states.retry_delay(job.attempts_used)
    for output in unfinished:
        output.state, output.percent, output.attempt_id = OutputState.QUEUED, 0.0, None


def end_job(
    tx: Transaction,
    job: Job,
    outputs: Sequence[Output],
    job_outcome: states.JobOutcome,
    reason: Reason | None,
) -> None:
    """End a job. Unfinished outputs are cancelled if a user cancelled the job, else fail with the reason.

    If no output is ready and none is unfinished, the job gets the error of its first output.
    """
    job.partial, job.ended_at = job_outcome.partial, tx.now
    unfinished = [output for output in outputs if output.state not in FINAL]
    if job.cancelled_at is not None:
        for output in unfinished:
            output.state = OutputState.CANCELLED
    elif reason is not None and unfinished:
        job.error_code, job.error_message = reason, REASONS[reason].text
        for output in unfinished:
            output.state = OutputState.FAILED
            output.error_code, output.error_message = reason, REASONS[reason].text
    elif job_outcome.status is JobStatus.FAILED:
        first = min(outputs, key=lambda output: output.position)
        job.error_code, job.error_message = first.error_code, first.error_message
    for output in unfinished:
        tx.event(f"output_{output.state}", job, output_id=output.id)


def _stop_waiting(job: Job) -> None:
    job.waiting_code = job.waiting_message = None


def follow(tx: Transaction, job: Job, status: JobStatus, attempt: Attempt | None = None) -> None:
    """Set the status of a job, and that of its batch from all jobs of the batch."""
    tx.set_job(job, status, attempt)
    _stop_waiting(job)
    if status is JobStatus.RUNNING:
        job.started_at = job.started_at or tx.now
    tx.session.flush()
    batch = tx.session.get_one(Batch, job.batch_id)
    batch.started_at = batch.started_at or job.started_at
    statuses = [JobStatus(status) for (status,) in tx.rows(_statuses, batch_id=batch.id)]
    if states.ENDED.issuperset(statuses):
        _end_batch(tx, batch)
    else:
        tx.set_batch(batch, states.live_status(statuses))


@Prepared
def _statuses(_: Moment) -> Executable:
    return select(Job.status).where(col(Job.batch_id) == bindparam("batch_id"))


@Prepared
def _output_states(_: Moment) -> Executable:
    return select(Output.state).where(col(Output.batch_id) == bindparam("batch_id"))


def _end_batch(tx: Transaction, batch: Batch) -> None:
    output_states = [OutputState(state) for (state,) in tx.rows(_output_states, batch_id=batch.id)]
    end = states.final_outcome(output_states, is_cancelled=batch.cancelled_at is not None)
    batch.partial, batch.ended_at = end.partial, tx.now
    batch.expires_at = tx.now + timedelta(hours=tx.settings.retention_hours)
    tx.set_batch(batch, end.status)
    webhooks.follow_end(tx, batch)
