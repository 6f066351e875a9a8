"""The main job through the whole stack, against the obvious way to render the same effects."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from bench import obvious
from bench.line import line
from control.cli.demo import make_clip, watch
from control.cli.local import local_stack
from infra.hosts import DIRECT
from runner.contract import Effects
from runner.ffmpeg_program import find_ffmpeg
from runner.probe import probe
from runner.stop import Stop
from video_refresher import Client

CLIP = Path(__file__).parents[2] / "shared" / "clips" / "launch-720p-2997.mp4"
VARIATIONS = 4


def run() -> Iterator[str]:
    """Upload, submit, render and download a batch; then render its effects in the obvious way."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        clip = CLIP
        if not clip.exists():
            clip = Path(folder, "clip.mp4")
            make_clip(clip)
        zip_path = Path(folder, "batch.zip")
        ours_s = _ours(clip, zip_path, Path(folder, "stack"))
        plain_s = _obvious(clip, zip_path, Path(folder))
    against = f"the obvious way, {VARIATIONS} renders one after another: {plain_s:.2f} s"
    yield line("main job, wall", ours_s, "s", against=against)
    yield line("main job, wall", ours_s / plain_s, "x", against=f"the same, of {clip.name}")


def _ours(clip: Path, zip_path: Path, data: Path) -> float:
    """Return the seconds from the first byte uploaded to the last of the ZIP downloaded."""
    data.mkdir()
    with (
        local_stack(data) as stack,
        Client.signed_in(stack.url, password=stack.password, mounts=DIRECT) as client,
    ):
        start = time.perf_counter()
        source = client.upload(clip)
        batch = client.submit([source], variations=VARIATIONS, seed=1)
        watch(client, batch.batch_id, Console(quiet=True))
        client.download(batch.batch_id, zip_path)
        return time.perf_counter() - start


def _obvious(clip: Path, zip_path: Path, folder: Path) -> float:
    """Return the seconds that the obvious way takes for the effects of the manifest."""
    with zipfile.ZipFile(zip_path) as archive:
        outputs = json.loads(archive.read("manifest.json"))["outputs"]
    found = probe(find_ffmpeg(), clip, stop=Stop())
    start = time.perf_counter()
    for output in outputs:
        args = obvious.args(Effects(**output["effects"]), found, source=clip, output=folder / "plain.mp4")
        subprocess.run([find_ffmpeg(), *args], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start
