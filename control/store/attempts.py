"""Writes of attempts from start to end, and what their end means for the job and its batch."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import func
from sqlmodel import col, select

from control import domain, ids
from control.costs import machine_seconds, machine_usd
from control.domain import AttemptState, Fact, JobStatus, OutputState
from control.store.transaction import Store, Transaction
from control.tables import Attempt, Batch, Job, Output
from infra.ports import Machine
from runner.contract import Reason

FINAL = frozenset({OutputState.READY, OutputState.FAILED, OutputState.CANCELLED})


def start(store: Store, limit: int) -> None:
    """Start an attempt of at most `limit` waiting jobs, as far as `MAX_MACHINES` allows.

    Commits before anything is asked of the cloud, so a crash leaves rows in `launching`, which the next
    tick picks up.
    """
    with store.transaction() as tx:
        live = select(func.count()).select_from(Attempt).where(col(Attempt.state).in_(domain.LIVE))
        room = tx.settings.max_machines - tx.session.exec(live).one()
        waiting = (
            select(Job)
            .where(col(Job.status) == JobStatus.QUEUED, col(Job.not_before) <= tx.now)
            .order_by(col(Job.not_before), col(Job.position))
            .limit(max(0, min(limit, room)))
        )
        for job in tx.session.exec(waiting).all():
            _start(tx, job)


def _start(tx: Transaction, job: Job) -> None:
    job.attempts_used += 1
    apps = tx.settings.runner_apps
    attempt = Attempt(
        id=ids.attempt_id(job.id, job.attempts_used),
        job_id=job.id,
        number=job.attempts_used,
        state=AttemptState.LAUNCHING,
        app=apps[int(job.id[-8:], 16) % len(apps)],
        size=tx.settings.runner_sizes[0],
        image=tx.settings.runner_image,
        created_at=tx.now,
        launch_after=tx.now,
    )
    tx.session.add(attempt)
    follow(tx, job, JobStatus.LAUNCHING)
    tx.event("attempt_started", job, attempt)


def record_machine(store: Store, attempt_id: str, machine: Machine) -> None:
    """Note the machine that the cloud made for a launching attempt."""
    with store.transaction() as tx:
        attempt = tx.attempt(attempt_id)
        if tx.move(attempt, Fact.MACHINE_CREATED, machine_id=machine.id, region=machine.region):
            attempt.boot_from = attempt.boot_from or tx.now
            attempt.machine_id = attempt.machine_id or machine.id
            attempt.region = attempt.region or machine.region
            _stop_waiting(tx.job(attempt))


def record_unanswered(store: Store, attempt_id: str, *, retry_after: timedelta) -> None:
    """Note a create that may have been done: its boot clock runs, and the same create is asked again."""
    with store.transaction() as tx:
        attempt = tx.attempt(attempt_id)
        if attempt.state == AttemptState.LAUNCHING:
            attempt.boot_from = attempt.boot_from or tx.now
            attempt.launch_after = tx.now + retry_after


def postpone(store: Store, attempt_id: str, *, code: str, message: str, retry_after: timedelta) -> None:
    """Note a create that was surely not done: the job waits, visibly, and no attempt is used up."""
    with store.transaction() as tx:
        attempt = tx.attempt(attempt_id)
        if attempt.state != AttemptState.LAUNCHING:
            return
        attempt.launch_after = tx.now + retry_after
        job = tx.job(attempt)
        if (job.waiting_code, job.waiting_message) != (code, message):
            job.waiting_code, job.waiting_message = code, message
            tx.event("launch_postponed", job, attempt, code=code)


def end(
    store: Store,
    attempt_id: str,
    fact: Fact,
    reason: Reason,
    detail: str,
    *,
    lease_seen: datetime | None = None,
) -> None:
    """End a live attempt for a fact that launch or watch brings; the move table may refuse.

    With `lease_seen`, a lease extended since that look keeps the attempt alive.
    """
    with store.transaction() as tx:
        attempt = tx.attempt(attempt_id)
        if lease_seen is None or attempt.lease_until == lease_seen:
            end_within(tx, attempt, fact, reason, detail)


def end_within(tx: Transaction, attempt: Attempt, fact: Fact, reason: Reason | None, detail: str) -> None:
    """End an attempt inside a transaction, and decide what follows for its job and batch."""
    if not tx.move(attempt, fact, reason=reason, detail=detail):
        return
    _settle(attempt, reason, detail, tx.now)
    job = tx.job(attempt)
    outputs = tx.outputs(job.id)
    verdict = domain.verdict(
        [OutputState(output.state) for output in outputs],
        reason=reason,
        attempts_used=job.attempts_used,
        attempts_max=tx.settings.attempts_max,
    )
    unfinished = [output for output in outputs if output.state not in FINAL]
    if verdict.status is JobStatus.QUEUED:
        _requeue(job, unfinished, tx.now)
    else:
        _end_job(job, outputs, verdict, reason, tx.now)
    follow(tx, job, verdict.status)
    tx.event("job_" + verdict.status, job, attempt, partial=verdict.partial)


def _settle(attempt: Attempt, reason: Reason | None, detail: str, now: datetime) -> None:
    attempt.ended_at, attempt.reason, attempt.detail = now, reason, detail
    attempt.machine_seconds = seconds = machine_seconds(attempt.boot_from, now)
    attempt.cost_usd = machine_usd(size=attempt.size, region=attempt.region, seconds=seconds)


def _requeue(job: Job, unfinished: Sequence[Output], now: datetime) -> None:
    job.not_before = now + domain.retry_delay(job.attempts_used)
    for output in unfinished:
        output.state, output.percent, output.attempt_id = OutputState.QUEUED, 0.0, None


def _end_job(
    job: Job,
    outputs: Sequence[Output],
    verdict: domain.Verdict,
    reason: Reason | None,
    now: datetime,
) -> None:
    """End a job. Its error is why outputs are unfinished; else, with none ready, the first output's."""
    job.partial, job.ended_at = verdict.partial, now
    unfinished = [output for output in outputs if output.state not in FINAL]
    if reason is not None and unfinished:
        job.error_code, job.error_message = reason, domain.REASON_TEXT[reason]
        for output in unfinished:
            output.state = OutputState.FAILED
            output.error_code, output.error_message = reason, domain.REASON_TEXT[reason]
    elif verdict.status is JobStatus.FAILED:
        first = min(outputs, key=lambda output: output.position)
        job.error_code, job.error_message = first.error_code, first.error_message


def _stop_waiting(job: Job) -> None:
    job.waiting_code = job.waiting_message = None


def follow(tx: Transaction, job: Job, status: JobStatus) -> None:
    """Set a job's status, and its batch's from all of its jobs."""
    job.status = status
    _stop_waiting(job)
    if status is JobStatus.RUNNING:
        job.started_at = job.started_at or tx.now
    tx.session.flush()
    batch = tx.session.get_one(Batch, job.batch_id)
    batch.started_at = batch.started_at or job.started_at
    jobs = tx.session.exec(select(Job.status).where(col(Job.batch_id) == batch.id)).all()
    statuses = [JobStatus(status) for status in jobs]
    if domain.ENDED.issuperset(statuses):
        _end_batch(tx, batch)
    else:
        batch.status = domain.live_status(statuses)


def _end_batch(tx: Transaction, batch: Batch) -> None:
    states = tx.session.exec(select(Output.state).where(col(Output.batch_id) == batch.id)).all()
    end = domain.ended_as([OutputState(state) for state in states])
    batch.status, batch.partial, batch.ended_at = end.status, end.partial, tx.now
    batch.expires_at = tx.now + timedelta(hours=tx.settings.retention_hours)
