"""How far variations lie from their source and from each other: `python -m bench.variety [OUTPUTS]`.

For each clip the kernel draws OUTPUTS variations of INSTANTS frames: with every effect, without the mirror,
and with the mirror alone. A distance is the mean absolute difference of small grey pictures: 0 is equal, 1 is
black against white. It says nothing about how any platform compares videos. Speed does not count: frames are
compared at the same parts of both videos.
"""

from __future__ import annotations

import fcntl
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.render import CLIPS, SEED
from control.domain.effect_names import EFFECT_NAMES
from control.domain.effects import EffectChoice, effects
from runner.commands import drawing_args
from runner.contract import Effects
from runner.ffmpeg_program import find_ffmpeg
from runner.graph import even_size, standard
from runner.kernel import find_kernel
from runner.probe import Probe, probe
from runner.stop import Stop

INSTANTS = 8
LONG_SIDE, SHORT_SIDE = 32, 18  # of a small picture
CHOICES = {
    "all effects": EffectChoice(),
    "without mirror": EffectChoice(("mirror",)),
    "mirror alone": EffectChoice(tuple(name for name in EFFECT_NAMES if name != "mirror")),
}


def run(count: int = 10) -> Iterator[str]:
    """Yield a line for each clip and choice of effects."""
    for clip in sorted(CLIPS.glob("*.mp4")):
        for words, choice in CHOICES.items():
            several = int(min(choice.distinct_max, count))
            wanted = [
                effects(seed=SEED, fingerprint=clip.stem, variation=n + 1, choice=choice)
                for n in range(several)
            ]
            yield f"{clip.stem}, {several} variations, {words}: {_spread(clip, wanted)}"


def _spread(clip: Path, wanted: Sequence[Effects]) -> str:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        source, *made = _small(clip, wanted, Path(folder))
    to_source = [_distance(source, one) for one in made]
    nearest = [
        min(_distance(one, other) for m, other in enumerate(made) if m != n) for n, one in enumerate(made)
    ]
    return f"to the source {_range(to_source)}, to the nearest sibling {_range(nearest)}"


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.4f} to {max(values):.4f}, median {statistics.median(values):.4f}"


def _distance(one: bytes, other: bytes) -> float:
    return statistics.fmean(abs(a - b) for a, b in zip(one, other, strict=True)) / 255


def _small(clip: Path, wanted: Sequence[Effects], folder: Path) -> list[bytes]:
    """Return the small pictures of the source, and of each variation as the kernel draws it."""
    found, kernel = probe(find_ffmpeg(), clip, stop=Stop()), find_kernel()
    assert kernel, "make setup builds the kernel"
    frames = folder / "source"
    chosen = [f"fps={INSTANTS}/{found.duration_s}", *standard(found)]
    _ffmpeg("-i", clip, "-vf", ",".join(chosen), "-frames:v", INSTANTS, "-f", "rawvideo", frames)
    drawn = [folder / f"drawn{n}" for n in range(len(wanted))]
    with ExitStack() as stack:
        read = stack.enter_context(frames.open("rb"))
        written = [stack.enter_context(path.open("wb")) for path in drawn]
        held = [file.fileno() for file in (read, *written)]
        moves = "".join(f" {3 + n}{'<' if n == 0 else '>'}&{fd}" for n, fd in enumerate(_above(held, stack)))
        script = f'exec "$0" "$@"{moves}'
        command = ["bash", "-c", script, str(kernel.path), *drawing_args(wanted, found)]
        subprocess.run(command, check=True, close_fds=False)
    return [_grey(path, found) for path in (frames, *drawn)]


def _above(descriptors: Sequence[int], stack: ExitStack) -> list[int]:
    """Return inheritable copies of descriptors, above those that the kernel uses."""
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD, 3 + len(descriptors) + 100) for fd in descriptors]
    for copy in copies:
        stack.callback(os.close, copy)
    return copies


def _grey(path: Path, found: Probe) -> bytes:
    width, height = even_size(found)
    size = (LONG_SIDE, SHORT_SIDE) if width >= height else (SHORT_SIDE, LONG_SIDE)
    raw = ("-f", "rawvideo", "-pix_fmt", "yuv420p", "-video_size", f"{width}x{height}", "-i", path)
    small = f"scale={size[0]}:{size[1]}:flags=area,format=gray"
    return _ffmpeg(*raw, "-vf", small, "-f", "rawvideo", "-")


def _ffmpeg(*arguments: object) -> bytes:
    command = [find_ffmpeg(), "-v", "error", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


if __name__ == "__main__":
    for line in run(*map(int, sys.argv[1:])):
        print(line, flush=True)
