"""The two timers that end a run: the first asks the work to stop, the second ends the process.

Neither may depend on control, on the network, or on a worker that still reacts.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

from runner.contract import Exit, Reason
from runner.ffmpeg import kill_all
from runner.log import record
from runner.stop import Stop

REPORT_S_MAX = 15.0  # kept back from the run for the last report
GRACE_S = 5.0


def ask_to_stop_after(stop: Stop, run_timeout_s: float) -> threading.Timer:
    """Set `stop` early enough for the last report. The caller cancels the timer when the work has ended."""
    work_s = run_timeout_s - min(REPORT_S_MAX, run_timeout_s / 10)
    return _timer(work_s, lambda: stop.because(Reason.RUN_DEADLINE, f"not done within {work_s:.0f} s"))


def end_after(seconds: float) -> threading.Timer:
    """End this process and every FFmpeg after this time, whatever the other threads do.

    If the timer's thread cannot run either, SIGALRM with its default action ends the process a little later.
    The kernel ends each jailed FFmpeg together with this process.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds + GRACE_S)
    return _timer(seconds, _end_now)


def _end_now() -> None:
    record("hard_limit")
    kill_all()
    os._exit(Exit.UNREPORTED)


def _timer(seconds: float, act: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(max(0.0, seconds), act)
    timer.daemon = True
    timer.start()
    return timer
