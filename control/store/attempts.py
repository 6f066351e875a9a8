"""Writes of attempts from start to end, and what their end means for the job and its batch.

Long because an end moves attempt, job, outputs and batch in one transaction, and is read as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, func, or_
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from control import domain, fit, ids
from control.costs import machine_seconds, machine_usd
from control.domain import GHOST_S, AttemptState, Fact, JobStatus, OutputState
from control.money import Short
from control.settings import Settings
from control.store import budget, webhooks
from control.store.budget import Reserve
from control.store.due import is_due, is_within
from control.store.transaction import Store, Transaction
from control.tables import Attempt, Batch, Job, Machine, Output
from infra.ports import Refusal
from runner.contract import Reason

MACHINE_CAP = "machine_cap"  # why a job waits while as many machines live as may
FINAL = frozenset({OutputState.READY, OutputState.FAILED, OutputState.CANCELLED})

MONEY_MAY_COME = timedelta(seconds=10)  # something is set aside for machines that may cost less
MONEY_WILL_NOT_COME_SOON = timedelta(seconds=60)
PAUSE_MAX = timedelta(seconds=60)  # of all that puts a job off
WAITING_FOR_MONEY = {
    "day": "Too little is left of today's budget of ${:g}. It goes on as machines settle, or at 00:00 UTC.",
    "month": "Too little is left of the month's budget of ${:g}. It goes on as machines settle.",
    "batch": "Too little is left of max_cost_usd, ${:g}. It goes on as the batch's machines settle.",
}


def start(store: Store, apps: Sequence[str]) -> None:
    """Start an attempt of the jobs that have waited longest, one on each of `apps`, as far as the cap allows.

    Commits before anything is asked of the cloud, so a crash leaves rows in `launching`, which the next
    tick picks up.
    """
    with store.transaction() as tx:
        room = tx.settings.max_machines - possibly_alive(tx.session, tx.now)
        waiting = tx.session.exec(waiting_longest(tx.now).limit(max(len(apps), 1))).all()
        for job, app in zip(waiting[: max(0, room)], apps, strict=False):
            if reserve := _reserve(tx, job):
                _start(tx, job, app, reserve)
        if room <= 0:
            for job in waiting:
                wait(tx, job, MACHINE_CAP, f"All {tx.settings.max_machines} machines are in use.")


def has_to_start(session: Session, settings: Settings, now: datetime) -> bool:
    """Tell whether `start` has something to do: a job to start, or one to tell why it waits."""
    query = waiting_longest(now).with_only_columns(col(Job.waiting_code), _count_possibly_alive(now))
    first = session.execute(query.limit(1)).first()
    return first is not None and (first[0] != MACHINE_CAP or first[1] < settings.max_machines)


def waiting_longest(now: datetime) -> SelectOfScalar[Job]:
    """Return the query of the queued jobs whose turn it is, in their order; none of a deleted batch."""
    has_come = is_due(Job.not_before, now, longest=PAUSE_MAX)
    due = select(Job).join(Batch).where(col(Job.status) == JobStatus.QUEUED, has_come)
    due = due.where(col(Batch.deleted_at).is_(None))
    is_dated_right = (
        col(Job.not_before) <= now
    )  # how long the others have waited nobody knows: they are first
    return due.order_by(is_dated_right, col(Job.not_before), col(Job.position))


def possibly_alive(session: Session, now: datetime) -> int:
    """Return how many machines live or may live: what MAX_MACHINES counts.

    Those that the ledger does not know to be gone, live attempts without one, and attempts of which a
    create is unanswered, for as long as a machine of it could turn up unseen: also after an earlier
    machine of theirs came and went.
    """
    alive: int = session.exec(select(_count_possibly_alive(now))).one()
    return alive


def _count_possibly_alive(now: datetime) -> ColumnElement[int]:
    known = select(func.count()).select_from(Machine).where(col(Machine.gone_at).is_(None))
    unseen = select(func.count()).select_from(Attempt).where(is_unseen(now))
    return known.scalar_subquery() + unseen.scalar_subquery()


def is_unseen(now: datetime) -> ColumnElement[bool]:
    """Return the condition of an attempt that may have a machine which the ledger does not show."""
    own = and_(col(Machine.attempt_id) == col(Attempt.id), col(Machine.gone_at).is_(None))
    has_machine = select(Machine.id).where(own).exists()
    may_have = or_(
        col(Attempt.state).in_(domain.LIVE), is_within(Attempt.asked_at, now, timedelta(seconds=GHOST_S))
    )
    return and_(may_have, ~has_machine)


def _reserve(tx: Transaction, job: Job) -> Reserve | None:
    """Return what is set aside for a job's machine; without enough money the job waits, or fails, instead."""
    tx.session.flush()  # what this transaction has set aside so far counts
    unseen = tx.session.exec(select(Attempt).where(is_unseen(tx.now))).all()
    try:
        return budget.reserve(tx, job, unseen)
    except Short as short:
        if short.for_good:
            _give_up(tx, job)
        else:
            job.not_before = tx.now + (
                MONEY_MAY_COME if short.purse.reserved_usd else MONEY_WILL_NOT_COME_SOON
            )
            wait(tx, job, "budget", WAITING_FOR_MONEY[short.purse.name].format(short.purse.cap_usd))
        return None


