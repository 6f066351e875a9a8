"""Statements that are built once and work on plain rows: those that passes and transactions repeat all day.

SQLAlchemy takes several times longer to build a statement, to adapt it to its values and to make objects of
its rows than SQLite takes to run it (docs/performance.md). So the driver gets the text that was made once.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import BindParameter, Connection, Dialect, Executable, SelectBase, bindparam
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import visitors
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ClauseElement
from sqlalchemy.types import TypeEngine
from sqlmodel.sql.sqltypes import UTCDateTime

NO_TIME = datetime.min.replace(tzinfo=UTC)  # of queries without a time
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
    """A statement that `build` makes at the first run. Use it as a decorator. Safe to use from any thread.

    Its other parameters are `bindparam`s with names; an `expanding` one takes a list, for IN and NOT IN.
    """

    def __init__(self, build: Callable[[Moment], Executable]) -> None:
        self._build = build
        self._built: tuple[Executable, Moment, Sequence[str]] | None = None  # the last: names of its lists
        self._texts: dict[tuple[object, ...], _Text] = {}  # by dialect and the lengths of the lists

    def rows(self, connection: Connection, now: datetime, **given: object) -> Sequence[Row]:
        """Return the rows at `now`. No change of a row is stored."""
        found: Sequence[Row] = self._run(connection, now, given)
        return found

    def change(self, connection: Connection, now: datetime, **given: object) -> int:
        """Run an UPDATE or DELETE at `now` and return how many rows it has changed or removed."""
        changed: int = self._run(connection, now, given)
        return changed

    def store(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Run an INSERT without times and lists once for each row. There is at least one."""
        _, text = self._values_and_text(connection, NO_TIME, rows[0])
        text.run_each(connection, rows)

    def _run(self, connection: Connection, now: datetime, given: dict[str, object]) -> Any:
        values, text = self._values_and_text(connection, now, given)
        return text.run(connection, values)

    def _values_and_text(
        self, connection: Connection, now: datetime, given: dict[str, Any]
    ) -> tuple[dict[str, Any], _Text]:
        if self._built is None:
            moment = Moment()
            query = self._build(moment)
            self._built = query, moment, _lists_of(query)
        query, moment, lists = self._built
        values: dict[str, Any] = {**moment.values(now), **given}
        values |= {name: _padded(values[name]) for name in lists if name in values}
        form = connection.dialect.name, *[len(values[name]) for name in lists if name in values]
        if (text := self._texts.get(form)) is None:
            text = self._texts[form] = _Text(query, connection.dialect, values)
        return values, text

    def forget(self) -> None:
        """Build the query again at the next run: what `build` calls has changed."""
        self._built = None
        self._texts.clear()


def _padded(values: Collection[Any]) -> Sequence[Any]:
    """Return the values with the last one repeated: a query is kept for a few lengths of a list only."""
    found = list(values)
    return found + found[-1:] * ((1 << max(0, len(found) - 1).bit_length()) - len(found))


def _lists_of(query: Executable) -> Sequence[str]:
    assert isinstance(query, ClauseElement)
    parameters = (each for each in visitors.iterate(query) if isinstance(each, BindParameter))
    return [parameter.key for parameter in parameters if parameter.expanding]


class DriverCursor:
    """A context with a cursor of the driver that executes `sql`. Raises what SQLAlchemy raises."""

    def __init__(self, connection: Connection, sql: str) -> None:
        self._cursor: DBAPICursor = connection.connection.cursor()
        self._dialect, self._sql = connection.dialect, sql

    def __enter__(self) -> DBAPICursor:
        return self._cursor

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._cursor.close()
        base = self._dialect.loaded_dbapi.Error
        if isinstance(error, base):
            raise DBAPIError.instance(self._sql, None, error, base, dialect=self._dialect) from error


class _Text:
    """A query as the driver takes it, and how its parameters and rows are converted."""

    def __init__(self, query: Executable, dialect: Dialect, values: dict[str, object]) -> None:
        assert isinstance(query, ClauseElement)
        compiled = query.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        expanded = compiled.construct_expanded_state(values)
        whole = {part: name for name, parts in expanded.parameter_expansion.items() for part in parts}
        types = {name: compiled.binds[whole.get(name, name)].type for name in expanded.parameters}
        writers = {name: _writer(type_, dialect) for name, type_ in types.items()}
        self._sql = expanded.statement
        self._places = expanded.positiontup  # None: the driver takes names
        self._constants = expanded.parameters  # and the values of the first run, which the next ones replace
        self._lists = {name: parts for name, parts in expanded.parameter_expansion.items() if name in values}
        self._writers = [(name, write) for name, write in writers.items() if write is not None]
        self._columns: Sequence[TypeEngine[Any]] = (
            [column.type for column in query.selected_columns] if isinstance(query, SelectBase) else ()
        )
        self._dialect = dialect
        self._kind: Callable[[Any], Row] | None = None
        self._readers: list[tuple[int, Callable[[Any], Any]]] = []

    def run(self, connection: Connection, values: dict[str, Any]) -> Any:
        """Return the rows, or the number of changed rows. Raises what SQLAlchemy raises."""
        with DriverCursor(connection, self._sql) as cursor:
            cursor.execute(self._sql, self._parameters(values))
            return self._rows(cursor) if self._columns else cursor.rowcount

    def run_each(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Run it once for the values of each row. Raises what SQLAlchemy raises."""
        with DriverCursor(connection, self._sql) as cursor:
            cursor.executemany(self._sql, [self._parameters(values) for values in rows])

    def _parameters(self, values: dict[str, Any]) -> Any:
        given = {**self._constants, **values}
        for name, parts in self._lists.items():
            given.update(zip(parts, given.pop(name), strict=True))
        for name, write in self._writers:
            given[name] = write(given[name])
        return given if self._places is None else [given[name] for name in self._places]

    def _rows(self, cursor: DBAPICursor) -> Sequence[Row]:
        kind, found = self._kind or self._learn(cursor), []
        for row in cursor.fetchall():
            if self._readers:
                row = list(row)
                for place, read in self._readers:
                    row[place] = read(row[place])
            found.append(kind(row))
        return found

    def _learn(self, cursor: DBAPICursor) -> Callable[[Any], Row]:
        """Note the columns of a first result: their names, and how the driver's values are converted."""
        described = cursor.description
        readers = [
            _reader(type_, self._dialect, column[1])
            for type_, column in zip(self._columns, described, strict=True)
        ]
        self._readers = [(place, read) for place, read in enumerate(readers) if read is not None]
        kind = namedtuple("Row", [column[0] for column in described], rename=True)  # type: ignore[misc]
        self._kind = kind._make
        return kind._make


def _writer(type_: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    """Return what converts a value for the driver, or None if nothing has to."""
    if isinstance(type_, UTCDateTime) and dialect.name == "sqlite":
        return _text_of
    return type_.dialect_impl(dialect).bind_processor(dialect)


def _reader(type_: TypeEngine[Any], dialect: Dialect, code: object) -> Callable[[Any], Any] | None:
    """Return what converts a value of the driver, or None if nothing has to."""
    if isinstance(type_, UTCDateTime) and dialect.name == "sqlite":
        return _time_of
    return type_.dialect_impl(dialect).result_processor(dialect, code)


# Times in SQLite, as SQLModel and SQLAlchemy convert them together, in a fifth of their time.


def _text_of(at: datetime | None) -> str | None:
    if at is None:
        return None
    if at.utcoffset() is None:
        raise ValueError("A time must have a time zone.")
    return at.astimezone(UTC).isoformat(" ", "microseconds")[: -len("+00:00")]


def _time_of(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text + "+00:00")
