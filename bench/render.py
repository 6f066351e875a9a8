"""N variations by the runner and by the obvious way: CPU, wall, picture and size, both sides in one run.

Only excerpts of the clips, since a run must end in a few minutes. The runner is the real one, with claim,
downloads, checks and uploads, over HTTP on this machine at WIRE_BITS_PER_S. The obvious way has its source
already. `python -m bench.render CLIP [OUTPUTS]` compares one clip alone. The money is that of one minute of
one output, by our CPU seconds and the price of a core that no other machine shares.
"""

from __future__ import annotations

import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import obvious
from bench.vmaf import Picture, picture
from bench.wire import Wire
from control.domain.effects import effects
from control.planning.prices import machine_usd
from runner.commands import decoding_args, drawing_args
from runner.contract import STANDARD_RATE, Effects
from runner.ffmpeg_program import find_ffmpeg
from runner.graph import Probe, drawn, even_size, standard, timed
from runner.kernel import find_kernel
from runner.probe import probe
from runner.stop import Stop
from tests.support.fake_control import fake_control

CLIPS = Path(__file__).parents[2] / "shared" / "clips"
EXCERPT_S = 4
SEED = 1
MANY, FEW = 10, 4  # outputs of the clip that is timed, and of the others
TIMED = "landscape-1080p"
WIRE_BITS_PER_S = 200e6
RUNNER = ("-m", "runner")
MACHINE, REGION = "performance-1x", "iad"  # one core


@dataclass(frozen=True)
class Side:
    """The time and the files of one way."""

    cpu_s: float
    wall_s: float
    files: list[Path]
    pictures: list[Picture]
    transfer_s: float = 0.0  # of the wall time, in which nothing could be rendered

    @property
    def size_bytes(self) -> int:
        """All files together."""
        return sum(file.stat().st_size for file in self.files)

    @property
    def vmaf(self) -> float:
        """The mean over all files."""
        return statistics.fmean(one.mean for one in self.pictures)

    @property
    def fifth(self) -> float:
        """The fifth percentile, averaged over all files."""
        return statistics.fmean(one.fifth_percentile for one in self.pictures)


def run() -> Iterator[str]:
    """Compare all clips and print one line for each."""
    for clip in sorted(CLIPS.glob("*.mp4")):
        yield compare(clip, MANY if clip.stem == TIMED else FEW)


