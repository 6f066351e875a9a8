"""Layouts of ZIPs in memory: made by few threads, once for all who wait for the same one, then kept.

One of 10,000 outputs takes about a second of CPU and 20 MB, so neither how many requests come nor for how
many archives may decide how many are made at once or held. Async; all state belongs to the event loop.
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
from control.downloads.contents import Asked, Layout, laid_out
from control.store import retention
from control.views.batches import found

AT_ONCE_MAX = 2
FILES_MAX = 25_000  # of all layouts that are kept for later
LIVE_SHARE = 4  # a layout that still grows is used for so many times what it took: a fifth of a core at most

_Key = tuple[str, datetime | None, frozenset[int] | None]


class Layouts:
    """The layouts that were asked for lately."""

    def __init__(self, make: Callable[[Asked], Layout]) -> None:
        self._make = make
        self._threads = CapacityLimiter(AT_ONCE_MAX)
        self._kept: OrderedDict[_Key, tuple[Layout, float]] = OrderedDict()  # with the time it is good until
        self._tasks: dict[_Key, asyncio.Task[Layout]] = {}

    async def of(self, asked: Asked) -> Layout:
        """Return a ZIP's layout. Raises what making it raises."""
        key = (asked.id, asked.ended_at, asked.chosen)
        layout, good_until = self._kept.get(key, (None, 0.0))
        if layout is not None and time.monotonic() < good_until:
            self._kept.move_to_end(key)
            return layout
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._made(key, asked))
        return await asyncio.shield(self._tasks[key])

    async def _made(self, key: _Key, asked: Asked) -> Layout:
        try:
            layout, took_s = await to_thread.run_sync(self._timed, asked, limiter=self._threads)
            good_s = math.inf if asked.ended_at else LIVE_SHARE * took_s
            self._keep(key, layout, time.monotonic() + good_s)
            return layout
        finally:
            del self._tasks[key]

    def _timed(self, asked: Asked) -> tuple[Layout, float]:
        begun = time.monotonic()
        return self._make(asked), time.monotonic() - begun

    def _keep(self, key: _Key, layout: Layout, good_until: float) -> None:
        self._kept[key] = layout, good_until
        self._kept.move_to_end(key)
        while sum(len(kept.files) for kept, _ in self._kept.values()) > FILES_MAX:
            self._kept.popitem(last=False)


def made(context: AppContext, asked: Asked) -> Layout:
    """Lay a ZIP out, and keep size and ETag of a whole, frozen one with its row.

    What is kept may differ after a deploy that lays ZIPs out otherwise: then what it is now replaces it.
    Raises ControlError not_found, expired, not_ready: it may have changed since it was asked for.
    """
    with context.views.session() as session:
        subject = found(session, asked.table, asked.id)
        layout = laid_out(session, subject, now=context.clock(), chosen=asked.chosen)
    facts = layout.facts
    if asked.chosen is None and asked.ended_at and facts.tag and facts != asked.facts:
        retention.freeze(
            context.store, asked.table, asked.id, asked.ended_at, size_bytes=facts.size_bytes, tag=facts.tag
        )
    return layout
