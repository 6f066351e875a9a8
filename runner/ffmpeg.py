"""Run FFmpeg: one process at a time per call, in a jail and a process group of its own.

Must never hand it our environment or stdin, let it block on a full pipe, or let it outlive its deadline.

One file, since one loop reads the pipes, keeps the deadline and explains the end of the process.
"""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from runner import jail, plain_files
from runner.pulse import HANG_S, Pulse
from runner.stop import Stopped

STDERR_BYTES_MAX = 8192  # kept of its start, and of its end
CUT = b"\n... "  # so that the rest of a cut line does not look like a whole one
SAID_CHARS_MAX = 300
POLL_S = 0.1
CHUNK_BYTES = 1 << 16
PIPE_BYTES_MAX = 2 << 20  # what two pipes can hold at most (pipe-max-size)
LINE_BYTES_MAX = 1024
DIGITS_MAX = 18  # of a number: what a 64 bit number holds

_groups: set[int] = set()


class FfmpegFailed(Exception):
    """FFmpeg ended with an error or was killed. The message says what it said, without private paths.

    `tail` has more of its words, for a look at them: it may hold paths.
    """

    def __init__(self, message: str, tail: str = "") -> None:
        super().__init__(message)
        self.tail = tail


class OutOfMemory(FfmpegFailed):
    """The kernel killed FFmpeg for want of memory (`jail_exec` has it go first), or its folder is full.

    The folder lies in memory where it can (`workspace`), so either way a larger machine is needed.
    """


class FfmpegTimedOut(FfmpegFailed):
    """FFmpeg did not end in time and was killed."""


class FfmpegHung(FfmpegTimedOut):
    """FFmpeg neither reported progress nor worked for HANG_S, and was killed. Another try may do better."""


def run(
    command: Sequence[str] | jail.Line,
    *,
    reads: Sequence[Path],
    makes: Sequence[Path],
    timeout_s: float,
    stop: threading.Event,
    on_progress: Callable[[float], None],
    on_frames: Callable[[int], None] = lambda _: None,
    on_numbers: Mapping[str, Callable[[int], object]] = MappingProxyType({}),
) -> str:
    """Run FFmpeg, or a line with it, in its jail to its end; return what it wrote to stderr.

    Of much that it wrote only the first and the last is kept. It sees the files or folders in `reads` and may
    write into the folders of the files in `makes`, each of them a folder of its own; nothing else is there.
    When this returns, `makes` are regular files that are ours alone. `on_progress` gets the output's time so
    far in seconds, and `on_frames` the count of frames of its first video stream, whenever FFmpeg tells
    (`-progress pipe:1`). `on_numbers` gets other numbers by their names, which any program of a line may tell
    in the same way. Raises FfmpegFailed (OutOfMemory, FfmpegTimedOut, FfmpegHung), Stopped when `stop` was
    set, or JailUnavailable; the whole process group is dead by then.
    """
    if stop.is_set():
        raise Stopped
    limits = jail.Limits.of_this_machine(wall_s=timeout_s)
    folders = list(dict.fromkeys(path.parent for path in makes))
    process = subprocess.Popen(  # by the thread that waits for it: with that thread the kernel kills FFmpeg
        jail.confined(command, reads=reads, writes=folders, limits=limits),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={},
        start_new_session=True,
    )
    _groups.add(process.pid)
    kills = _kills_for_memory()
    further = {name.encode(): reader for name, reader in on_numbers.items()}
    reports = _Reports(
        {b"out_time_us": lambda us: on_progress(us / 1_000_000), b"frame": on_frames, **further}
    )
    words = _Words()
    try:
        code = _attend(process, reports, words, timeout_s=timeout_s, stop=stop)
    finally:
        process.wait()
        _groups.discard(process.pid)
    is_short = code == -signal.SIGKILL and _kills_for_memory() > kills
    _judge(code, words, is_short=is_short or (code != 0 and any(map(plain_files.is_full, folders))))
    try:
        plain_files.take(makes)
    except plain_files.NotPlain as trouble:
        raise FfmpegFailed(str(trouble)) from None
    return words.text()


def kill_all() -> None:
    """Kill every group that still runs. For the moment before this process ends without cleaning up."""
    for group in list(_groups):
        _kill_group(group)


def _attend(
    process: subprocess.Popen[bytes],
    reports: _Reports,
    words: _Words,
    *,
    timeout_s: float,
    stop: threading.Event,
) -> int:
    """Listen until the process ends, and return its exit code. Nothing of its group lives afterwards."""
    assert process.stdout
    assert process.stderr
    with selectors.DefaultSelector() as pipes, process.stdout, process.stderr:
        pipes.register(process.stdout, selectors.EVENT_READ, reports.take)
        pipes.register(process.stderr, selectors.EVENT_READ, words.take)
        try:
            code = _listen(process, pipes, reports, timeout_s=timeout_s, stop=stop)
        finally:
            _kill_group(process.pid)  # also what it left behind
        _drain(pipes)
    return code


