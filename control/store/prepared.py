"""Statements that are built once and work on plain rows: those that passes and transactions repeat all day.

SQLAlchemy takes several times longer to build a statement, to adapt it to its values and to make objects of
its rows than SQLite takes to run it (docs/performance.md). So the driver gets the text that was made once.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BindParameter, Connection, CursorResult, Dialect, Executable, SelectBase, bindparam
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement
from sqlmodel.sql.sqltypes import UTCDateTime

Row = Any  # a named tuple: its attributes are the columns


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

    Its other parameters are `bindparam`s with names; an `expanding` one takes a list.
    """

    def __init__(self, build: Callable[[Moment], Executable]) -> None:
        self._build = build
        self._built: tuple[Executable, Moment] | None = None
        self._texts: dict[tuple[object, ...], _Text] = {}  # by dialect and the lengths of the lists

    def rows(self, connection: Connection, now: datetime, **given: object) -> Sequence[Row]:
        """Return the rows at `now`. No change of a row is stored."""
        text, result = self._run(connection, now, given)
        return text.rows(result)

    def change(self, connection: Connection, now: datetime, **given: object) -> int:
        """Run an UPDATE at `now` and return how many rows it has changed."""
        return self._run(connection, now, given)[1].rowcount

    def _run(
        self, connection: Connection, now: datetime, given: dict[str, object]
    ) -> tuple[_Text, CursorResult[Any]]:
        if self._built is None:
            moment = Moment()
            self._built = self._build(moment), moment
        query, moment = self._built
        values = {**moment.values(now), **given}
        form = connection.dialect.name, *(len(each) for each in given.values() if isinstance(each, list))
        if (text := self._texts.get(form)) is None:
            text = self._texts[form] = _Text(query, connection.dialect, values)
        return text, connection.exec_driver_sql(text.sql, text.parameters(values))

    def forget(self) -> None:
        """Build the query again at the next run: what `build` calls has changed."""
        self._built = None
        self._texts.clear()


class _Text:
    """A query as the driver takes it, and how its parameters and rows are converted."""

    def __init__(self, query: Executable, dialect: Dialect, values: dict[str, object]) -> None:
        assert isinstance(query, ClauseElement)
        compiled = query.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        expanded = compiled.construct_expanded_state(values)
        whole = {part: name for name, parts in expanded.parameter_expansion.items() for part in parts}
        types = {name: compiled.binds[whole.get(name, name)].type for name in expanded.parameters}
        writers = {name: type_.dialect_impl(dialect).bind_processor(dialect) for name, type_ in types.items()}
        self.sql = expanded.statement
        self._places = expanded.positiontup  # None: the driver takes names
        self._constants = expanded.parameters  # and the values of the first run, which the next ones replace
        self._lists = {name: parts for name, parts in expanded.parameter_expansion.items() if name in values}
        self._writers = {name: write for name, write in writers.items() if write is not None}
        self._query, self._dialect = query, dialect
        self._kind: Callable[[Any], Row] | None = None
        self._readers: list[tuple[int, Callable[[Any], Any]]] = []

    def parameters(self, values: dict[str, Any]) -> Any:
        """Return the parameters for these values."""
        given = {**self._constants, **values}
        for name, parts in self._lists.items():
            given.update(zip(parts, given.pop(name), strict=True))
        for name, write in self._writers.items():
            given[name] = write(given[name])
        return given if self._places is None else tuple([given[name] for name in self._places])

    def rows(self, result: CursorResult[Any]) -> Sequence[Row]:
        """Return the rows of a result of this query."""
        kind = self._kind or self._learn(result)
        found = []
        for row in result:
            values = list(row)
            for place, read in self._readers:
                values[place] = read(values[place])
            found.append(kind(values))
        return found

    def _learn(self, result: CursorResult[Any]) -> Callable[[Any], Row]:
        """Note the columns of a first result: their names, and how the driver's values are converted."""
        assert result.cursor is not None
        assert isinstance(self._query, SelectBase)
        described = result.cursor.description
        types = [column.type for column in self._query.selected_columns]
        readers = [
            type_.dialect_impl(self._dialect).result_processor(self._dialect, column[1])
            for type_, column in zip(types, described, strict=True)
        ]
        self._readers = [(place, read) for place, read in enumerate(readers) if read is not None]
        kind = namedtuple("Row", [column[0] for column in described], rename=True)  # type: ignore[misc]
        self._kind = kind._make
        return kind._make
