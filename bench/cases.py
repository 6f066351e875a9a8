"""Shapes, rates, noise and numbers of outputs: the kernel against FFmpeg's filters, both in the whole runner.

`python -m bench.cases [CASE]...`; without a name all cases, one line each. Long, so no part of `make bench`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.render import CLIPS, SEED, timed_runner
from control.domain.effects import effects
from runner.ffmpeg_program import find_ffmpeg

# The runner, as if the kernel had not been built.
WITHOUT_KERNEL = (
    "import pathlib, runpy, runner.kernel; runner.kernel._PROGRAM = pathlib.Path('/none');"
    "runpy.run_module('runner', run_name='__main__')"
)


@dataclass(frozen=True)
class Case:
    """A source, made of a real clip by filters, and what is asked of it."""

    filters: str = "null"
    clip: str = "landscape-1080p"
    seconds: float = 3
    variations: int = 4
    noise: int | None = None  # None: as drawn


CASES = {
    "1080p, 1 variation": Case(variations=1),
    "1080p, 4 variations": Case(),
    "1080p, 10 variations": Case(variations=10),
    "1080p, 40 variations": Case(variations=40, seconds=1),
    "1080p, noise 0": Case(noise=0),
    "1080p, noise 8": Case(noise=8),
    "2160p": Case("scale=3840:2160", seconds=1),
    "480p": Case("scale=854:480"),
    "60 frames a second": Case("fps=60"),
    "25 frames a second": Case("fps=25"),
    "vertical": Case(clip="vertical-1080x1920"),
}


def run(names: list[str]) -> None:
    """Print the ratios of each case."""
    for name in names or CASES:
        print(compare(name, CASES[name]), flush=True)


def compare(name: str, case: Case) -> str:
    """Return the line of one case."""
    wanted = [effects(seed=SEED, fingerprint=name, variation=n + 1) for n in range(case.variations)]
    if case.noise is not None:
        wanted = [recipe.model_copy(update={"noise": case.noise}) for recipe in wanted]
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as plain_folder,
        tempfile.TemporaryDirectory() as folder,
    ):
        source = _made(case, Path(folder, "source.mp4"))
        plain = timed_runner(source, wanted, Path(plain_folder), program=("-c", WITHOUT_KERNEL))
        ours = timed_runner(source, wanted, Path(folder))
        return (
            f"{name}: CPU {ours.cpu_s:.1f} s ({ours.cpu_s / plain.cpu_s:.2f}x), wall {ours.wall_s:.1f} s"
            f" ({ours.wall_s / plain.wall_s:.2f}x), size {ours.size_bytes / plain.size_bytes:.2f}x"
            f" (against: the filters, {plain.cpu_s:.1f} s CPU, {plain.wall_s:.1f} s)"
        )


def _made(case: Case, path: Path) -> Path:
    command = [find_ffmpeg(), "-nostdin", "-v", "error", "-i", str(CLIPS / f"{case.clip}.mp4")]
    command += ["-t", str(case.seconds), "-vf", case.filters, "-c:v", "libx264", "-crf", "16"]
    subprocess.run([*command, "-preset", "veryfast", "-c:a", "copy", str(path)], check=True)
    return path


if __name__ == "__main__":
    run(sys.argv[1:])
