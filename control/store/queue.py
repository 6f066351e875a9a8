"""Starts attempts of queued jobs: which job is next, whether machines and money suffice, why a job waits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Executable, bindparam, or_, update
from sqlmodel import col, select
from sqlmodel.sql.expression import SelectOfScalar

from control.domain import ids, states
from control.domain.states import AttemptState, JobStatus, OutputState
from control.planning.budget import InsufficientBudget
from control.settings import Settings
from control.store import budget
from control.store.alive import count_possibly_alive, is_unseen, possibly_alive
from control.store.attempts import PAUSE_MAX, end_job, follow, wait
from control.store.budget import Reserve
from control.store.due import is_due
from control.store.prepared import Moment, Prepared, Row
from control.store.tables import Attempt, Batch, Job
from control.store.transaction import Store, Transaction
from infra.ports import Refusal
from runner.contract import Reason

MACHINE_CAP = "machine_cap"  # the code of a job that waits because MAX_MACHINES machines are alive
WAITING_FOR_MACHINES = {
    MACHINE_CAP: "All {most} machines that MAX_MACHINES allows are in use. The job starts when one ends; an "
    "operator can raise MAX_MACHINES.",
    Refusal.MACHINE_LIMIT: "The Fly organisation has reached its machine limit. The job starts when machines "
    "end; an operator can have the limit raised (billing@fly.io).",
}
EXPLAINED_PER_PASS_MAX = 100

# When a job that lacks money is looked at again:
MONEY_MAY_COME = timedelta(seconds=10)  # some is reserved for machines that may turn out to cost less
MONEY_WILL_NOT_COME_SOON = timedelta(seconds=60)  # none is reserved

WAITING_FOR_MONEY = {
    "day": "Too little is left of today's budget of ${:g}. It starts when machines end, or at 00:00 UTC; an "
    "operator can raise BUDGET_USD_PER_DAY.",
    "month": "Too little is left of the month's budget of ${:g}. It starts when machines end; an operator "
    "can raise BUDGET_USD_PER_MONTH.",
    "batch": "Too little is left of max_cost_usd, ${:g}. It starts when machines of its batch end.",
}


def start(store: Store, apps: Sequence[str], *, machines_max: int | None = None) -> None:
    """Start attempts of the jobs that have waited longest, one on each of `apps`, up to `machines_max`.

    `machines_max` is MAX_MACHINES, or fewer while the limit of the organisation holds; a job that has no
    room says which of the two it is. This only writes rows; the machines are created after the commit. A
    crash in between leaves attempts in `launching`, which the next tick continues.
    """
    with store.transaction() as tx:
        most = tx.settings.max_machines if machines_max is None else machines_max
        room = most - possibly_alive(tx)
        ids = [job_id for (job_id,) in tx.rows(_next, most=max(len(apps), 1))]
        waiting = [tx.session.get_one(Job, job_id) for job_id in ids]
        for job, app in zip(waiting[: max(0, room)], apps, strict=False):
            if reserve := _reserve(tx, job):
                _start(tx, job, app, reserve)
        if room <= 0:
            code = _full_code(tx.settings, most)
            for job in waiting:
                wait(tx, job, code, WAITING_FOR_MACHINES[code].format(most=most))


@Prepared
def _next(now: Moment) -> Executable:
    return waiting_longest(now).with_only_columns(col(Job.id)).limit(bindparam("most"))


def explain(store: Store, code: str, message: str) -> None:
    """Have queued jobs whose turn it is say why none is started; some more of them on each call."""
    with store.transaction() as tx:
        for (job_id,) in tx.rows(_unexplained, code=code):
            wait(tx, tx.session.get_one(Job, job_id), code, message)


@Prepared
def _unexplained(now: Moment) -> Executable:
    is_new = or_(col(Job.waiting_code).is_(None), col(Job.waiting_code) != bindparam("code"))
    return waiting_longest(now).where(is_new).limit(EXPLAINED_PER_PASS_MAX).with_only_columns(col(Job.id))


def wait_for_room(store: Store, attempt_id: str) -> None:
    """Have the job of an attempt that `attempts.ask` held back say so; nothing if the attempt has ended."""
    with store.transaction() as tx:
        attempt = tx.find_attempt(attempt_id)
        if attempt is not None and attempt.state == AttemptState.LAUNCHING:
            message = WAITING_FOR_MACHINES[MACHINE_CAP].format(most=tx.settings.max_machines)
            wait(tx, tx.job(attempt), MACHINE_CAP, message)


def stop_explaining(store: Store, codes: Collection[str]) -> None:
    """Have queued jobs no longer give any of these codes as the reason why none is started."""
    with store.transaction() as tx:
        tx.change(_stop_explaining, codes=[str(code) for code in codes])


@Prepared
def _stop_explaining(_: Moment) -> Executable:
    has_code = col(Job.waiting_code).in_(bindparam("codes", expanding=True))
    explained = update(Job).where(col(Job.status) == JobStatus.QUEUED, has_code)
    return explained.values(waiting_code=None, waiting_message=None)


def _full_code(settings: Settings, machines_max: int) -> str:
    """Return why no more than `machines_max` machines may live."""
    return MACHINE_CAP if machines_max >= settings.max_machines else Refusal.MACHINE_LIMIT


@Prepared
def first_waiting(now: Moment) -> Executable:
    """Return the code of the job that has waited longest, if any, and how many machines may be alive."""
    first = waiting_longest(now).limit(1)
    return first.with_only_columns(
        col(Job.waiting_code).label("code"), count_possibly_alive(now).label("alive")
    )


def has_to_start(first: Sequence[Row], settings: Settings, machines_max: int) -> bool:
    """Return whether `start` has something to do: a job to start, or one that must say why it waits.

    `first` are the rows of `first_waiting`.
    """
    code = _full_code(settings, machines_max)
    return any(job.code != code or job.alive < machines_max for job in first)


def waiting_longest(now: datetime | Moment) -> SelectOfScalar[Job]:
    """Return the query of the queued jobs that may start now, in their order, without deleted batches."""
    has_come = is_due(Job.not_before, now, longest=PAUSE_MAX)
    due = select(Job).join(Batch).where(col(Job.status) == JobStatus.QUEUED, has_come)
    due = due.where(col(Batch.deleted_at).is_(None))
    # a `not_before` far in the future came from a wrong clock: how long that job has waited is unknown, so it
    # goes first
    is_dated_right = col(Job.not_before) <= now
    return due.order_by(is_dated_right, col(Job.not_before), col(Job.position))


def _reserve(tx: Transaction, job: Job) -> Reserve | None:
    """Return what to reserve for a job's machine, or None if the money does not suffice.

    Then the job waits, or ends if it can never be paid for.
    """
    try:
        return budget.reserve(tx, job, tx.rows(_unseen))
    except InsufficientBudget as refused:
        if refused.for_good:
            _give_up(tx, job)
        else:
            job.not_before = tx.now + (
                MONEY_MAY_COME if refused.budget.reserved_usd else MONEY_WILL_NOT_COME_SOON
            )
            wait(tx, job, "budget", WAITING_FOR_MONEY[refused.budget.name].format(refused.budget.cap_usd))
        return None


@Prepared
def _unseen(now: Moment) -> Executable:
    return select(Attempt.id, Attempt.reserve_usd).where(is_unseen(now))


def _give_up(tx: Transaction, job: Job) -> None:
    """End a job whose own budget is used up. Ready outputs stay."""
    outputs = tx.outputs(job.id)
    output_states = [OutputState(output.state) for output in outputs]
    job_outcome = states.final_outcome(output_states, is_cancelled=False)
    end_job(tx, job, outputs, job_outcome, Reason.BUDGET_EXCEEDED)
    follow(tx, job, job_outcome.status)


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
        send_bytes_max=reserve.send_bytes_max,
    )
    tx.session.add(attempt)
    tx.event("attempt_started", job, attempt)
    follow(tx, job, JobStatus.LAUNCHING, attempt)
