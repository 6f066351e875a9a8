"""The steps of the main job as a person sees them: upload, watch, download, unpack.

Speaks to control only as a client of its public API.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from imageio_ffmpeg import get_ffmpeg_exe
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.text import Text

from control.client import ApiError, Client
from control.outcome import outcome

POLL_S = 0.5
LIVE = ("queued", "launching", "running")


def make_clip(path: Path) -> None:
    """Write a short test clip with sound: moving pictures that show every effect."""
    picture = "testsrc2=size=1280x720:rate=30:duration=4"
    sound = "sine=frequency=330:duration=4"
    inputs = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound]
    codecs = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    subprocess.run([get_ffmpeg_exe(), "-v", "error", "-y", *inputs, *codecs, "-shortest", path], check=True)


def upload(
    client: Client, videos: Sequence[Path], console: Console
) -> tuple[list[str], list[dict[str, str]]]:
    """Upload the videos with a bar for each, and return the ids of the sources they became, and the refusals.

    A file that control refuses is named with the reason, here and as `name` and `message`; the others go on.
    """
    sources, refused = [], []
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console) as progress:
        for video in videos:
            task = progress.add_task(_label(video.name), total=video.stat().st_size)
            try:
                source = client.upload(video, partial(progress.advance, task))
            except ApiError as refusal:
                progress.update(task, visible=False)  # a full bar would say that all is well
                refused.append({"name": _printable(video.name), "message": str(refusal)})
                console.print(Text(f"{_printable(video.name)}: {refusal}"), style="red")
            else:
                sources.append(source["source_id"])
    if not sources:
        console.print("Nothing is submitted: none of the files was taken.", style="red")
    return sources, refused


def watch(client: Client, batch_id: str, console: Console) -> dict[str, Any]:
    """Show one line per source until the batch has ended, and return it."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, TaskID] = {}
        while True:
            batch = client.show(batch_id)
            for source in batch["sources"]:
                if source["source_id"] not in tasks:
                    label = _label(source["name"])
                    tasks[source["source_id"]] = progress.add_task(label, total=100, note="")
                note = _note(batch, source)
                progress.update(tasks[source["source_id"]], completed=source["percent"], note=note)
            if batch["status"] not in LIVE:
                return batch
            time.sleep(POLL_S)


def _note(batch: dict[str, Any], source: dict[str, Any]) -> str:
    if batch["waiting"]:
        return str(batch["waiting"]["message"])
    ready = sum(output["status"] == "ready" for output in source["outputs"])
    note = f"{ready}/{len(source['outputs'])} ready, {source['status']}"
    eta_s = batch["progress"]["eta_s"]
    is_live = source["status"] in ("queued", "running")
    return f"{note}, about {eta_s} s left" if eta_s and is_live else note


def download(client: Client, batch_id: str, out: Path, console: Console) -> None:
    """Download the batch's ZIP and unpack it into `out`; a ZIP that is not whole raises."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out) as file:
        with console.status("Downloading the ZIP"):
            client.download(batch_id, file)
        with zipfile.ZipFile(file) as archive:
            archive.extractall(out)


def result_of(
    client: Client, batch: dict[str, Any], *, refused: Sequence[dict[str, str]] = (), out: str | None = None
) -> dict[str, Any]:
    """Return the `outcome` of a batch that has ended."""
    jobs = [client.show(job["job_id"]) for job in batch["jobs"]]
    return outcome(batch, jobs, refused=refused, out=out)


def _label(name: str) -> str:
    return Text(_printable(name[:40])).markup


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name)
