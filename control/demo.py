"""The main job as a person sees it: upload, submit, watch, download, unpack, and a table of what came out.

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
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from control.client import ApiError, Client

POLL_S = 0.5
LIVE = ("queued", "launching", "running")


def make_clip(path: Path) -> None:
    """Write a short test clip with sound: moving pictures that show every effect."""
    picture = "testsrc2=size=1280x720:rate=30:duration=4"
    sound = "sine=frequency=330:duration=4"
    inputs = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound]
    codecs = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    subprocess.run([get_ffmpeg_exe(), "-v", "error", "-y", *inputs, *codecs, "-shortest", path], check=True)


def upload(client: Client, videos: Sequence[Path], console: Console) -> list[str]:
    """Upload the videos with a bar for each, and return the ids of the sources they became.

    A file that control refuses is named with the reason, and the others go on.
    """
    sources = []
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console) as progress:
        for video in videos:
            task = progress.add_task(_label(video.name), total=video.stat().st_size)
            try:
                source = client.upload(video, partial(progress.advance, task))
            except ApiError as refusal:
                console.print(Text(f"{video.name}: {refusal}"), style="red")
            else:
                sources.append(source["source_id"])
    return sources


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


def results_table(batch: dict[str, Any], out: Path) -> Table:
    """Return a table of the batch's outputs."""
    table = Table(title=f"{batch['status']}, in {out}")
    table.add_column("file", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("duration", justify="right", no_wrap=True)
    table.add_column("effects", overflow="fold")
    for source in batch["sources"]:
        for output in source["outputs"]:
            table.add_row(Text(output["name"]), *_figures(output))
    return table


def _figures(output: dict[str, Any]) -> tuple[str | Text, ...]:
    if output["status"] != "ready":
        problem = output["error"] or {"code": output["status"], "message": ""}
        return "-", "-", Text(f"{problem['code']}: {problem['message']}")
    text = output["preset"] or _effects(output["effects"])
    return decimal(output["size_bytes"]), f"{output['duration_s']:.2f} s", text


def _effects(effects: dict[str, Any]) -> str:
    return (
        f"turn {effects['rotation_rad']:+.4f}  zoom {effects['zoom']:.3f}  speed {effects['speed']:.3f}  "
        f"noise {effects['noise']}  light {effects['brightness']:+.3f}  "
        f"contrast {effects['contrast']:.3f}  colour {effects['saturation']:.3f}"
        + ("  mirrored" if effects["mirror"] else "")
    )


def cost_line(batch: dict[str, Any]) -> str:
    """Return a sentence on what the batch cost at Fly's prices."""
    seconds = sum(attempt["machine_seconds"] for attempt in batch["attempts"])
    size = batch["attempts"][-1]["size"]
    usd = batch["cost_usd"]
    return f"Cost at Fly's prices: ${usd:.6f} ({seconds:.1f} s of one {size}). Here it was free."


def _label(name: str) -> str:
    return Text("".join(c if c.isprintable() else "?" for c in name[:40])).markup
