"""The session of a writing transaction: the ORM, with short ways for what every transaction does.

SQLAlchemy's unit of work takes about 250 microseconds of CPU for the UPDATE of a row, and its loading of one
about 150 (docs/performance.md). So rows are loaded by prepared queries, and rows that have only changed are
sent by prepared UPDATEs. New and deleted rows, and all other queries, go the usual way.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from operator import itemgetter
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy import Executable, bindparam
from sqlalchemy.orm import make_transient_to_detached
from sqlalchemy.orm.attributes import instance_state, manager_of_class
from sqlalchemy.orm.exc import StaleDataError
from sqlmodel import Session, SQLModel

from control.store.prepared import Moment, Prepared, Row

Entity = TypeVar("Entity", bound=SQLModel)
_NO_TIME = datetime.min.replace(tzinfo=UTC)  # of queries without a time


class RowSession(Session):
    """A session for rows without relationships between objects. Its UPDATEs are sent by table and key."""

    def get(self, entity: Any, ident: Any, **options: Any) -> Any:
        """Return the row with this key, or None. Before that only new rows are sent."""
        if any(options.values()):
            return super().get(entity, ident, **options)
        key = ident if isinstance(ident, tuple) else (ident,)
        if (loaded := self.identity_map.get((entity, key, None))) is not None:
            return loaded
        if self.new:
            self.flush()
        found = self.load(entity, _by_key(entity), **{f"key_{n}": value for n, value in enumerate(key)})
        return found[0] if found else None

    def load(
        self, entity: type[Entity], query: Prepared, now: datetime = _NO_TIME, **given: object
    ) -> Sequence[Entity]:
        """Return the rows of a query of all columns of the entity. A loaded one stays as it is."""
        found = query.rows(self.connection(), now, **given)
        names = _key_names(entity)
        return [self._taken_in(entity, tuple([getattr(row, name) for name in names]), row) for row in found]

    def _taken_in(self, entity: type[Entity], key: tuple[Any, ...], row: Row) -> Entity:
        loaded: Entity | None = self.identity_map.get((entity, key, None))
        if loaded is not None:
            return loaded
        made: Entity = manager_of_class(entity).new_instance()
        vars(made).update(row._asdict())
        make_transient_to_detached(made)
        self.add(made)
        return made

    def flush(self, objects: Sequence[Any] | None = None) -> None:
        """Send all changes so far. Raises StaleDataError if a changed row is gone."""
        if self.new or self.deleted:
            super().flush(objects)
            return
        changed = {(type(row).__name__, *_key(row)): instance_state(row) for row in self.dirty}
        for (_, *key), state in sorted(changed.items(), key=itemgetter(0)):
            was, now = state.committed_state, state.dict
            if new := {name: now[name] for name, old in was.items() if now[name] != old}:
                self._send(state.class_, key, new)
            state._commit_all(now, self.identity_map)  # what SQLAlchemy does after its own UPDATE

    def _send(self, entity: type[SQLModel], key: Sequence[Any], new: dict[str, Any]) -> None:
        given = {f"key_{n}": value for n, value in enumerate(key)}
        given |= {f"new_{name}": value for name, value in new.items()}
        if _change_of(entity, tuple(sorted(new))).change(self.connection(), _NO_TIME, **given) != 1:
            raise StaleDataError(f"The row {key} of {entity.__name__} is gone.")


def _key(row: SQLModel) -> Sequence[Any]:
    return [getattr(row, name) for name in _key_names(type(row))]


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
