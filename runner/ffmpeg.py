"""Run FFmpeg: one process at a time per call, in a jail and a process group of its own.

Must never hand it our environment or stdin, let it block on a full pipe, or let it outlive its deadline.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from runner import jail
from runner.stop import Stopped

VERSION_MIN = (8, 1, 2)  # CVE-2026-8461: before it a file of 50 KB runs code

STDERR_BYTES_MAX = 8192
SAID_CHARS_MAX = 300
POLL_S = 0.1

_groups: set[int] = set()


class FfmpegFailed(Exception):
    """FFmpeg ended with an error or was killed. The message says what it said, without private paths.

    `tail` is all that was kept of its words, for a look at them: it may hold paths.
    """

    def __init__(self, message: str, tail: str = "") -> None:
        super().__init__(message)
        self.tail = tail


class OutOfMemory(FfmpegFailed):
    """The kernel killed FFmpeg for want of memory (`jail_exec` has it go first)."""


class FfmpegTimedOut(FfmpegFailed):
    """FFmpeg did not end in time and was killed."""


def find_ffmpeg() -> str:
    """Return the path of the pinned FFmpeg. Raises RuntimeError when there is none, or an unsafe one.

    Finds the file without importing the package: its import costs more than that of this whole program.
    """
    spec = find_spec("imageio_ffmpeg")
    folders = (spec and spec.submodule_search_locations) or []
    for folder in folders:
        for program in sorted(Path(folder, "binaries").glob("ffmpeg-*")):
            if _version(program.name) < VERSION_MIN:
                raise RuntimeError(f"{program.name} is too old to be fed with strangers' files")
            return str(program)
    raise RuntimeError("the imageio-ffmpeg package holds no FFmpeg for this platform")


def _version(name: str) -> tuple[int, ...]:
    """Return the version in the name of the package's binary: `ffmpeg-linux-x86_64-v9.0.2`."""
    return tuple(int(number) for number in re.findall(r"\d+", name.rpartition("-v")[2]))


def run(
    command: Sequence[str],
    *,
    reads: Sequence[Path],
    writes: Sequence[Path],
    timeout_s: float,
    stop: threading.Event,
    on_progress: Callable[[float], None],
    on_frames: Callable[[int], None] = lambda _: None,
) -> str:
    """Run FFmpeg in its jail to its end and return the tail of what it wrote to stderr.

    It sees the files or folders in `reads`, may write into the folders in `writes`; nothing else is there.
    `on_progress` gets the output's time so far in seconds, and `on_frames` the count of frames of its first
    video stream, from a thread of its own, whenever FFmpeg tells (`-progress pipe:1`). Raises FfmpegFailed
    (OutOfMemory, FfmpegTimedOut), Stopped when `stop` was set, or JailUnavailable; the whole process group
    is dead by then.
    """
    if stop.is_set():
        raise Stopped
    limits = jail.Limits.of_this_machine(wall_s=timeout_s)
    process = subprocess.Popen(  # by the thread that waits for it: with that thread the kernel kills FFmpeg
        jail.confined(command, reads=reads, writes=writes, limits=limits),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={},
        start_new_session=True,
    )
    _groups.add(process.pid)
    try:
        readers = {b"out_time_us": lambda us: on_progress(us / 1_000_000), b"frame": on_frames}
        return _attend(process, timeout_s=timeout_s, stop=stop, readers=readers)
    finally:
        process.wait()
        _groups.discard(process.pid)


def kill_all() -> None:
    """Kill every group that still runs. For the moment before this process ends without cleaning up."""
    for group in list(_groups):
        _kill_group(group)


def _attend(
    process: subprocess.Popen[bytes],
    *,
    timeout_s: float,
    stop: threading.Event,
    readers: Mapping[bytes, Callable[[int], object]],
) -> str:
    assert process.stdout
    assert process.stderr
    tail = _Tail(process.stderr)
    kills = _kills_for_memory()
    threads = [
        threading.Thread(target=_read_progress, args=(process.stdout, readers), daemon=True),
        threading.Thread(target=tail.read, daemon=True),
    ]
    for thread in threads:
        thread.start()
    try:
        code = _wait(process, threads[0], timeout_s=timeout_s, stop=stop)
    finally:
        _kill_group(process.pid)  # also what it left behind, or the pipes would stay open
        for thread in threads:
            thread.join()
        process.stdout.close()
        process.stderr.close()
    if code == jail.FAILED and not jail.is_off():
        raise jail.JailUnavailable(tail.said())
    if code != 0:
        message = f"{_ending(code)}: {tail.said()}" if tail.said() else _ending(code)
        is_short = code == -signal.SIGKILL and _kills_for_memory() > kills
        raise (OutOfMemory if is_short else FfmpegFailed)(message, tail.text())
    return tail.text()


def _wait(
    process: subprocess.Popen[bytes], progress: threading.Thread, *, timeout_s: float, stop: threading.Event
) -> int:
    """Return the exit code. Waits on the progress pipe first: it closes at the very moment of the end."""
    ends_at = time.monotonic() + timeout_s
    while True:
        if stop.is_set():
            raise Stopped
        if time.monotonic() > ends_at:
            raise FfmpegTimedOut(f"FFmpeg did not end within {timeout_s:.0f} s")
        if progress.is_alive():
            progress.join(POLL_S)
            code = process.poll()
        else:
            code = _wait_a_moment(process)
        if code is not None:
            return code


def _wait_a_moment(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(POLL_S)
    except subprocess.TimeoutExpired:
        return None


def _read_progress(pipe: IO[bytes], readers: Mapping[bytes, Callable[[int], object]]) -> None:
    for line in pipe:
        key, _, value = line.strip().partition(b"=")
        if key in readers and value.isdigit():
            readers[key](int(value))


class _Tail:
    """Reads a pipe to its end and keeps only the last bytes, however much comes."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe, self._kept = pipe, b""

    def read(self) -> None:
        while chunk := os.read(self._pipe.fileno(), 65536):
            self._kept = (self._kept + chunk)[-STDERR_BYTES_MAX:]

    def text(self) -> str:
        return self._kept.decode(errors="replace")

    def said(self) -> str:
        """Return the last lines for people: no folders, no memory addresses."""
        text = re.sub(r"(file:)?/[^\s'\"]*/", "", self.text())
        lines = [line.strip() for line in re.sub(r" @ 0x[0-9a-f]+", "", text).splitlines()]
        return " | ".join(line for line in lines[-3:] if line)[-SAID_CHARS_MAX:]


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
