"""The host of the local Fly: the model of Fly with a real clock, where a machine is a child process.

Must never pass anything of its own environment to a machine. No machine outlives it: if it is killed, its
next start on the same folder kills the processes that remained. Differences from Fly: images are not read (a
machine runs `config.init.exec`, else the runner); a machine's TMPDIR is its private folder, which is removed
with it; memory is not limited, so only a fault gives `oom_killed`; a machine whose host is cut off keeps
running and reaches everything but Fly.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from infra.flysim.events import RemoveMachine, SendSignal, StartProcess
from infra.flysim.faults import Faults
from infra.flysim.validation import FlyError
from infra.flysim.world import World
from infra.local import orphan_processes

T = TypeVar("T")
TRIES_MAX, TRY_AGAIN_S = 50, 0.02  # for processes that are ending
PYTHON_OF_IMAGE = "python3"  # as the runner's image names it: here that is our own
EXIT_NOT_STARTED = 127  # a shell's exit code for a command that it cannot start


def utc_now() -> datetime:
    return datetime.now(UTC)


class LocalFly:
    """The model with a real clock and real processes. `close` it: it kills and removes every machine.

    In `data_dir`, which is this object's own, each machine has a folder while it exists and a log that stays.
    Machines of an earlier run that was killed by SIGKILL are dead when this returns.
    """

    def __init__(self, data_dir: Path, *, app: str, faults: Faults | None = None) -> None:
        self._world = World([app], seed=secrets.token_hex(8), now=utc_now(), faults=faults)
        self._machines_dir = (data_dir / "machines").resolve()
        self._logs_dir = data_dir / "logs"
        self._notes_dir = data_dir / "processes"
        orphan_processes.kill_noted(self._notes_dir)
        _kill_strays(self._machines_dir)
        _remove(self._machines_dir)
        self._machines_dir.mkdir(parents=True)
        self._logs_dir.mkdir(exist_ok=True)
        self._changed = threading.Condition()  # guards all below and the world
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._watchers: set[threading.Thread] = set()
        self._closing = False
        self._timer = threading.Thread(target=self._do_what_is_due, name="fly-timer")
        self._timer.start()

    def ask(self, request: Callable[[World], T]) -> T:
        """Return the result of `request` on the world, after performing its effects.

        Raises FlyError or Cut.
        """
        with self._changed:
            if self._closing:
                raise FlyError(503, "the local Fly is closing")
            self._perform_effects()  # the effects of events that became due before
            try:
                return request(self._world)
            finally:
                self._perform_effects()

    def wait(self, app: str, machine_id: str, states: list[str], *, version: str, timeout_s: float) -> Any:
        """Return the answer of a wait once the machine is in one of `states`; 408 after the time-out."""
        deadline = time.monotonic() + timeout_s
        self.ask(lambda world: world.begin_wait(app, machine_id))
        with self._changed:
            while (answer := self._world.reached(app, machine_id, states, version=version)) is None:
                left_s = deadline - time.monotonic()
                if left_s <= 0 or self._closing:
                    raise self._world.timed_out(app, machine_id, states)
                self._changed.wait(left_s)
            return answer

    def close(self) -> None:
        """Kill every machine and remove its folder; return when that is done. Only their logs stay."""
        with self._changed:
            self._closing = True  # from here on nothing is started
            for process in self._processes.values():
                _kill_group(process)
            watchers = list(self._watchers)
            self._changed.notify_all()
        for thread in (self._timer, *watchers):
            thread.join()
        _remove(self._machines_dir)
        _remove(self._notes_dir)

    # --- effects; the lock is held ----------------------------------------------------------------

    def _perform_effects(self) -> None:
        while effects := self._world.advance(utc_now()):
            for effect in effects:
                match effect:
                    case StartProcess():
                        self._start(effect)
                    case SendSignal():
                        self._deliver(effect)
                    case RemoveMachine():
                        _remove(self._machines_dir / effect.machine_id)
        self._changed.notify_all()

    def _start(self, effect: StartProcess) -> None:
        if self._closing:
            return
        try:
            process = self._popen(effect)
        except OSError as error:
            self._log(effect.machine_id).write_text(f"cannot start: {error}\n")
            self._tell_exit(effect.machine_id, EXIT_NOT_STARTED)
            return
        orphan_processes.note(self._notes_dir, effect.machine_id, process.pid)
        self._processes[effect.machine_id] = process
        self._world.started(effect.machine_id)
        watcher = threading.Thread(target=self._watch, args=(effect.machine_id, process), name="machine")
        self._watchers.add(watcher)
        watcher.start()

    def _popen(self, effect: StartProcess) -> subprocess.Popen[bytes]:
        folder = self._machines_dir / effect.machine_id
        temp = folder / "tmp"
        temp.mkdir(parents=True, exist_ok=True)
        with self._log(effect.machine_id).open("ab") as log:
            argv = effect.argv or (PYTHON_OF_IMAGE, "-m", "runner")
            return subprocess.Popen(
                (sys.executable, *argv[1:]) if argv[0] == PYTHON_OF_IMAGE else argv,
                cwd=folder,
                env={"TMPDIR": str(temp), **effect.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _log(self, machine_id: str) -> Path:
        return self._logs_dir / f"{machine_id}.log"

    def _deliver(self, effect: SendSignal) -> None:
        process = self._processes.get(effect.machine_id)
        if process is None:
            return
        if effect.signum == signal.SIGKILL:
            _kill_group(process)
        else:
            process.send_signal(effect.signum)

    # --- one thread for what is due later ---------------------------------------------------------

    def _do_what_is_due(self) -> None:
        with self._changed:
            while not self._closing:
                self._perform_effects()
                due = self._world.next_due()
                self._changed.wait(None if due is None else max(0.0, (due - utc_now()).total_seconds()))

    # --- one thread per process -------------------------------------------------------------------

    def _watch(self, machine_id: str, process: subprocess.Popen[bytes]) -> None:
        status = process.wait()
        _kill_group(process)  # a machine ends with its main process
        _kill_strays(self._machines_dir / machine_id)
        orphan_processes.forget(self._notes_dir, machine_id)
        with self._changed:
            del self._processes[machine_id]
            self._watchers.discard(threading.current_thread())
            self._perform_effects()  # brings the world's clock to the moment of the exit
            self._tell_exit(machine_id, status)
            self._perform_effects()

    def _tell_exit(self, machine_id: str, status: int) -> None:
        """Report an exit to the world; `status` is below zero after a signal."""
        killed_by = max(0, -status)
        code = 128 + killed_by if killed_by else status
        self._world.exited(machine_id, exit_code=code, signal=killed_by)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS: not permitted once all are zombies
        os.killpg(process.pid, signal.SIGKILL)


def _kill_strays(folder: Path) -> None:
    """Kill what a machine started outside its process group, as the runner does with FFmpeg.

    It is recognised by a working folder inside the machine's. A person's shell in that folder has a terminal
    and is not killed. Without /proc (macOS) nothing is found.
    """
    for _ in range(TRIES_MAX):
        strays = [pid for pid in _processes_without_terminal() if _works_in(pid, folder)]
        if not strays:
            return
        for pid in strays:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(TRY_AGAIN_S)


def _processes_without_terminal() -> Iterator[int]:
    """Yield process ids whose `tty_nr` (man 5 proc, the fifth field after the name) is 0."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if stat.read_text().rpartition(")")[2].split()[4] == "0":
                yield int(stat.parent.name)


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink().is_relative_to(folder)
    except OSError:  # it ended, or is another user's
        return False


def _remove(folder: Path) -> None:
    """Remove a folder into which a dying process may still write for a moment."""
    for _ in range(TRIES_MAX):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(TRY_AGAIN_S)
