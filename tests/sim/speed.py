"""Caches what the passes read until a row changes: in most ticks of a world nothing has changed.

Every answer was computed by the real reader on the rows as they are now. Those that also depend on the clock
are kept only while there is no row of their kind at all. The core is patched for the thread that asks: a
control that runs in another thread reads its own rows, and leaves nothing behind for a world to find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

from control.passes import launch, loop, observe, reap, retention, watch

OF_ROWS = (
    (loop, "_is_anything_left", bool),
    (watch, "_live", list),
    (reap, "_unwanted", list),
    (observe, "_apps_in_use", lambda found: found),
)
OF_ROWS_AND_CLOCK = (
    (launch, "_has_to_start", "SELECT 1 FROM job WHERE status = 'queued' LIMIT 1", False),
    (launch, "_launching", "SELECT 1 FROM attempt WHERE state = 'launching' LIMIT 1", ()),
    (retention, "_ready_to_go", "SELECT 1 FROM batch WHERE deleted_at IS NOT NULL LIMIT 1", None),
)


@contextmanager
def kept_reads(version: Callable[[], int], ask: Callable[[str], Any]) -> Iterator[None]:
    """Keep reads while `version` stays the same; `ask` answers SQL on another connection."""
    patched = [(module, name, getattr(module, name)) for module, name, *_ in (*OF_ROWS, *OF_ROWS_AND_CLOCK)]
    for module, name, copied in OF_ROWS:
        real = getattr(module, name)
        setattr(module, name, here_only(_kept(real, version, copied), real))
    for module, name, sql, nothing in OF_ROWS_AND_CLOCK:
        real = getattr(module, name)
        setattr(module, name, here_only(_unless_none(real, version, ask, sql, nothing), real))
    try:
        yield
    finally:
        for module, name, real in patched:
            setattr(module, name, real)


def here_only(patched: Callable[..., Any], real: Callable[..., Any]) -> Callable[..., Any]:
    """Return what calls `patched` in this thread and `real` in all others."""
    owner = get_ident()
    return lambda *given: (patched if get_ident() == owner else real)(*given)


def _kept(real: Callable[[Any], Any], version: Callable[[], int], copied: Callable[[Any], Any]) -> Any:
    at, value = -1, None

    def read(source: Any) -> Any:
        nonlocal at, value
        now = version()
        if now != at:
            at, value = now, copied(real(source))
        return value

    return read


def _unless_none(
    real: Callable[..., Any], version: Callable[[], int], ask: Callable[[str], Any], sql: str, nothing: Any
) -> Any:
    at, is_some = -1, True

    def read(*source: Any) -> Any:
        nonlocal at, is_some
        now = version()
        if now != at:
            at, is_some = now, ask(sql) is not None
        return real(*source) if is_some else nothing

    return read