def _give_up(tx: Transaction, job: Job) -> None:
    """End a job whose own money is used up; what is ready stays."""
    outputs = tx.outputs(job.id)
    states = [OutputState(output.state) for output in outputs]
    verdict = domain.ended_as(states, is_cancelled=False)
    end_job(tx, job, outputs, verdict, Reason.BUDGET_EXCEEDED)
    follow(tx, job, verdict.status)


def _start(tx: Transaction, job: Job, app: str, reserve: Reserve) -> None:
    job.attempts_used += 1
    attempt = Attempt(
        id=ids.attempt_id(job.id, job.attempts_used),
        job_id=job.id,
        number=job.attempts_used,
        state=AttemptState.LAUNCHING,
        app=app,
        size=job.size,
        image=tx.settings.runner_image,
        created_at=tx.now,
        launch_after=tx.now,
        wall_s=reserve.wall_s,
        reserve_usd=reserve.usd,
    )
    tx.session.add(attempt)
    tx.event("attempt_started", job, attempt)
    follow(tx, job, JobStatus.LAUNCHING, attempt)


def adopt(tx: Transaction, attempt: Attempt, machine_id: str, region: str) -> None:
    """Note the machine that the cloud has for a launching attempt."""
    if attempt.state == AttemptState.LAUNCHING:
        tx.move(attempt, Fact.MACHINE_CREATED, machine_id=machine_id, region=region)
        attempt.boot_from = attempt.boot_from or tx.now
        _stop_waiting(tx.job(attempt))
    attempt.machine_id = attempt.machine_id or machine_id
    attempt.region = attempt.region or region


def ask(store: Store, attempt_id: str) -> bool:
    """Note a create before it is sent; False when its attempt has ended meanwhile and none may be sent.

    A crash before the answer then leaves the boot clock running and the place under the cap taken.
    """
    with store.transaction() as tx:
        attempt = tx.attempt(attempt_id)
        if attempt.state != AttemptState.LAUNCHING:
            return False
        attempt.asked_at = tx.now
        attempt.boot_from = attempt.boot_from or tx.now
        return True


def record_answered(store: Store, before: Attempt, *, is_done: bool) -> None:
    """Take back what `ask` noted, as far as the answer settles it; `before` is the row from before.

    An earlier create without an answer may still be done, so that its note stays.
    """
    with store.transaction() as tx:
        attempt = tx.attempt(before.id)
        attempt.asked_at = before.asked_at
        if not is_done and attempt.state == AttemptState.LAUNCHING:
            attempt.boot_from = before.boot_from


def record_unanswered(store: Store, attempt_id: str, *, retry_after: timedelta) -> None:
    """Note a create that may have been done: the same create is asked again."""
    with store.transaction() as tx:
        attempt = tx.attempt(attempt_id)
        attempt.asked_at = tx.now
        if attempt.state == AttemptState.LAUNCHING:
            attempt.launch_after = tx.now + retry_after
            wait(tx, tx.job(attempt), "unanswered", "Fly has not answered yet; it is asked again.")


def postpone(
    store: Store, attempt_id: str, refusal: Refusal, *, message: str, retry_after: timedelta
) -> None:
    """Note a create that was surely not done: the job waits, visibly, and no attempt is used up."""
    with store.transaction() as tx:
        attempt = tx.attempt(attempt_id)
        if attempt.state != AttemptState.LAUNCHING:
            return
        attempt.launch_after = tx.now + retry_after
        wait(tx, tx.job(attempt), refusal, message)


def wait(tx: Transaction, job: Job, code: str, message: str) -> None:
    """Show why nothing moves; an event only when that changes."""
    if (job.waiting_code, job.waiting_message) != (code, message):
        job.waiting_code, job.waiting_message = code, message
        tx.event("waiting", job, code=code)


def end(
    store: Store,
    attempt_id: str,
    fact: Fact,
    reason: Reason,
    detail: str,
    *,
    lease_seen: float | None = None,
) -> None:
    """End a live attempt for a fact that launch or watch brings; the move table may refuse.

    With `lease_seen`, a lease extended since that look keeps the attempt alive.
    """
    with store.transaction() as tx:
        attempt = tx.attempt(attempt_id)
        is_renewed = lease_seen is not None and store.leases.until(attempt_id) != lease_seen
        if attempt.state in domain.LIVE and not is_renewed:
            end_within(tx, attempt, fact, reason, detail)


