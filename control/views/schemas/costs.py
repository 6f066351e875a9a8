"""The costs of machines by day and by batch, and the budgets."""

from __future__ import annotations

from datetime import date

from pydantic import BaseModel


class Day(BaseModel):
    """The cost of the machines that ended on a day (UTC). Live machines count today."""

    date: date
    machines: int
    machine_seconds: float
    leaked_seconds: float
    egress_bytes: int
    download_bytes: int
    outputs: int
    cost_usd: float


class BatchCost(BaseModel):
    """The cost of a batch in these days. The batch may be deleted."""

    batch_id: str
    machines: int
    outputs: int
    cost_usd: float
    usd_per_output: float | None


class BudgetView(BaseModel):
    """A cap and the rest of it."""

    cap_usd: float
    spent_usd: float
    reserved_usd: float
    left_usd: float


class BudgetsView(BaseModel):
    """The caps of this day and this month; null without one."""

    day: BudgetView | None
    month: BudgetView | None


class Costs(BaseModel):
    """Costs: the oldest day first, the most expensive batch first. `leaked_seconds` should be 0."""

    days: list[Day]
    batches: list[BatchCost]
    cost_usd: float
    leaked_seconds: float
    budget: BudgetsView