def compare(clip: Path, count: int) -> str:
    """Return the line of one clip."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        return _compare(clip, Path(folder), count)


def _compare(clip: Path, folder: Path, count: int) -> str:
    source = excerpt(clip, folder / "source.mp4")
    found = probe(find_ffmpeg(), source, stop=Stop())
    wanted = [effects(seed=SEED, fingerprint=clip.stem, variation=n + 1) for n in range(count)]
    plain = _side(
        lambda: _obvious(source, found, wanted, folder),
        wanted,
        lambda e: (["-i", str(source)], obvious.chain(e, found)),
    )
    ours = _side(
        lambda: _ours(source, wanted, folder), wanted, lambda e: _our_frames(e, found, source, folder)
    )
    lasts_s = sum(found.duration_s / recipe.speed for recipe in wanted)
    usd = machine_usd(size=MACHINE, region=REGION, seconds=60 * ours.cpu_s / lasts_s)
    return (
        f"{clip.stem}, {count} variations of {EXCERPT_S} s:"
        f" CPU {ours.cpu_s:.1f} s ({ours.cpu_s / plain.cpu_s:.2f}x),"
        f" wall {ours.wall_s:.1f} s ({ours.wall_s / plain.wall_s:.2f}x,"
        f" {ours.transfer_s / ours.wall_s:.1%} at most for transfers),"
        f" VMAF {ours.vmaf:.1f} ({ours.vmaf - plain.vmaf:+.2f}),"
        f" 5th percentile {ours.fifth:.1f} ({ours.fifth - plain.fifth:+.2f}),"
        f" size {ours.size_bytes / 1e6:.2f} MB ({ours.size_bytes / plain.size_bytes:.2f}x),"
        f" ${usd:.5f} for a minute of one output on {MACHINE}"
        f" (against: the obvious way, {plain.cpu_s:.1f} s CPU, {plain.wall_s:.1f} s)"
    )


def _side(
    make: Callable[[], tuple[list[Path], float]],
    wanted: list[Effects],
    uncoded: Callable[[Effects], tuple[Sequence[str], str]],
) -> Side:
    """Run one way; `uncoded` gives the frames that each file is compared with."""
    before, start = _cpu_s(), time.perf_counter()
    files, transfer_s = make()
    cpu_s, wall_s = _cpu_s() - before, time.perf_counter() - start
    pictures = []
    for recipe, file in zip(wanted, files, strict=True):
        drawn, chain = uncoded(recipe)
        pictures.append(picture(find_ffmpeg(), file, drawn=drawn, chain=chain))
    return Side(cpu_s, wall_s, files, pictures, transfer_s)


def _obvious(source: Path, found: Probe, wanted: list[Effects], folder: Path) -> tuple[list[Path], float]:
    files = [folder / f"plain{n}.mp4" for n in range(len(wanted))]
    for recipe, file in zip(wanted, files, strict=True):
        args = obvious.args(recipe, found, source=source, output=file)
        subprocess.run([find_ffmpeg(), *args], check=True)
    return files, 0.0


def timed_runner(
    source: Path, wanted: list[Effects], folder: Path, *, program: Sequence[str] = RUNNER
) -> Side:
    """Run the real runner, and measure it without comparing pictures."""
    before, start = _cpu_s(), time.perf_counter()
    files, transfer_s = _ours(source, wanted, folder, program)
    return Side(_cpu_s() - before, time.perf_counter() - start, files, [], transfer_s)


def _ours(
    source: Path, wanted: list[Effects], folder: Path, program: Sequence[str] = RUNNER
) -> tuple[list[Path], float]:
    """Run the real runner as a process of its own; also return the seconds of the transfers that it cannot
    hide: of the source, and of what is uploaded last."""
    names = [f"o{n:02d}" for n in range(len(wanted))]
    with fake_control() as control:
        control.sources = {"s": source.read_bytes()}
        control.outputs = [(name, "s", recipe) for name, recipe in zip(names, wanted, strict=True)]
        control.with_posters = True
        control.run_timeout_s, control.passing = 3600, Wire(WIRE_BITS_PER_S)
        env = {**control.env(), "RUN_TIMEOUT_S": "3600"}
        root = Path(__file__).parents[1]
        subprocess.run([sys.executable, *program], env=env, cwd=root, check=True, stderr=subprocess.DEVNULL)
        for name in names:
            (folder / f"{name}.mp4").write_bytes(control.objects[f"output/{name}"])
        assert control.finish
        transfer_s = control.finish.usage.timings.fetch_s + max(control.put_s)
    return [folder / f"{name}.mp4" for name in names], transfer_s


def _our_frames(recipe: Effects, found: Probe, source: Path, folder: Path) -> tuple[Sequence[str], str]:
    """Return our frames before encoding: from the kernel, whose noise differs from a filter's."""
    kernel = find_kernel()
    if not kernel:
        return ["-i", str(source)], ",".join([*timed(recipe, found), *standard(found), *drawn(recipe, found)])
    decoding = shlex.join([find_ffmpeg(), *decoding_args(recipe, found, source=str(source))])
    drawing = shlex.join([str(kernel.path), *drawing_args([recipe], found)])
    frames = folder / "frames"
    subprocess.run(["bash", "-c", f"{decoding} 3>&1 | {drawing} 3<&0 4>{frames}"], check=True)
    size = "x".join(map(str, even_size(found)))
    raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-video_size", size]
    return [*raw, "-framerate", str(STANDARD_RATE), "-i", str(frames)], "null"


def excerpt(clip: Path, path: Path) -> Path:
    """Write the first seconds of a clip."""
    command = [find_ffmpeg(), "-nostdin", "-v", "error", "-i", str(clip), "-t", str(EXCERPT_S), "-c", "copy"]
    subprocess.run([*command, str(path)], check=True)
    return path


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    print(compare(CLIPS / f"{sys.argv[1]}.mp4", int(sys.argv[2]) if len(sys.argv) > 2 else FEW))
