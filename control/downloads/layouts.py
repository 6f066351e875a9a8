"""A cache of ZIP layouts. A few threads make them, each only once for all requests that wait for it.

A layout of 10,000 outputs takes about a second of CPU and 20 MB. So limits decide how many are made at once
and how many are held, and not the number of requests. Async; all state belongs to the event loop.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime

from anyio import CapacityLimiter, to_thread

from control.context import AppContext
from control.downloads.contents import Layout, ZipRequest, laid_out
from control.store import retention
from control.store.rows import found

AT_ONCE_MAX = 2
FILES_MAX = 25_000  # of all cached layouts together
LIVE_SHARE = 4  # a layout that still grows is reused for 4 times its CPU time: a fifth of a core at most

_Key = tuple[str, datetime | None, frozenset[int] | None, bool]


class Layouts:
    """The layouts of the latest requests."""

    def __init__(self, make: Callable[[ZipRequest], Layout]) -> None:
        self._make = make
        self._threads = CapacityLimiter(AT_ONCE_MAX)
        self._kept: OrderedDict[_Key, tuple[Layout, float]] = OrderedDict()  # with its expiry
        self._tasks: dict[_Key, asyncio.Task[Layout]] = {}

    async def of(self, asked: ZipRequest) -> Layout:
        """Return the layout of a ZIP. Raises what `make` raises."""
        key = (asked.id, asked.ended_at, asked.chosen, asked.is_shared)
        layout, good_until = self._kept.get(key, (None, 0.0))
        if layout is not None and time.monotonic() < good_until:
            self._kept.move_to_end(key)
            return layout
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._made(key, asked))
        return await asyncio.shield(self._tasks[key])

    async def _made(self, key: _Key, asked: ZipRequest) -> Layout:
        try:
            layout, took_s = await to_thread.run_sync(self._timed, asked, limiter=self._threads)
            good_s = math.inf if asked.ended_at else LIVE_SHARE * took_s
            self._keep(key, layout, time.monotonic() + good_s)
            return layout
        finally:
            del self._tasks[key]

    def _timed(self, asked: ZipRequest) -> tuple[Layout, float]:
        begun = time.monotonic()
        return self._make(asked), time.monotonic() - begun

    def _keep(self, key: _Key, layout: Layout, good_until: float) -> None:
        self._kept[key] = layout, good_until
        self._kept.move_to_end(key)
        while sum(len(kept.files) for kept, _ in self._kept.values()) > FILES_MAX:
            self._kept.popitem(last=False)


def made(context: AppContext, asked: ZipRequest) -> Layout:
    """Return the layout of a ZIP. Store size and ETag of a whole, frozen one in its row.

    A new version of control may lay out the same ZIP differently: then the new values replace the old ones.
    Raises ControlError not_found, expired, not_ready: the row may have changed since the request began.
    """
    with context.views.session() as session:
        subject = found(session, asked.table, asked.id)
        now, chosen = context.clock(), asked.chosen
        layout = laid_out(session, subject, now=now, chosen=chosen, is_shared=asked.is_shared)
    facts, is_whole = layout.facts, asked.chosen is None and not asked.is_shared
    if is_whole and asked.ended_at and facts.tag and facts != asked.facts:
        retention.freeze(
            context.store, asked.table, asked.id, asked.ended_at, size_bytes=facts.size_bytes, tag=facts.tag
        )
    return layout
