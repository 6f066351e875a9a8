"""Sources of every kind and their outputs, made as the runner makes them, and what is in them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from runner.allowance import Allowance
from runner.contract import Effects, FrameRate, OutputSpec, Preset, Quality
from runner.memory import MemoryBudget
from runner.probe import look, probe
from runner.progress import Progress
from runner.render import Renderer, Source
from runner.stop import Stop
from runner.transfer import Deliveries
from tests.support.clips import PLAIN
from tests.support.generated import generated


def made(ffmpeg: str, path: Path, *args: str) -> Path:
    """Run FFmpeg with these arguments and the path."""
    path.write_bytes(generated(ffmpeg, args, path.name))
    return path


def source_of(ffmpeg: str, path: Path) -> Source:
    return Source(path=path, probe=probe(ffmpeg, path, stop=Stop()))


def renderer_in(ffmpeg: str, folder: Path) -> Renderer:
    stop = Stop()
    return Renderer(
        program=ffmpeg,
        folder=folder,
        memory=MemoryBudget(1 << 40, stop),
        progress=Progress(),
        allowance=Allowance(None),
        deliveries=Deliveries(Allowance(None), allow=[], stop=stop),
        stop=stop,
    )


def rendered(
    ffmpeg: str,
    source: Source,
    folder: Path,
    effects: Effects | None = PLAIN,
    preset: Preset | None = None,
    *,
    quality: Quality = "standard",
    frame_rate: FrameRate = "29.97",
) -> Path:
    """Render and check one output as the runner does."""
    output = OutputSpec(
        output_id="o",
        source_id="s",
        effects=effects,
        preset=preset,
        quality=quality,
        frame_rate=frame_rate,
        put_url="",
        put_headers={},
    )
    return renderer_in(ffmpeg, folder).alone(output, source).path


def picture_s(ffmpeg: str, path: Path) -> float:
    """Return when the last picture of a file ends."""
    found = look(ffmpeg, path, timeout_s=60, stop=Stop()).probe.picture_s
    assert found is not None
    return found


def raw(ffmpeg: str, path: Path, *args: str) -> bytes:
    """Return what FFmpeg writes to its standard output for a file."""
    command = [ffmpeg, "-v", "error", "-i", str(path), *args, "-"]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
