"""The costs in the ledger, for clients: by day and by batch. Reads rows only.

The ledger is kept longer than batches: a batch that a user has deleted still counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, date, datetime, time, timedelta

from sqlmodel import Session, and_, col, or_, select

from control.planning.budget import Budget
from control.settings import Settings
from control.store.alive import is_unseen
from control.store.budget import accrued_usd, leaked_seconds, shared_budgets
from control.store.tables import Attempt, Downloads, Machine
from control.views.batches import Views
from control.views.schemas.costs import BatchCost, BudgetsView, BudgetView, Costs, Day

BATCHES_MAX = 100  # the most expensive ones


@dataclass(frozen=True)
class Sum:
    """Sums over machines."""

    machines: int = 0
    machine_seconds: float = 0.0
    leaked_seconds: float = 0.0
    egress_bytes: int = 0
    outputs: int = 0
    usd: float = 0.0

    def __add__(self, other: Sum) -> Sum:
        return Sum(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def costs(views: Views, settings: Settings, now: datetime, first: date, last: date) -> Costs:
    """Return the costs of machines from one day to another, both included, and the rest of the budgets."""
    with views.session() as session:
        rows = [
            (machine, _sum(machine, attempt, now)) for machine, attempt in _rows(session, first, last, now)
        ]
        unseen = session.exec(select(Attempt).where(is_unseen(now))).all()
        budgets = {each.name: each for each in shared_budgets(session, settings, now, unseen)}
        total = sum((each for _, each in rows), Sum())
        return Costs(
            days=_days(rows, _downloads(session, first, last), now),
            batches=_batches(rows),
            cost_usd=round(total.usd, 6),
            leaked_seconds=round(total.leaked_seconds, 3),
            budget=BudgetsView(day=_budget(budgets.get("day")), month=_budget(budgets.get("month"))),
        )


def _rows(
    session: Session, first: date, last: date, now: datetime
) -> Sequence[tuple[Machine, Attempt | None]]:
    """Return the machines that ended on one of these days, and the live ones if today is one of them."""
    since, until = _midnight(first), _midnight(last + timedelta(days=1))
    counted = and_(col(Machine.gone_at) >= since, col(Machine.gone_at) < until)
    if since <= now < until:
        counted = or_(counted, col(Machine.gone_at).is_(None))
    made_for = col(Attempt.id) == col(Machine.attempt_id)
    rows = select(Machine, Attempt).outerjoin(Attempt, made_for).where(counted)
    return [(machine, attempt) for machine, attempt in session.exec(rows).all()]


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _sum(machine: Machine, attempt: Attempt | None, now: datetime) -> Sum:
    if machine.gone_at is not None:
        return Sum(
            machines=1,
            machine_seconds=machine.machine_seconds,
            leaked_seconds=machine.leaked_seconds,
            egress_bytes=machine.egress_bytes,
            outputs=machine.outputs,
            usd=machine.cost_usd,
        )
    until = machine.exited_at or now
    seconds = (until - machine.started_at).total_seconds() if machine.started_at else 0.0
    return Sum(
        machines=1,
        machine_seconds=max(0.0, seconds),
        leaked_seconds=leaked_seconds(machine, attempt, until),
        usd=accrued_usd(machine, now),
    )


def _days(rows: Iterable[tuple[Machine, Sum]], downloads: Mapping[str, int], now: datetime) -> list[Day]:
    """Return each day with costs or downloads."""
    days: dict[str, Sum] = defaultdict(Sum, {day: Sum() for day in downloads})
    for machine, each in rows:
        days[(machine.gone_at or now).date().isoformat()] += each
    return [
        Day(
            date=date.fromisoformat(day),
            machines=each.machines,
            machine_seconds=round(each.machine_seconds, 3),
            leaked_seconds=round(each.leaked_seconds, 3),
            egress_bytes=each.egress_bytes,
            download_bytes=downloads.get(day, 0),
            outputs=each.outputs,
            cost_usd=round(each.usd, 6),
        )
        for day, each in sorted(days.items())
    ]


def _batches(rows: Iterable[tuple[Machine, Sum]]) -> list[BatchCost]:
    sums: dict[str, Sum] = defaultdict(Sum)
    for machine, each in rows:
        if machine.batch_id is not None:
            sums[machine.batch_id] += each
    dearest = sorted(sums.items(), key=lambda item: (-item[1].usd, item[0]))
    return [
        BatchCost(
            batch_id=batch_id,
            machines=each.machines,
            outputs=each.outputs,
            cost_usd=round(each.usd, 6),
            usd_per_output=round(each.usd / each.outputs, 6) if each.outputs else None,
        )
        for batch_id, each in dearest[:BATCHES_MAX]
    ]


def _downloads(session: Session, first: date, last: date) -> dict[str, int]:
    days = select(Downloads).where(
        col(Downloads.day) >= first.isoformat(), col(Downloads.day) <= last.isoformat()
    )
    return {row.day: row.size_bytes for row in session.exec(days).all()}


def _budget(budget: Budget | None) -> BudgetView | None:
    if budget is None:
        return None
    return BudgetView(
        cap_usd=budget.cap_usd,
        spent_usd=round(budget.spent_usd, 6),
        reserved_usd=round(budget.reserved_usd, 6),
        left_usd=round(max(0.0, budget.left_usd), 6),
    )