def _listen(
    process: subprocess.Popen[bytes],
    pipes: selectors.BaseSelector,
    reports: _Reports,
    *,
    timeout_s: float,
    stop: threading.Event,
) -> int:
    """Return the exit code. Raises Stopped, FfmpegTimedOut or FfmpegHung when there will be none."""
    pulse, figures = Pulse(process.pid), dict(reports.figures)
    ends_at = time.monotonic() + timeout_s
    while True:
        if stop.is_set():
            raise Stopped
        if time.monotonic() > ends_at:
            raise FfmpegTimedOut(f"FFmpeg did not end within {timeout_s:.0f} s")
        if pulse.is_gone():
            raise FfmpegHung(f"FFmpeg made no progress for {HANG_S:.0f} s")
        _read_pipes(pipes, POLL_S)
        if figures != reports.figures:
            figures = dict(reports.figures)
            pulse.moved()
        code = process.poll() if pipes.get_map() else _wait_a_moment(process)
        if code is not None:
            return code


def _read_pipes(pipes: selectors.BaseSelector, wait_s: float) -> int:
    """Hand on what the pipes hold by now and return how many bytes; a pipe that is at its end is let go."""
    size = 0
    for key, _ in pipes.select(wait_s) if pipes.get_map() else []:
        chunk = os.read(key.fd, CHUNK_BYTES)
        size += len(chunk)
        if chunk:
            key.data(chunk)
        else:
            pipes.unregister(key.fileobj)
    return size


def _drain(pipes: selectors.BaseSelector) -> None:
    """Hear what is left in the pipes. They may be held open and fed by who got out of the group."""
    left = PIPE_BYTES_MAX
    while left > 0 and (size := _read_pipes(pipes, 0)):
        left -= size


def _wait_a_moment(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(POLL_S)
    except subprocess.TimeoutExpired:
        return None


def _judge(code: int, words: _Words, *, is_short: bool) -> None:
    """Raise what an exit code stands for; nothing if it is 0."""
    if code == jail.FAILED and not jail.is_off():
        raise jail.JailUnavailable(words.said())
    if code != 0:
        message = f"{_ending(code)}: {words.said()}" if words.said() else _ending(code)
        raise (OutOfMemory if is_short else FfmpegFailed)(message, words.text())


class _Reports:
    """FFmpeg's reports of its progress: lines of `name=number`. Passes on the numbers that a caller wants.

    `figures` are the last of each of FIGURES. Anything may come: only numbers of a sane length count.
    """

    FIGURES = (b"out_time_us", b"frame", b"total_size")

    def __init__(self, readers: Mapping[bytes, Callable[[int], object]]) -> None:
        self.figures: dict[bytes, int] = {}
        self._readers, self._begun = readers, b""

    def take(self, chunk: bytes) -> None:
        *whole, begun = (self._begun + chunk).split(b"\n")
        self._begun = begun[-LINE_BYTES_MAX:]
        for line in whole:
            name, _, value = line.strip().partition(b"=")
            if value.isdigit() and len(value) <= DIGITS_MAX:
                if name in self.FIGURES:
                    self.figures[name] = int(value)
                if name in self._readers:
                    self._readers[name](int(value))


class _Words:
    """Keeps the first and the last bytes of what FFmpeg says, however much comes."""

    def __init__(self) -> None:
        self._first = self._last = b""

    def take(self, chunk: bytes) -> None:
        room = STDERR_BYTES_MAX - len(self._first)
        self._first += chunk[:room]
        self._last = (self._last + chunk[room:])[-STDERR_BYTES_MAX:]

    def text(self) -> str:
        is_cut = len(self._last) == STDERR_BYTES_MAX
        return (self._first + (CUT if is_cut else b"") + self._last).decode(errors="replace")

    def said(self) -> str:
        """Return the last lines for people: no folders, no memory addresses, nothing that steers a screen."""
        text = re.sub(r"(file:)?/[^\s'\"]*/", "", self.text())
        lines = [_printable(line).strip() for line in re.sub(r" @ 0x[0-9a-f]+", "", text).splitlines()]
        return " | ".join(line for line in lines[-3:] if line)[-SAID_CHARS_MAX:]


def _printable(line: str) -> str:
    """Return the line without control characters: those of a terminal, and those that turn its direction."""
    return "".join(character if character.isprintable() else " " for character in line)


def _kills_for_memory() -> int:
    """Return how many processes of this machine the kernel has killed for want of memory (0 if not Linux)."""
    try:
        counts = Path("/proc/vmstat").read_text()
    except OSError:
        return 0
    return int(dict(line.split() for line in counts.splitlines()).get("oom_kill", 0))


def _ending(code: int) -> str:
    if code < 0:
        return f"FFmpeg was killed by {signal.Signals(-code).name}"
    return f"FFmpeg ended with code {code}"


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        return
