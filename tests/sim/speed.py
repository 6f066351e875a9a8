"""Keeps what the passes read until a row changes: in most ticks of a world nothing has changed.

Every answer was computed by the real query on the rows as they are now. Those that also depend on the clock
are kept only while there is no row of their kind at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Any

from control.auth.tokens import Signer
from control.passes import observe, retention
from control.store import queue
from control.store.prepared import Prepared
from control.views.batches import Rows, Views
from tests.sim.protocol import SimWorld

OF_CLOCK = {
    queue.first_waiting: "SELECT 1 FROM job WHERE status = 'queued' LIMIT 1",
    observe._unlisted: "SELECT 1 FROM attempt WHERE claimed_by NOT IN (SELECT id FROM machine) LIMIT 1",
    retention._ready_to_go: "SELECT 1 FROM batch WHERE deleted_at IS NOT NULL LIMIT 1",
}


class SimViews(Views):
    """What the passes read, from memory while no control has committed anything."""

    def __init__(self, world: SimWorld, signer: Signer) -> None:
        super().__init__(world.database.engine, signer, world.now)
        self._reader, self._now = world.database.reader, world.now
        self._version, self._ask = world.oracle.version, world.database.judge.execute
        self._at, self._kept = -1, dict[tuple[object, ...], Sequence[Any]]()

    @contextmanager
    def reading(self) -> Iterator[Rows]:
        """Yield what returns the rows of prepared queries, as the core would."""
        yield self.rows

    def rows(self, query: Prepared, **given: object) -> Sequence[Any]:
        """Return the rows of a prepared query, as the core would."""
        if (version := self._version()) != self._at:
            self._at = version
            self._kept.clear()
        key = (query, *map(str, given.values()))
        if key in self._kept:
            return self._kept[key]
        if query in OF_CLOCK:
            if self._ask(OF_CLOCK[query]).fetchone() is not None:
                return query.rows(self._reader, self._now(), **given)
            self._kept[key] = ()
        else:
            self._kept[key] = query.rows(self._reader, self._now(), **given)
        return self._kept[key]


def here_only(patched: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    """Return what calls `patched` in this thread and `real` in all others."""
    owner = get_ident()
    return lambda *given: (patched if get_ident() == owner else real)(*given)
