"""The process table, as `ps` shows it: what our programs have started, and whether it is gone."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tests.support.programs import need

T = TypeVar("T")
PAUSE_S_MAX = 0.2


@dataclass(frozen=True)
class Process:
    """One line of `ps`."""

    pid: int
    parent: int
    command: str


def take_interrupts() -> None:
    """Undo in a child that a shell has a background job, as this suite may be, ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def processes() -> list[Process]:
    """Return all processes but zombies."""
    command = [need("ps"), "-axww", "-o", "pid=,ppid=,stat=,command="]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    fields = [line.split(maxsplit=3) for line in lines]
    return [Process(int(f[0]), int(f[1]), f[3]) for f in fields if len(f) == 4 and not f[2].startswith("Z")]


def descendants(pid: int) -> list[Process]:
    """Return the processes below `pid`."""
    table = processes()
    found = [process for process in table if process.parent == pid]
    for process in found:  # grows while it is walked
        found += [child for child in table if child.parent == process.pid]
    return found


def runners(pid: int) -> list[Process]:
    """Return the runners below `pid`."""
    return [process for process in descendants(pid) if process.command.endswith("-m runner")]


def until(what: Callable[[], T], *, wait_s: float = 120.0) -> T:
    """Return the first truthy answer of `what`. Patient: a busy machine is no failure.

    The longer it takes, the rarer it asks: what waits would otherwise cost more CPU than what works.
    """
    began = time.monotonic()
    while not (answer := what()):
        waited_s = time.monotonic() - began
        assert waited_s < wait_s, f"nothing within {wait_s} s"
        time.sleep(min(0.02 + waited_s / 20, PAUSE_S_MAX))
    return answer
