"""Spent and reserved money, computed from rows, and the reserve of a job before its start.

The cost of a machine counts on the day (UTC) on which it was confirmed to be gone. A machine that is not
known to be gone counts with its reserve, or with its cost so far if that is more. So no day exceeds its cap:
a cost of yesterday that is counted today was reserved yesterday. One file, since both are sums over the same
rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Executable, String, and_, bindparam, func, or_
from sqlmodel import Session, col, select

from control.domain.errors import Code, ControlError
from control.domain.states import ENDED, JobStatus, OutputState
from control.planning import budget, prices
from control.planning.budget import Budget, CostEstimate
from control.planning.planner import PlannedBatch
from control.settings import Settings
from control.store.calibration import source_info
from control.store.prepared import Moment, Prepared, Row
from control.store.recipe import encoding_of, recipe_of
from control.store.tables import Attempt, Batch, Job, Machine, Output, Source
from control.store.transaction import Transaction
from runner.contract import CLAIM_TIMEOUT_S

Unseen = Attempt | Row  # of which `id` and `reserve_usd` are read
EPSILON_USD = 1e-12  # sums of floats
_OPEN = (OutputState.QUEUED, OutputState.RUNNING)
EXIT_GRACE = timedelta(seconds=30)  # for a machine to exit, or to be stopped and destroyed


@dataclass(frozen=True)
class Reserve:
    """The limits of a machine and its highest cost within them.

    The machine exits `wall_s` after its start and sends at most `send_bytes_max`; `usd` is the cost of both.
    """

    wall_s: float
    send_bytes_max: int | None  # None for a job of an older version, which did not estimate bytes
    usd: float


def reserve(tx: Transaction, job: Job, unseen: Sequence[Unseen]) -> Reserve:
    """Return what to reserve for the next attempt of a job. Raises InsufficientBudget.

    `unseen` are the attempts that may have a machine which the ledger does not show.
    """
    estimate, limit_s = _estimate(tx, job), limit_s_of(tx.settings)
    wall_s = budget.wall_s(estimate, _budgets(tx, job, unseen), limit_s=limit_s)
    return Reserve(wall_s, int(estimate.bytes_max) or None, estimate.reserve_usd(wall_s))


def limit_s_of(settings: Settings) -> float:
    """Return the longest time that a machine may live: a slow claim, then a full run."""
    return settings.run_timeout_s + CLAIM_TIMEOUT_S


def _estimate(tx: Transaction, job: Job) -> CostEstimate:
    """Return the estimate of a job's remaining work: the shares of its open outputs in its whole estimate."""
    states = [state for (state,) in tx.rows(_output_states, job_id=job.id)]
    left = sum(state in _OPEN for state in states)
    return CostEstimate(
        size=job.size,
        region=prices.dearest(tx.settings.runner_regions),
        seconds=job.estimate_s * left / len(states),
        bytes_max=job.egress_bytes_max * (1.0 if left == len(states) else _bytes_share(tx, job)),
        outputs=left,
    )


def _bytes_share(tx: Transaction, job: Job) -> float:
    """Return the share of the open outputs in the bytes that all outputs of a job may send.

    Not their share in number: a runner may send no more, and one can be as long as all others together.
    """
    encoding, most = encoding_of(tx.session.get_one(Batch, job.batch_id)), tx.settings.max_source_bytes
    total = left = 0.0
    for output in tx.outputs(job.id):
        source = source_info(tx.session.get_one(Source, output.source_id), url_bytes_max=most)
        size = source.bytes_max(recipe_of(output), encoding)
        total, left = total + size, left + size * (output.state in _OPEN)
    return left / total


@Prepared
def _output_states(_: Moment) -> Executable:
    return select(Output.state).where(col(Output.job_id) == bindparam("job_id"))


def _budgets(tx: Transaction, job: Job, unseen: Sequence[Unseen]) -> list[Budget]:
    """Return the budgets that pay for a job's machine. Each of them must have enough."""
    shared = shared_budgets(tx.session, tx.settings, tx.now, unseen)
    budgets = [replace(budget, sharers=_count_waiting(tx, None)) for budget in shared]
    batch = tx.session.get_one(Batch, job.batch_id)
    if batch.max_cost_usd is not None:
        budgets.append(_own_budget(tx, batch, unseen))
    return budgets


