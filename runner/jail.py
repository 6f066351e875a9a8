"""The jail around FFmpeg, which decodes files that unknown people upload.

A confined command runs as the user nobody, without environment, network or capabilities. It can open only the
files that it is given, can start no other process, and ends when the runner ends. `jail_exec` does this, as
one small process for each command; docs/decisions/0009-jail.md explains why. Must never run a command without
a jail unless the environment of the machine says so (`turn_off`).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from runner.seccomp import filter_for

CHECK_TIMEOUT_S = 30.0
FAILED = 125  # as in `jail_exec`, which is not imported: the runner's start is billed

# A bound for faults, not a budget: stacks and heaps of threads are mapped far beyond what they use, and the
# kernel ends FFmpeg before the memory itself is used up.
MEMORY_SLACK_BYTES = 4 << 30
FILE_BYTES_MAX = 8 << 30  # four hours at the highest bit rate that we encode are 5 GB
OPEN_FILES_MAX = 256
THREADS_MAX = 2048  # of all FFmpegs together: the kernel counts them for the user


class JailUnavailable(Exception):
    """This machine cannot confine FFmpeg. The message says which step failed."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of one command, which the kernel enforces."""

    cpu_s: int
    memory_bytes: int
    file_bytes: int = FILE_BYTES_MAX
    threads: int = THREADS_MAX

    @classmethod
    def of_this_machine(cls, *, wall_s: float) -> Limits:
        """Return limits that a correct command, which ends within `wall_s`, never reaches."""
        memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        cpu_s = int(wall_s * (os.cpu_count() or 1)) + 10
        return cls(cpu_s=cpu_s, memory_bytes=memory_bytes + MEMORY_SLACK_BYTES)

    def arguments(self) -> list[str]:
        """Return the options of `jail_exec`, by the names of `setrlimit`."""
        limits = {
            "CPU": self.cpu_s,
            "AS": self.memory_bytes,
            "FSIZE": self.file_bytes,
            "NPROC": self.threads,
            "NOFILE": OPEN_FILES_MAX,
            "CORE": 0,
        }
        return [word for name, value in limits.items() for word in ("--limit", f"{name}={value}")]


@dataclass(frozen=True)
class Line:
    """Commands that run at the same time in one jail. Pipes lead from each command to the next.

    Pipes are numbered from descriptor 3 on. The line ends when all have succeeded, or the first has failed.
    """

    commands: Sequence[Sequence[str]]
    pipes: Sequence[int] = ()

    @property
    def words(self) -> list[str]:
        """All commands, one after another."""
        return [word for command in self.commands for word in command]

    def arguments(self) -> list[str]:
        """Return the options of `jail_exec`."""
        lengths = [word for command in self.commands for word in ("--words", str(len(command)))]
        return lengths + [word for count in self.pipes for word in ("--pipes", str(count))]


class _Switch:
    is_off = False


def turn_off() -> None:
    """Run all later commands without a jail: the environment of the machine says so (RUNNER_JAIL)."""
    _Switch.is_off = True


def is_off() -> bool:
    """Return whether commands run unconfined."""
    return _Switch.is_off


def confined(
    command: Sequence[str] | Line, *, reads: Sequence[Path], writes: Sequence[Path], limits: Limits
) -> list[str]:
    """Return the command that runs `command` in a jail, or `command` itself when the jail is off.

    A line of several commands needs a jail: its caller checks `is_off` before.

    Inside, the absolute paths in `reads` (files or folders) and `writes` (folders) have the names they have
    outside. Apart from them there are only the program and its libraries. Folders in `writes` change their
    owner. None of these may be a link: an FFmpeg may have chosen where it leads. The process must be a child
    of this one, with `env={}`. It ends like the command, or with the code FAILED and a line on stderr that
    says why `command` was not run. Raises JailUnavailable if this machine cannot make a jail.
    """
    line = command if isinstance(command, Line) else Line([command])
    if is_off():
        assert len(line.commands) == 1, "pipes between commands need the jail"
        return line.words
    options = ["--parent", str(os.getpid()), "--seccomp", _seccomp(), *limits.arguments(), *line.arguments()]
    for needed in dict.fromkeys(need for words in line.commands for need in _needs(words[0])):
        options += ["--need", needed]
    for path in reads:
        options += ["--read", str(path)]
    for path in writes:
        options += ["--write", str(path)]
    return [*_LAUNCHER, *options, "--", *line.words]


def check(program: str) -> None:
    """Make a jail as a trial. Raises JailUnavailable with a text for the log."""
    limits = Limits.of_this_machine(wall_s=CHECK_TIMEOUT_S)
    if is_off():
        return
    command = confined([program, "-version"], reads=[], writes=[], limits=limits)
    try:
        done = subprocess.run(
            command,
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=CHECK_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise JailUnavailable("the trial of a jail did not end") from None
    if done.returncode != 0:
        raise JailUnavailable(done.stderr.decode(errors="replace").strip()[-300:] or "no jail can be made")


_LAUNCHER = [sys.executable, "-I", "-S", str(Path(__file__).with_name("jail_exec.py"))]


@cache
def _seccomp() -> str:
    if sys.platform != "linux":
        raise JailUnavailable("a jail needs Linux")
    machine = os.uname().machine
    try:
        return filter_for(machine).hex()
    except KeyError:
        raise JailUnavailable(f"the system calls of {machine} are not known") from None


@cache
def _needs(program: str) -> tuple[str, ...]:
    """Return the program and the libraries that it loads, by the paths that its loader uses (man ld.so)."""
    trace = {"LD_TRACE_LOADED_OBJECTS": "1"}
    traced = subprocess.run([program], env=trace, capture_output=True, timeout=CHECK_TIMEOUT_S, check=False)
    libraries = re.findall(rb"(?:=> |^\s)(/\S+) \(0x", traced.stdout, re.MULTILINE)
    return (program, *(os.fsdecode(path) for path in libraries))


def main() -> int:
    """Say whether this machine can confine FFmpeg: exit code 0, or 1 and the reason. Control calls this."""
    from runner.ffmpeg_program import find_ffmpeg

    try:
        check(find_ffmpeg())
    except JailUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
