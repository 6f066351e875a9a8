"""Instants of rows that something waits for: when they count as come.

Rows outlive the clock that wrote them, and that clock may have been wrong. PURE.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, or_
from sqlmodel import col


def is_due(at: Any, now: datetime, *, longest: timedelta) -> ColumnElement[bool]:
    """Return the condition that the column's instant has come.

    Nobody ever waits for more than `longest`: what lies further ahead was written by a clock that was
    ahead, and has come too. Otherwise a jump of the clock would hold it back for as long.
    """
    return or_(col(at) <= now, col(at) > now + longest)


def has_come(at: datetime, now: datetime, *, longest: timedelta) -> bool:
    """Tell what `is_due` asks for, of an instant at hand."""
    return at <= now or at > now + longest


def is_within(at: Any, now: datetime, span: timedelta) -> ColumnElement[bool]:
    """Return the condition that the column's instant was less than `span` ago; none so far ahead counts."""
    return and_(col(at) > now - span, col(at) < now + span)
