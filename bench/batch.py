"""Forty short clips as one batch on the local Fly: its time and cost against its quote."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from imageio_ffmpeg import get_ffmpeg_exe
from rich.console import Console

from bench.line import line
from bench.main_job import CLIP
from control.cli.demo import make_clip, watch
from control.cli.local import local_stack
from infra.hosts import DIRECT
from video_refresher import Batch, Client

CLIPS, TAUGHT, VARIATIONS = 40, 8, 2
LESSONS = 2
CLIP_S = 2.0
MACHINES_MAX = 2  # they share this computer's cores, so the same number runs while the speed is measured
POLL_S = 0.2
SETTLED_S = 3.0  # within this time control has observed the cloud once more


def run() -> Iterator[str]:
    """Cut the clips, measure the speed with a few, then quote and run all of them."""
    os.environ.setdefault("MAX_MACHINES", str(MACHINES_MAX))
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        clips = _cut(Path(folder))
        data = Path(folder, "stack")
        data.mkdir()
        with (
            local_stack(data) as stack,
            Client.signed_in(stack.url, password=stack.password, mounts=DIRECT) as client,
        ):
            sources = [client.upload(clip).source_id for clip in clips]
            for _ in range(LESSONS):
                _made(client, *(sources[n * TAUGHT : (n + 1) * TAUGHT] for n in range(MACHINES_MAX)))
            said = client.quote(sources, variations=VARIATIONS)
            took_s, (batch,) = _made(client, sources)
    name = f"batch of {CLIPS} clips, {VARIATIONS} variations each, on {len(batch.jobs)} machines"
    quote = f"its quote: {said.machines} machines, {said.makespan_s} s, ${said.cost_usd:.6f}"
    yield line(f"{name}, time", took_s / said.makespan_s, "x", against=quote)
    yield line(f"{name}, cost", batch.cost_usd / said.cost_usd, "x", against=quote)


def _cut(folder: Path) -> list[Path]:
    """Return short clips of one film, each from another second of it."""
    film = CLIP
    if not film.exists():
        film = folder / "film.mp4"
        make_clip(film)
    clips = [folder / f"clip{number:02d}.mp4" for number in range(CLIPS)]
    for number, clip in enumerate(clips):
        start = ["-ss", str(0.05 * number), "-t", str(CLIP_S), "-i", str(film)]
        codecs = ["-vf", "scale=-2:360", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"]
        subprocess.run([get_ffmpeg_exe(), "-v", "error", "-y", *start, *codecs, str(clip)], check=True)
    return clips


def _made(client: Client, *each: list[str]) -> tuple[float, list[Batch]]:
    """Return the seconds of batches that run in parallel, and the batches once their costs are final."""
    began = time.perf_counter()
    batches = [client.submit(sources, variations=VARIATIONS, seed=1) for sources in each]
    for batch in batches:
        watch(client, batch.batch_id, Console(quiet=True))
    took_s = time.perf_counter() - began
    while client.machines():
        time.sleep(POLL_S)
    time.sleep(SETTLED_S)
    return took_s, [ended for batch in batches if isinstance(ended := client.show(batch.batch_id), Batch)]