def shared_budgets(
    session: Session, settings: Settings, now: datetime, unseen: Sequence[Unseen]
) -> list[Budget]:
    """Return the budgets of the day and of the month, without those that have no cap."""
    caps = {"day": settings.budget_usd_per_day, "month": settings.budget_usd_per_month}
    if all(cap_usd is None for cap_usd in caps.values()):
        return []
    reserved_usd = _reserved_usd(session, unseen, now)
    return [
        Budget(name=name, cap_usd=cap_usd, spent_usd=spent_usd(session, since), reserved_usd=reserved_usd)
        for name, since in periods(now).items()
        if (cap_usd := caps[name]) is not None
    ]


def periods(now: datetime) -> dict[str, datetime]:
    """Return when the current day and the current month began (UTC)."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return {"day": day, "month": day.replace(day=1)}


def _own_budget(tx: Transaction, batch: Batch, unseen: Sequence[Unseen]) -> Budget:
    assert batch.max_cost_usd is not None
    mine = {attempt_id for (attempt_id,) in tx.rows(_attempts_of_batch, batch_id=batch.id)}
    [(spent,)] = tx.rows(_spent_by_batch, batch_id=batch.id)
    unseen = [attempt for attempt in unseen if attempt.id in mine]
    return Budget(
        name="batch",
        cap_usd=batch.max_cost_usd,
        spent_usd=spent or 0.0,
        reserved_usd=_reserved_usd(tx.session, unseen, tx.now, batch.id),
        sharers=_count_waiting(tx, batch.id),
        is_own=True,
    )


@Prepared
def _attempts_of_batch(_: Moment) -> Executable:
    return select(Attempt.id).join(Job).where(col(Job.batch_id) == bindparam("batch_id"))


@Prepared
def _spent_by_batch(_: Moment) -> Executable:
    mine = col(Machine.batch_id) == bindparam("batch_id"), col(Machine.gone_at).is_not(None)
    return select(func.sum(Machine.cost_usd)).where(*mine)


def _count_waiting(tx: Transaction, batch_id: str | None) -> int:
    """Return how many jobs are queued, of one batch or of all, but at most MAX_MACHINES."""
    [(waiting,)] = tx.rows(_waiting, batch_id=batch_id)
    return min(int(waiting), tx.settings.max_machines)


@Prepared
def _waiting(_: Moment) -> Executable:
    queued = select(func.count()).select_from(Job).where(col(Job.status) == JobStatus.QUEUED)
    return queued.where(_is_of_batch_or_any(Job.batch_id))


def _is_of_batch_or_any(batch_id: Any) -> ColumnElement[bool]:
    """Return the SQL condition that a row is of the batch `batch_id`, or that this is None."""
    wanted = bindparam("batch_id", type_=String())
    return or_(wanted.is_(None), col(batch_id) == wanted)


def spent_usd(session: Session, since: datetime) -> float:
    """Return the cost of the machines that were confirmed to be gone since then."""
    session.flush()
    [(spent,)] = _spent.rows(session.connection(), since)
    return float(spent or 0.0)


@Prepared
def _spent(since: Moment) -> Executable:
    return select(func.sum(Machine.cost_usd)).where(col(Machine.gone_at) >= since)


def _reserved_usd(
    session: Session, unseen: Sequence[Unseen], now: datetime, batch_id: str | None = None
) -> float:
    session.flush()
    alive = _alive.rows(session.connection(), now, batch_id=batch_id)
    machines: float = sum(_most_usd(machine, now) for machine in alive)
    return machines + sum(attempt.reserve_usd for attempt in unseen)


@Prepared
def _alive(_: Moment) -> Executable:
    """Return the machines not known to be gone, each with the bytes that its attempt lets it send."""
    mine = and_(col(Attempt.id) == col(Machine.attempt_id), col(Attempt.claimed_by) == col(Machine.id))
    alive = select(Machine, Attempt.send_bytes_max).outerjoin(Attempt, mine)
    return alive.where(col(Machine.gone_at).is_(None), _is_of_batch_or_any(Machine.batch_id))


def _most_usd(machine: Row, now: datetime) -> float:
    """Return the most that a machine which is not known to be gone can cost, as far as known now."""
    egress_usd = prices.egress_usd(region=machine.region, size_bytes=machine.send_bytes_max or 0)
    return float(max(machine.reserve_usd, accrued_usd(machine, now) + egress_usd))


def sent_bytes(attempt: Attempt, stored_bytes: int) -> int:
    """Return the bytes that an attempt is charged for. Its outputs in the bucket are `stored_bytes`.

    Without a finish, that is all that it was allowed to send, so a crash cannot hide costs. A finish without
    a count comes from an older runner: then it is the outputs. A count above the allowed bytes is not
    believed, since it could use up a whole budget.
    """
    most_bytes = attempt.send_bytes_max or 0
    told_bytes = attempt.sent_bytes
    if told_bytes is None:
        told_bytes = most_bytes if attempt.finish_digest is None else 0
    return max(stored_bytes, min(told_bytes, most_bytes))


def accrued_usd(machine: Machine | Row, now: datetime) -> float:
    """Return the most that the run time of a machine which is not known to be gone has cost so far."""
    if machine.size is None:
        return 0.0
    seconds = ((machine.exited_at or now) - (machine.started_at or machine.created_at)).total_seconds()
    return prices.machine_usd(size=machine.size, region=machine.region, seconds=max(0.0, seconds))


def leaked_seconds(machine: Machine, attempt: Attempt | None, until: datetime) -> float:
    """Return how long a machine lived without a live attempt, beyond EXIT_GRACE."""
    if machine.started_at is None:
        return 0.0
    if attempt is None:
        return max(0.0, (until - machine.started_at).total_seconds())
    if attempt.ended_at is None:
        return 0.0
    since = max(attempt.ended_at + EXIT_GRACE, machine.started_at)
    return max(0.0, (until - since).total_seconds())


# --- before a batch is stored -----------------------------------------------------------------------


def require_money(tx: Transaction, planned: PlannedBatch) -> None:
    """Return if a batch can be paid for. Raises ControlError budget_exceeded with the numbers."""
    if planned.schedule is None:
        return
    cost_usd, most_usd = planned.schedule.cost_usd, _dearest_start_usd(tx, planned)
    if planned.max_cost_usd is not None and max(cost_usd, most_usd) > planned.max_cost_usd + EPSILON_USD:
        raise ControlError(
            Code.BUDGET_EXCEEDED,
            f"This will cost about ${cost_usd:.6f}, and to start it takes ${most_usd:.6f} that can be set "
            f"aside: more than the max_cost_usd of ${planned.max_cost_usd:.6f}.",
        )
    [(committed,)] = tx.rows(_committed)
    committed_usd = committed or 0.0
    for each in shared_budgets(tx.session, tx.settings, tx.now, ()):
        left_usd = each.cap_usd - each.spent_usd - committed_usd
        if max(cost_usd, most_usd) > left_usd + EPSILON_USD:
            raise ControlError(
                Code.BUDGET_EXCEEDED,
                f"This will cost about ${cost_usd:.6f}, and to start it takes ${most_usd:.6f} that can be "
                f"set aside. Of this {each.name}'s budget of ${each.cap_usd:.6f}, "
                f"${each.spent_usd:.6f} is spent and ${committed_usd:.6f} is for work that has not ended.",
            )


@Prepared
def _committed(_: Moment) -> Executable:
    return select(func.sum(Job.estimate_usd)).where(col(Job.status).not_in(ENDED))


def _dearest_start_usd(tx: Transaction, planned: PlannedBatch) -> float:
    """Return the smallest reserve with which the most expensive job can start."""
    schedule, limit_s = planned.schedule, limit_s_of(tx.settings)
    assert schedule is not None
    region = prices.dearest(tx.settings.runner_regions)
    needs = [
        CostEstimate(
            size=schedule.size,
            region=region,
            seconds=assignment.seconds,
            bytes_max=assignment.bytes_max,
            outputs=len(assignment.outputs),
        )
        for assignment in schedule.assignments
    ]
    return max(estimate.reserve_usd(budget.least_s(estimate, limit_s, is_own=True)) for estimate in needs)
