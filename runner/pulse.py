"""Finds out whether a process makes progress: the numbers that it reports change, or it uses CPU time.

A process must not count as hung because the machine was paused. So the time in which this program did not run
does not count.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

HANG_S = 60.0
LOOKS = 12  # how often CPU time is measured before a process is called hung
CPU_SHARE_MIN = 1 / 600  # of the time: FFmpeg's waiting main thread uses 1/3000 (docs/performance.md)
STEP_S_MAX = 1.0  # the most that one call may count: the machine may have been paused before it


def cpu_s_of(group: int) -> float | None:
    """Return the CPU seconds of the running processes of a group; None where they are not known."""
    try:
        stats = [_stat(path) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    except OSError:
        return None
    ticks = [int(stat[11]) + int(stat[12]) for stat in stats if stat and int(stat[2]) == group]
    return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else None


def _stat(process: Path) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on (man 5 proc_pid_stat); [] if it has ended."""
    try:
        return (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


class Pulse:
    """Watches one process group. Call `is_gone` often, and `moved` whenever a number changed."""

    def __init__(
        self,
        group: int,
        *,
        cpu_s: Callable[[int], float | None] = cpu_s_of,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._group, self._cpu_s, self._clock = group, cpu_s, clock
        self._asked_at = clock()
        self.moved()

    def moved(self) -> None:
        """Note that the process made progress."""
        self._quiet_s, self._look_at_s = 0.0, HANG_S / LOOKS
        self._cpu_before: float | None = None

    def is_gone(self) -> bool:
        """Return whether there was no progress for HANG_S. Always False where CPU time is not known."""
        now = self._clock()
        self._quiet_s += min(now - self._asked_at, STEP_S_MAX)
        self._asked_at = now
        if self._quiet_s >= self._look_at_s:
            self._look_at_s = self._quiet_s + HANG_S / LOOKS
            self._look()
        return self._quiet_s >= HANG_S

    def _look(self) -> None:
        used_s = self._cpu_s(self._group)
        if used_s is None:
            self.moved()
        elif self._cpu_before is None:
            self._cpu_before = used_s
        elif used_s - self._cpu_before >= HANG_S * CPU_SHARE_MIN:
            self.moved()
