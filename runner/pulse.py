"""Whether a process still gets on: the figures that it tells move, or it takes CPU time.

Must never call a process hung because the machine was: time in which this program slept does not count.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

HANG_S = 60.0
LOOKS = 12  # how often CPU time is looked at before a process is given up
CPU_SHARE_MIN = 1 / 600  # of the time: FFmpeg's waiting main thread takes 1/3000 (docs/performance.md)
STEP_S_MAX = 1.0  # what one question counts for at most: the machine may have slept in between


def cpu_s_of(group: int) -> float | None:
    """Return the CPU seconds of a process group's living members; None where the system does not tell."""
    try:
        stats = [_stat(path) for path in Path("/proc").iterdir() if path.name.isdecimal()]
    except OSError:
        return None
    ticks = [int(stat[11]) + int(stat[12]) for stat in stats if stat and int(stat[2]) == group]
    return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else None


def _stat(process: Path) -> list[str]:
    """Return what /proc tells of a process from its state on (man 5 proc_pid_stat); nothing if it is gone."""
    try:
        return (process / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


class Pulse:
    """Watches one process group. Ask `is_gone` often; tell it what `moved`."""

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
        """Note that the process got on."""
        self._quiet_s, self._look_at_s = 0.0, HANG_S / LOOKS
        self._cpu_before: float | None = None

    def is_gone(self) -> bool:
        """Return whether nothing has moved for HANG_S. Where CPU time cannot be known, never."""
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
