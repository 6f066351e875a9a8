"""Decides when a stored time counts as reached, even if a wrong clock wrote it. PURE."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, or_
from sqlmodel import col

from control.store.prepared import Moment


def is_due(at: Any, now: datetime | Moment, *, longest: timedelta) -> ColumnElement[bool]:
    """Return the SQL condition that the time in the column is reached.

    No time is ever set further ahead than `longest`. One that is was written by a clock that was ahead, and
    counts as reached too: otherwise a jump of the clock would delay it for that long.
    """
    return or_(col(at) <= now, col(at) > now + longest)


def has_come(at: datetime, now: datetime, *, longest: timedelta) -> bool:
    """Return the decision of `is_due` for a time that is already loaded."""
    return at <= now or at > now + longest


def is_within(at: Any, now: datetime | Moment, span: timedelta) -> ColumnElement[bool]:
    """Return the SQL condition that the time in the column is less than `span` away from `now`.

    A time up to `span` ahead counts as well: the clock may have been set back.
    """
    return and_(col(at) > now - span, col(at) < now + span)
