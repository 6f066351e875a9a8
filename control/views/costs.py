"""The costs in the ledger, for clients: by day and by batch. Reads rows only.

The ledger is kept longer than batches: a batch that a user has deleted still counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import astuple, dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import ColumnElement, func
from sqlmodel import Session, and_, col, select

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


Sums = defaultdict[str, Sum]


def costs(views: Views, settings: Settings, now: datetime, first: date, last: date) -> Costs:
    """Return the costs of machines from one day to another, both included, and the rest of the budgets.

    The database sums the machines that are gone: a year has so many that their objects would take 100 MB.
    """
    since, until = _midnight(first), _midnight(last + timedelta(days=1))
    with views.session() as session:
        live = list(_live(session, now)) if since <= now < until else []
        days, batches = _sums_of_gone(session, since, until, {id_ for id_, _ in live if id_})
        for batch_id, each in live:
            days[now.date().isoformat()] += each
            if batch_id:
                batches[batch_id] += each
        unseen = session.exec(select(Attempt).where(is_unseen(now))).all()
        budgets = {each.name: each for each in shared_budgets(session, settings, now, unseen)}
        total = sum(days.values(), Sum())
        return Costs(
            days=_days(days, _downloads(session, first, last)),
            batches=_batches(batches),
            cost_usd=round(total.usd, 6),
            leaked_seconds=round(total.leaked_seconds, 3),
            budget=BudgetsView(day=_budget(budgets.get("day")), month=_budget(budgets.get("month"))),
        )


def _sums_of_gone(
    session: Session, since: datetime, until: datetime, live: Collection[str]
) -> tuple[Sums, Sums]:
    """Return the sums of the machines that ended in this time: by day, and by batch.

    The batches are the most expensive ones, and those in `live`: their live machines make them more so.
    """
    ended = and_(col(Machine.gone_at) >= since, col(Machine.gone_at) < until)
    batch_id = col(Machine.batch_id)
    dearest = _sums(session, batch_id, ended, batch_id.is_not(None), most=BATCHES_MAX)
    return _sums(session, _day(session), ended), dearest | _sums(session, batch_id, ended, batch_id.in_(live))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _day(session: Session) -> ColumnElement[str]:
    """Return the SQL of the day (UTC) on which a machine ended, like 2026-11-21."""
    if session.get_bind().dialect.name == "sqlite":
        return func.substr(Machine.gone_at, 1, len("2026-11-21"))
    return func.to_char(func.timezone("UTC", Machine.gone_at), "YYYY-MM-DD")  # not in the server's time zone


def _sums(session: Session, key: Any, *counted: ColumnElement[bool], most: int | None = None) -> Sums:
    """Return the sums of the counted machines by `key`; with `most`, only so many, the dearest first."""
    usd = func.sum(Machine.cost_usd)
    rows = session.execute(
        select(  # type: ignore[call-overload]  # seven columns
            key,
            func.count(),
            func.sum(Machine.machine_seconds),
            func.sum(Machine.leaked_seconds),
            func.sum(Machine.egress_bytes),
            func.sum(Machine.outputs),
            usd,
        )
        .where(*counted)
        .group_by(key)
        .order_by(usd.desc(), key)
        .limit(most)
    )
    found = {
        name: Sum(machines, machine_s, leaked_s, int(egress_bytes), int(outputs), cost_usd)
        for name, machines, machine_s, leaked_s, egress_bytes, outputs, cost_usd in rows
    }
    return defaultdict(Sum, found)


def _live(session: Session, now: datetime) -> Iterator[tuple[str | None, Sum]]:
    """Yield the batch of each machine that is not known to be gone, and its costs so far."""
    made_for = col(Attempt.id) == col(Machine.attempt_id)
    alive = select(Machine, Attempt).outerjoin(Attempt, made_for).where(col(Machine.gone_at).is_(None))
    for machine, attempt in session.exec(alive):
        until = machine.exited_at or now
        seconds = (until - machine.started_at).total_seconds() if machine.started_at else 0.0
        yield (
            machine.batch_id,
            Sum(
                machines=1,
                machine_seconds=max(0.0, seconds),
                leaked_seconds=leaked_seconds(machine, attempt, until),
                usd=accrued_usd(machine, now),
            ),
        )


def _days(sums: Mapping[str, Sum], downloads: Mapping[str, int]) -> list[Day]:
    """Return each day with costs or downloads."""
    found = ((day, sums.get(day, Sum())) for day in sorted({*sums, *downloads}))
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
        for day, each in found
    ]


def _batches(sums: Mapping[str, Sum]) -> list[BatchCost]:
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
