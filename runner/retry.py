"""The one rule for retries: which failures are retried, how long to wait, when to give up.

Every wait must end when the stop flag is set.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from math import inf
from threading import Event
from typing import TypeVar

from runner.stop import Stopped

FIRST_PAUSE_S = 0.2
PAUSE_S_MAX = 5.0

Answer = TypeVar("Answer")


class RetryableError(Exception):
    """This try failed, but the next one may succeed. The message may be shown.

    `headway` says that some bytes were transferred before the failure, so the other side was reachable.
    """

    def __init__(self, message: str, *, headway: bool = False) -> None:
        super().__init__(message)
        self.headway = headway


def is_transient(status: int) -> bool:
    """Return whether the same HTTP request may succeed later.

    This is `infra.ports.is_transient`, repeated here since its import would take 6 ms of every start.
    """
    return status in (408, 429) or status >= 500


def retrying(
    call: Callable[[], Answer],
    *,
    stop: Event,
    until: float = inf,
    outage_s: float = inf,
    pause_s_max: float = PAUSE_S_MAX,
) -> Answer:
    """Return what `call` returns, retrying after `RetryableError` with exponential back-off and full jitter.

    Tries end at the instant `until` of `time.monotonic()`, or `outage_s` after the first failure since
    there was headway. Then raises the last `RetryableError`; raises `Stopped` when `stop` is set; anything
    else that `call` raises passes through at once.
    """
    tries, away_until = 0, inf
    while True:
        if stop.is_set():
            raise Stopped
        try:
            return call()
        except RetryableError as failed:
            if failed.headway:
                tries, away_until = 0, inf
            tries += 1
            away_until = min(away_until, time.monotonic() + outage_s)
            pause_s = random.uniform(0, min(pause_s_max, FIRST_PAUSE_S * 2 ** min(tries, 10)))  # noqa: S311
            if time.monotonic() + pause_s > min(until, away_until):
                raise
            stop.wait(pause_s)
