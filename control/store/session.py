"""The session of a writing transaction: the ORM, with short ways for what every transaction does.

SQLAlchemy's unit of work takes several times longer to load, store or change a row than SQLite with the
driver (docs/performance.md). So rows are loaded by prepared queries, and new and changed rows are sent by
prepared statements. Deleted rows, and all other queries, go the usual way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import groupby
from operator import attrgetter
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy import Connection, Executable, Table, bindparam
from sqlalchemy.orm import InstanceState
from sqlalchemy.orm.attributes import instance_state, manager_of_class
from sqlalchemy.orm.exc import StaleDataError
from sqlmodel import Session, SQLModel

from control.store.prepared import NO_TIME, Moment, Prepared, Row

Entity = TypeVar("Entity", bound=SQLModel)


class RowSession(Session):
    """A session for rows without relationships between objects. It sends them by table and key.

    It works within the transaction of a connection, and neither begins nor ends one.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, expire_on_commit=False)
        self._connection = connection

    def connection(self, *_: Any, **__: Any) -> Connection:
        """Return the connection."""
        return self._connection

    def get(self, entity: Any, ident: Any, **options: Any) -> Any:
        """Return the row with this key, or None. Before that only new rows are sent."""
        if any(options.values()):
            return super().get(entity, ident, **options)
        if self._new:
            self.flush()
        return get(self, entity, ident)

    def load(
        self, entity: type[Entity], query: Prepared, now: datetime = NO_TIME, **given: object
    ) -> Sequence[Entity]:
        """Return the rows of a query of all columns of the entity: see the function `load`."""
        return load(self, entity, query, now, **given)

    def flush(self, objects: Sequence[Any] | None = None) -> None:
        """Send all new rows, and then all changes so far. Raises StaleDataError if a changed row is gone."""
        if self.deleted:
            super().flush(objects)
            return
        if self._new:
            self._store_new()
        if not self.identity_map.check_modified():
            return
        for row in sorted(self.dirty, key=_name_and_key):
            state = instance_state(row)
            was, now = state.committed_state, state.dict
            if new := {name: now[name] for name, old in was.items() if now[name] != old}:
                self._send(state.class_, _key_of(row), new)
            state._commit_all(now, self.identity_map)  # what SQLAlchemy does after its own UPDATE

    def _store_new(self) -> None:
        new = sorted(self._new, key=_place_of)
        for entity, states in groupby(new, key=attrgetter("class_")):
            rows = list(states)
            insert(self.connection(), entity, [state.dict for state in rows])
            for state in rows:
                _own(self, state, (entity, tuple([state.dict[name] for name in _key_names(entity)]), None))
                state._commit_all(state.dict, self.identity_map)
                del self._new[state]

    def _send(self, entity: type[SQLModel], key: Sequence[Any], new: dict[str, Any]) -> None:
        given = {f"key_{n}": value for n, value in enumerate(key)}
        given |= {f"new_{name}": value for name, value in new.items()}
        if _change_of(entity, tuple(sorted(new))).change(self.connection(), NO_TIME, **given) != 1:
            raise StaleDataError(f"The row {key} of {entity.__name__} is gone.")


def get(session: Session, entity: type[Entity], ident: Any) -> Entity | None:
    """Return the row with this key, or None. Changes that were not sent are not looked for."""
    key = ident if isinstance(ident, tuple) else (ident,)
    loaded: Entity | None = session.identity_map.get((entity, key, None))
    if loaded is not None:
        return loaded
    given = {f"key_{n}": value for n, value in enumerate(key)}
    return next(iter(load(session, entity, _by_key(entity), **given)), None)


def load(
    session: Session, entity: type[Entity], query: Prepared, now: datetime = NO_TIME, **given: object
) -> Sequence[Entity]:
    """Return the rows of a query of all columns of the entity. A loaded one stays as it is."""
    names = _key_names(entity)
    return [
        _taken_in(session, entity, tuple([getattr(row, name) for name in names]), row)
        for row in query.rows(session.connection(), now, **given)
    ]


def _taken_in(session: Session, entity: type[Entity], key: tuple[Any, ...], row: Row) -> Entity:
    identity = entity, key, None
    loaded: Entity | None = session.identity_map.get(identity)
    if loaded is not None:
        return loaded
    made: Entity = manager_of_class(entity).new_instance()
    vars(made).update(zip(row._fields, row, strict=True))
    _own(session, instance_state(made), identity)
    return made


def _own(session: Session, state: InstanceState[Any], identity: tuple[Any, ...]) -> None:
    """Have the row of an object be known by its key, as SQLAlchemy does after it has loaded one."""
    state.key, state.session_id = identity, session.hash_key
    session.identity_map.replace(state)  # one that was removed by a statement may still have the key


def insert(connection: Connection, entity: type[SQLModel], rows: Sequence[Mapping[str, Any]]) -> None:
    """Store new rows, each given by its columns. Other entries are ignored; a missing column is None."""
    names, statement = _insert_into(entity)
    statement.store(connection, [{f"new_{name}": row.get(name) for name in names} for row in rows])


@cache
def _insert_into(entity: type[SQLModel]) -> tuple[Sequence[str], Prepared]:
    table = _table(entity)
    names = [column.name for column in table.columns if column is not table.autoincrement_column]
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in names}
    return names, Prepared(lambda _: sqlalchemy.insert(table).values(values).inline())


def _place_of(state: InstanceState[Any]) -> int:
    """Return the place of a row's table: after those that it refers to."""
    return _places()[state.class_.__tablename__]


@cache
def _places() -> Mapping[str, int]:
    return {table.name: place for place, table in enumerate(SQLModel.metadata.sorted_tables)}


def _table(entity: type[SQLModel]) -> Table:
    table = sqlalchemy.inspect(entity).local_table
    assert isinstance(table, Table)
    return table


def _name_and_key(row: SQLModel) -> tuple[Any, ...]:
    return type(row).__name__, *_key_of(row)


def _key_of(row: SQLModel) -> tuple[Any, ...]:
    identity = instance_state(row).key
    assert identity is not None
    return identity[1]


@cache
def _key_names(entity: type[SQLModel]) -> tuple[str, ...]:
    return tuple(column.name for column in sqlalchemy.inspect(entity).primary_key)


@cache
def _by_key(entity: type[SQLModel]) -> Prepared:
    return Prepared(lambda _: sqlalchemy.select(entity).where(*_has_key(entity)))


@cache
def _change_of(entity: type[SQLModel], names: tuple[str, ...]) -> Prepared:
    def build(_: Moment) -> Executable:
        values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in names}
        return sqlalchemy.update(entity).where(*_has_key(entity)).values(values)

    return Prepared(build)


def _has_key(entity: type[SQLModel]) -> Sequence[Any]:
    key = sqlalchemy.inspect(entity).primary_key
    return [column == bindparam(f"key_{n}") for n, column in enumerate(key)]
