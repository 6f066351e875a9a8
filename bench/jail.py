"""The cost of the jail for each FFmpeg: the same start with and without it, alternating."""

from __future__ import annotations

import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.line import line
from runner import jail
from runner.ffmpeg_program import find_ffmpeg

RUNS = 25


def run() -> Iterator[str]:
    """Time `ffmpeg -version` open and confined, and print the medians of the difference."""
    plain = [find_ffmpeg(), "-version"]
    limits = jail.Limits.of_this_machine(wall_s=60)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        confined = jail.confined(plain, reads=[], writes=[Path(folder)], limits=limits)
        pairs = [(_once_ms(plain), _once_ms(confined)) for _ in range(RUNS)]
    for column, what in enumerate(("wall", "CPU")):
        alone = statistics.median(open_ms[column] for open_ms, _ in pairs)
        more = statistics.median(jail_ms[column] - open_ms[column] for open_ms, jail_ms in pairs)
        yield line(f"jail, per FFmpeg, {what}", more, "ms", against=f"its start alone {alone:.1f} ms")


def _once_ms(command: Sequence[str]) -> tuple[float, float]:
    before_s, start = _cpu_s(), time.perf_counter()
    subprocess.run(command, env={}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - start) * 1000, (_cpu_s() - before_s) * 1000


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
