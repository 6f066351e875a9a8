"""The one rule for trying again: what is worth it, how long to wait, when to stop.

Must never sleep in a way that a stop cannot interrupt.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from itertools import count
from threading import Event
from typing import TypeVar

from runner.stop import Stopped

FIRST_PAUSE_S = 0.2
PAUSE_S_MAX = 5.0

Answer = TypeVar("Answer")


class Again(Exception):
    """This try failed in a way that the next one may not. The message may be shown."""


def is_passing(status: int) -> bool:
    """Return whether an HTTP status tells of a trouble that passes by itself."""
    return status in (408, 429) or status >= 500


def retrying(
    call: Callable[[], Answer], *, stop: Event, tries_max: int | None = None, until: float | None = None
) -> Answer:
    """Return what `call` returns, trying again after `Again` with exponential back-off and full jitter.

    `until` is an instant of `time.monotonic()`. Raises the last `Again` when tries or time are used up,
    `Stopped` when `stop` is set; anything else that `call` raises passes through at once.
    """
    for tries in count(1):
        if stop.is_set():
            raise Stopped
        try:
            return call()
        except Again:
            pause_s = random.uniform(0, min(PAUSE_S_MAX, FIRST_PAUSE_S * 2 ** min(tries, 10)))  # noqa: S311
            out_of_time = until is not None and time.monotonic() + pause_s > until
            if tries == tries_max or out_of_time:
                raise
            stop.wait(pause_s)
    raise AssertionError("count() has no end")
