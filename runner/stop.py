"""The one flag that ends the work early, and the reason for it.

It is never cleared, so a thread that has seen it may rely on it.
"""

from __future__ import annotations

import signal
import threading

from runner.contract import Reason


class Stopped(Exception):
    """The work ended early because the stop flag is set."""


class Stop(threading.Event):
    """An event that remembers the first reason it was set for."""

    def __init__(self) -> None:
        super().__init__()
        self.reason: Reason | None = None
        self.detail = ""

    def because(self, reason: Reason, detail: str = "") -> None:
        """Set the flag. A second reason is ignored: it is most likely a consequence of the first one."""
        if self.reason is None:
            self.reason, self.detail = reason, detail
        self.set()

    def at_the_end(self, reason: Reason, detail: str) -> None:
        """Note why some work is left undone. The flag is not set: the rest of the work continues."""
        if self.reason is None:
            self.reason, self.detail = reason, detail


def stop_on_signals(stop: Stop) -> None:
    """Let SIGTERM and SIGINT set `stop`. Call it before any thread starts.

    A thread waits for them instead of a handler, which could interrupt the owner of the event's own lock.
    """
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def wait() -> None:
        signal.sigwait(signals)
        stop.because(Reason.CANCELLED, "the machine got a signal to stop")

    threading.Thread(target=wait, name="signals", daemon=True).start()
