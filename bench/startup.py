"""What a start costs: the runner's is billed on every machine, control's delays a deploy."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from bench.line import line

RUNS = 9


def run() -> Iterator[str]:
    """Time a bare interpreter and each program's imports in turn, and print the medians."""
    bare, runner, control = (
        _median_ms(code) for code in ("pass", "import runner.__main__", "import control.app")
    )
    against = f"bare Python {bare:.0f} ms"
    yield line("import runner", runner, "ms", against=f"{against}, {runner / bare:.1f} times")
    yield line("import control", control, "ms", against=f"{against}, {control / bare:.1f} times")


def _median_ms(code: str) -> float:
    return statistics.median(_once_ms(code) for _ in range(RUNS))


def _once_ms(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter() - start) * 1000
