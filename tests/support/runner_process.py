"""The whole runner as a child process."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.fake_control import SIGNATURE, TOKEN, FakeControl


@contextmanager
def running(
    control: FakeControl, tmp_path: Path, *before: str, **env: str | None
) -> Iterator[subprocess.Popen[str]]:
    """Yield the runner's process, with nothing in its environment but what a machine has."""
    wanted = {**control.env(), "TMPDIR": str(tmp_path), **env}
    process = subprocess.Popen(
        [*before, sys.executable, "-m", "runner"],
        env={name: value for name, value in wanted.items() if value is not None},
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str], tmp_path: Path) -> tuple[int, str]:
    """Return exit code and log of a runner that ended by itself and left nothing behind."""
    _, log = process.communicate(timeout=60)
    assert list(tmp_path.iterdir()) == []
    assert TOKEN not in log
    assert SIGNATURE not in log
    for line in log.splitlines():
        json.loads(line)
    return process.returncode, log


def run(control: FakeControl, tmp_path: Path, *before: str, **env: str | None) -> tuple[int, str]:
    with running(control, tmp_path, *before, **env) as process:
        return ended(process, tmp_path)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def ffmpegs_of(pid: int, pattern: str = "") -> list[int]:
    """Return the FFmpeg processes of a runner whose arguments match, as /proc shows them.

    In a jail they are deep below it.
    """
    parents, names = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        parents[int(stat.parent.name)], names[int(stat.parent.name)] = int(rest.split()[1]), name
    ours, more = {pid}, {pid}
    while more := {child for child, parent in parents.items() if parent in more} - ours:
        ours |= more
    ffmpegs = [child for child in ours if names.get(child, "").startswith("ffmpeg")]
    return [child for child in ffmpegs if re.search(pattern, _arguments(child))]


def _arguments(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:  # it has ended meanwhile
        return ""
