"""The cost of a start: the runner's is billed on every machine, control's delays a deploy."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from bench.line import line
from control.cli.demo import make_clip
from runner.contract import Preset
from tests.support.fake_control import fake_control

RUNS = 9
AS_IN_THE_IMAGE = {"PYDANTIC_DISABLE_PLUGINS": "__all__"}  # Dockerfile.runner


def run() -> Iterator[str]:
    """Measure the CPU of a bare interpreter and of each program's imports, and the first probe."""
    bare, runner, control = (
        statistics.median(_cpu_ms(code) for _ in range(RUNS))
        for code in ("pass", "import runner.__main__", "import control.app")
    )
    against = f"bare Python {bare:.0f} ms"
    yield line("import runner, CPU", runner, "ms", against=f"{against}, {runner / bare:.1f} times")
    yield line("import control, CPU", control, "ms", against=f"{against}, {control / bare:.1f} times")
    looked = _claim_to_look_ms()
    yield line("from the claim's answer to the source probed", looked, "ms", against="aim 300 ms")


def _cpu_ms(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **AS_IN_THE_IMAGE}, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _claim_to_look_ms() -> float:
    """Return the median time from the claim's answer until the first FFmpeg has read a small source."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        clip = Path(folder, "clip.mp4")
        make_clip(clip)
        return statistics.median(_once_ms(clip.read_bytes()) for _ in range(RUNS))


def _once_ms(clip: bytes) -> float:
    with fake_control() as control:
        control.sources, control.outputs = {"s": clip}, [("o", "s", Preset.COPY)]
        command = [sys.executable, "-m", "runner"]
        env = {**control.env(), **AS_IN_THE_IMAGE}
        root = Path(__file__).parents[1]
        done = subprocess.run(command, env=env, cwd=root, check=True, stderr=subprocess.PIPE, text=True)
    at = {
        one["event"]: datetime.fromisoformat(one["at"]) for one in map(json.loads, done.stderr.splitlines())
    }
    return (at["source_ready"] - at["claimed"]).total_seconds() * 1000


if __name__ == "__main__":
    print(*run(), sep="\n")