def end_within(tx: Transaction, attempt: Attempt, fact: Fact, reason: Reason | None, detail: str) -> None:
    """End an attempt inside a transaction, and decide what follows for its job and batch."""
    if not tx.move(attempt, fact, reason=reason, detail=detail):
        return
    _close(tx, attempt, reason, detail)
    job = tx.job(attempt)
    outputs = tx.outputs(job.id)
    verdict = domain.verdict(
        [OutputState(output.state) for output in outputs],
        reason=reason,
        is_cancelled=job.cancelled_at is not None,
        may_retry=_may_retry(tx, job, reason),
    )
    unfinished = [output for output in outputs if output.state not in FINAL]
    if verdict.status is JobStatus.QUEUED:
        _requeue(job, unfinished, tx.now)
    else:
        end_job(tx, job, outputs, verdict, reason)
    follow(tx, job, verdict.status, attempt)


def _close(tx: Transaction, attempt: Attempt, reason: Reason | None, detail: str) -> None:
    """Close the attempt; until the ledger settles its machine, or none can turn up, its cost is a bound."""
    attempt.ended_at, attempt.reason, attempt.detail = tx.now, reason, detail
    machine = tx.session.get(Machine, (attempt.app, attempt.machine_id)) if attempt.machine_id else None
    if machine is not None and machine.gone_at is not None:
        attempt.machine_seconds, attempt.cost_usd = machine.machine_seconds, machine.cost_usd
    else:
        attempt.machine_seconds = seconds = machine_seconds(attempt.boot_from, tx.now)
        attempt.cost_usd = machine_usd(size=attempt.size, region=attempt.region, seconds=seconds)


def _may_retry(tx: Transaction, job: Job, reason: Reason | None) -> bool:
    """Tell whether another attempt is allowed; out of memory moves the job to the next size, once.

    An attempt that no machine ever showed up for uses up nothing: it is Fly that did not answer.
    """
    mine = select(func.count()).select_from(Attempt).where(col(Attempt.job_id) == job.id)
    if tx.session.exec(mine.where(col(Attempt.machine_id).is_not(None))).one() >= job.attempts_max:
        return False
    if reason is not Reason.OUT_OF_MEMORY:
        return True
    larger = fit.next_size(job.size, tx.settings.runner_sizes)
    out_of_memory = mine.where(col(Attempt.reason) == Reason.OUT_OF_MEMORY)
    if larger is None or tx.session.exec(out_of_memory).one() > 1:
        return False
    job.size = larger
    return True


def _requeue(job: Job, unfinished: Sequence[Output], now: datetime) -> None:
    job.not_before = now + domain.retry_delay(job.attempts_used)
    for output in unfinished:
        output.state, output.percent, output.attempt_id = OutputState.QUEUED, 0.0, None


def end_job(
    tx: Transaction,
    job: Job,
    outputs: Sequence[Output],
    verdict: domain.Verdict,
    reason: Reason | None,
) -> None:
    """End a job. What is unfinished is cancelled if a user asked, else fails with the reason.

    With none ready and nothing unfinished, the job's error is its first output's.
    """
    job.partial, job.ended_at = verdict.partial, tx.now
    unfinished = [output for output in outputs if output.state not in FINAL]
    if job.cancelled_at is not None:
        for output in unfinished:
            output.state = OutputState.CANCELLED
    elif reason is not None and unfinished:
        job.error_code, job.error_message = reason, domain.REASON_TEXT[reason]
        for output in unfinished:
            output.state = OutputState.FAILED
            output.error_code, output.error_message = reason, domain.REASON_TEXT[reason]
    elif verdict.status is JobStatus.FAILED:
        first = min(outputs, key=lambda output: output.position)
        job.error_code, job.error_message = first.error_code, first.error_message
    for output in unfinished:
        tx.event(f"output_{output.state}", job, output_id=output.id)


def _stop_waiting(job: Job) -> None:
    job.waiting_code = job.waiting_message = None


def follow(tx: Transaction, job: Job, status: JobStatus, attempt: Attempt | None = None) -> None:
    """Set a job's status, and its batch's from all of its jobs."""
    tx.set_job(job, status, attempt)
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
        tx.set_batch(batch, domain.live_status(statuses))


def _end_batch(tx: Transaction, batch: Batch) -> None:
    states = tx.session.exec(select(Output.state).where(col(Output.batch_id) == batch.id)).all()
    is_cancelled = batch.cancelled_at is not None
    end = domain.ended_as([OutputState(state) for state in states], is_cancelled=is_cancelled)
    batch.partial, batch.ended_at = end.partial, tx.now
    batch.expires_at = tx.now + timedelta(hours=tx.settings.retention_hours)
    tx.set_batch(batch, end.status)
    webhooks.follow_end(tx, batch)
