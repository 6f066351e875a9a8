"""Run FFmpeg: one process at a time per call, in a process group of its own, with nothing of ours in reach.

Must never hand it our environment or stdin, let it block on a full pipe, or let it outlive its deadline.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from runner.stop import Stopped

STDERR_BYTES_MAX = 8192
SAID_CHARS_MAX = 300
POLL_S = 0.1

_groups: set[int] = set()


class FfmpegFailed(Exception):
    """FFmpeg ended with an error or was killed. The message says what it said, without private paths."""


class FfmpegTimedOut(FfmpegFailed):
    """FFmpeg did not end in time and was killed."""


def find_ffmpeg() -> str:
    """Return the path of the pinned static FFmpeg. Raises RuntimeError when the package holds none.

    Finds the file without importing the package: its import costs more than that of this whole program.
    """
    spec = find_spec("imageio_ffmpeg")
    folders = (spec and spec.submodule_search_locations) or []
    for folder in folders:
        for program in sorted(Path(folder, "binaries").glob("ffmpeg-*")):
            return str(program)
    raise RuntimeError("the imageio-ffmpeg package holds no FFmpeg for this platform")


def run(
    command: Sequence[str], *, timeout_s: float, stop: threading.Event, on_progress: Callable[[float], None]
) -> str:
    """Run FFmpeg to its end and return the tail of what it wrote to stderr.

    `on_progress` gets the output's time so far in seconds, from a thread of its own, whenever FFmpeg tells
    (`-progress pipe:1`). Raises FfmpegFailed, FfmpegTimedOut, or Stopped when `stop` was set; the whole
    process group is dead by then.
    """
    if stop.is_set():
        raise Stopped
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={},
        start_new_session=True,
    )
    _groups.add(process.pid)
    try:
        return _attend(process, timeout_s=timeout_s, stop=stop, on_progress=on_progress)
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
    on_progress: Callable[[float], None],
) -> str:
    assert process.stdout
    assert process.stderr
    tail = _Tail(process.stderr)
    readers = [
        threading.Thread(target=_read_progress, args=(process.stdout, on_progress), daemon=True),
        threading.Thread(target=tail.read, daemon=True),
    ]
    for reader in readers:
        reader.start()
    try:
        _limit_cpu(process.pid, timeout_s)
        code = _wait(process, readers[0], timeout_s=timeout_s, stop=stop)
    finally:
        _kill_group(process.pid)  # also what it left behind, or the pipes would stay open
        for reader in readers:
            reader.join()
        process.stdout.close()
        process.stderr.close()
    if code != 0:
        raise FfmpegFailed(f"{_ending(code)}: {tail.said()}" if tail.said() else _ending(code))
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


def _read_progress(pipe: IO[bytes], on_progress: Callable[[float], None]) -> None:
    for line in pipe:
        key, _, value = line.strip().partition(b"=")
        if key == b"out_time_us" and value.isdigit():
            on_progress(int(value) / 1_000_000)


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


def _ending(code: int) -> str:
    if code < 0:
        return f"FFmpeg was killed by {signal.Signals(-code).name}"
    return f"FFmpeg ended with code {code}"


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        return


def _limit_cpu(pid: int, timeout_s: float) -> None:
    """Let the kernel end the process should this one die without a word."""
    if sys.platform == "linux":
        seconds = int(timeout_s * (os.cpu_count() or 1)) + 10
        try:
            resource.prlimit(pid, resource.RLIMIT_CPU, (seconds, seconds))
        except ProcessLookupError:
            return
