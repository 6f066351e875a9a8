"""Processes that an earlier local Fly left: noted on disk while they run, killed at the next start.

A note is a process id with the instant of its start, so no other process that got the id later is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path


def note(folder: Path, name: str, pid: int) -> None:
    """Note, under `name`, the process that leads a group of its own."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"{pid} {_started(pid)}")


def forget(folder: Path, name: str) -> None:
    """Drop a note: its process has ended and was waited for."""
    (folder / name).unlink(missing_ok=True)


def kill_noted(folder: Path) -> None:
    """Kill the groups of all noted processes that still run, and drop the notes."""
    for path in sorted(folder.glob("*")):
        pid, _, started = path.read_text().partition(" ")
        if started and _started(int(pid)) == started:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(int(pid), signal.SIGKILL)
        path.unlink()


def _started(pid: int) -> str:
    """Return when the process started, as some text; empty if there is none."""
    try:  # man 5 proc: the twentieth field after the name, in ticks since the boot
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        if Path("/proc/self").exists():
            return ""
        command = ["/bin/ps", "-o", "lstart=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {ticks}"
