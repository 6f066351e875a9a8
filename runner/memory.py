"""The memory budget that the threads of a run share.

A thread that waits must not hold any of it, or two threads could wait for each other. So a thread takes all
that it needs in one step.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.contract import (
    FIRST_BYTES_PER_PIXEL,
    OTHER_BYTES_PER_PIXEL,
    PROCESS_BYTES,
    OutputSpec,
    output_bytes_per_s,
)
from runner.graph import Probe
from runner.stop import Stopped

POLL_S = 0.2
_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


class MemoryBudget:
    """Bytes that several threads share."""

    def __init__(self, limit_bytes: int, stop: threading.Event) -> None:
        self._limit = self._free = max(1, limit_bytes)  # with almost none, one at a time still works
        self._stop = stop
        self._changed = threading.Condition()

    @contextmanager
    def lent(self, wanted_bytes: int) -> Iterator[None]:
        """Wait until this much is free, and hold it for the block. More than the limit means all of it.

        Raises Stopped.
        """
        wanted_bytes = min(wanted_bytes, self._limit)
        with self._changed:
            while self._free < wanted_bytes:
                if self._stop.is_set():
                    raise Stopped
                self._changed.wait(POLL_S)
            self._free -= wanted_bytes
        try:
            yield
        finally:
            self.hold(-wanted_bytes)

    def hold(self, some_bytes: int) -> None:
        """Count bytes as used without waiting, or, if negative, as free again."""
        with self._changed:
            self._free -= some_bytes
            self._changed.notify_all()


def first_bytes(probe: Probe) -> int:
    """Return the memory of one FFmpeg that makes an output with its own analysis."""
    return PROCESS_BYTES + FIRST_BYTES_PER_PIXEL * probe.width * probe.height


def others_bytes(probe: Probe, count: int) -> int:
    """Return the memory of one FFmpeg that makes this many outputs by the analysis of another."""
    return PROCESS_BYTES + count * OTHER_BYTES_PER_PIXEL * probe.width * probe.height


def output_bytes(output: OutputSpec, probe: Probe, source_bytes: int) -> int:
    """Return the estimated size of an output."""
    if output.effects:
        return int(output_bytes_per_s(probe.width * probe.height, output.quality) * probe.duration_s)
    return source_bytes


def free_bytes() -> int:
    """Return how much memory this process and its children may still use: on the machine, in the cgroup."""
    found = [_available(), _left_in_cgroup()]
    return min((some for some in found if some is not None), default=2 << 30)


def _available() -> int | None:
    if not _MEMINFO.exists():
        return None
    lines = (line.split() for line in _MEMINFO.read_text().splitlines())
    return next((int(words[1]) << 10 for words in lines if words[0] == "MemAvailable:"), None)


def _left_in_cgroup() -> int | None:
    try:
        limit, used = ((_CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:
        return None
    return None if limit == "max" else max(0, int(limit) - int(used))
