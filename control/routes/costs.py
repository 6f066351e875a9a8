"""The costs so far, and the rest of the budgets."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BeforeValidator

from control.context import AppContext
from control.domain.errors import Code, ControlError
from control.http.errors import documented
from control.http.guard import Guard
from control.http.threads import API
from control.store.machines import LEDGER_DAYS_MIN
from control.views.costs import costs
from control.views.schemas.costs import Costs

DAYS_DEFAULT, DAYS_MAX = 30, LEDGER_DAYS_MIN


def _in_full(text: str) -> str:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):  # pydantic would read a number as a time
        raise ValueError("must be a day like 2026-11-21")
    if not "1970" < text < "9999":  # the days before and after it must exist
        raise ValueError("must lie between 1970 and 9998")
    return text


Day = Annotated[date, BeforeValidator(_in_full)]


def routes(context: AppContext, guard: Guard) -> APIRouter:
    """Return the route `/api/costs`."""
    router = APIRouter(prefix="/api", dependencies=[Depends(guard)], tags=["costs"], route_class=API.route)

    @router.get("/costs", responses=documented(Code.UNAUTHORIZED, Code.INVALID))
    def show_costs(from_: Annotated[Day | None, Query(alias="from")] = None, to: Day | None = None) -> Costs:
        """Show the cost of machines for each day (UTC) from `from` to `to`, both included; default: 30 days.

        A machine counts on the day on which control saw that it is gone. Live machines count today, so far.
        """
        last = to or context.clock().date()
        first = from_ or last - timedelta(days=DAYS_DEFAULT - 1)
        if not 0 <= (last - first).days < DAYS_MAX:
            raise ControlError(Code.INVALID, f"`from` must lie before `to`, by {DAYS_MAX} days at most.")
        return costs(context.views, context.settings, context.clock(), first, last)

    return router
