"""Statements that are built once and work on plain rows: those that passes and transactions repeat all day.

SQLAlchemy takes several times longer to build a statement, and to make objects of its rows, than SQLite takes
to run it (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BindParameter, Connection, CursorResult, Executable, Row, bindparam
from sqlmodel.sql.sqltypes import UTCDateTime


class Moment:
    """The time of the run, while a query is prepared: a parameter of it, as is each time before or after."""

    def __init__(self) -> None:
        self._spans: dict[str, timedelta] = {}

    def __clause_element__(self) -> BindParameter[datetime]:
        return self + timedelta(0)

    def __add__(self, span: timedelta) -> BindParameter[datetime]:
        name = f"now_{len(self._spans)}"
        self._spans[name] = span
        return bindparam(name, type_=UTCDateTime())

    def __sub__(self, span: timedelta) -> BindParameter[datetime]:
        return self + -span

    def values(self, now: datetime) -> dict[str, datetime]:
        """Return the values of these parameters for a run at `now`."""
        return {name: now + span for name, span in self._spans.items()}


class Prepared:
    """A query that `build` makes at the first run. Use it as a decorator. Safe to use from any thread.

    Its other parameters are `bindparam`s with names.
    """

    def __init__(self, build: Callable[[Moment], Executable]) -> None:
        self._build = build
        self._built: tuple[Executable, Moment] | None = None

    def rows(self, connection: Connection, now: datetime, **given: object) -> Sequence[Row[Any]]:
        """Return the rows at `now`. Each has the columns as attributes; no change of a row is stored."""
        return self._run(connection, now, given).all()

    def change(self, connection: Connection, now: datetime, **given: object) -> int:
        """Run an UPDATE at `now` and return how many rows it has changed."""
        return self._run(connection, now, given).rowcount

    def _run(self, connection: Connection, now: datetime, given: dict[str, object]) -> CursorResult[Any]:
        if self._built is None:
            moment = Moment()
            self._built = self._build(moment), moment
        query, moment = self._built
        return connection.execute(query, {**moment.values(now), **given})

    def forget(self) -> None:
        """Build the query again at the next run: what `build` calls has changed."""
        self._built = None
