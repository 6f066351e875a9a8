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

import httpx
from imageio_ffmpeg import get_ffmpeg_exe
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.text import Text
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from control.cli.client import Client, StreamEvent
from control.cli.errors import ApiError
from control.cli.report import outcome

POLL_S = 5.0  # while there is no event stream
AWAY_S_MAX = 120.0
LIVE = ("queued", "launching", "running")


def make_clip(path: Path) -> None:
    """Write a short test clip with sound. Its moving picture shows every effect."""
    picture = "testsrc2=size=1280x720:rate=30:duration=4"
    sound = "sine=frequency=330:duration=4"
    inputs = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound]
    codecs = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    subprocess.run([get_ffmpeg_exe(), "-v", "error", "-y", *inputs, *codecs, "-shortest", path], check=True)


def upload(
    client: Client, videos: Sequence[Path], console: Console
) -> tuple[list[str], list[dict[str, str]]]:
    """Upload the videos with a progress bar for each. Return the ids of their sources, and the refusals.

    A file that control refuses is printed with the reason and returned as `name` and `message`. The other
    files are uploaded all the same.
    """
    sources, refused = [], []
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console) as progress:
        for video in videos:
            task = progress.add_task(_label(video.name), total=video.stat().st_size)
            try:
                source = client.upload(video, partial(progress.advance, task))
            except ApiError as refusal:
                progress.update(task, visible=False)  # a full bar would look like success
                refused.append({"name": _printable(video.name), "message": str(refusal)})
                console.print(Text(f"{_printable(video.name)}: {refusal}"), style="red")
            else:
                sources.append(source["source_id"])
    if not sources:
        console.print("Nothing is submitted: no file was accepted.", style="red")
    return sources, refused


def watch(client: Client, batch_id: str, console: Console) -> dict[str, Any]:
    """Show one line per source until the batch has ended, and return it.

    Follows the event stream. While there is none, asks for the batch every POLL_S.
    Raises httpx.HTTPError when control has not answered for AWAY_S_MAX.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        batch = _shown(client, batch_id)
        bars = _Bars(progress, batch)
        while batch["status"] in LIVE:
            if not _follow(client, batch_id, bars):
                time.sleep(POLL_S)
            batch = _shown(client, batch_id)
            bars.show(batch)
        return batch


@retry(
    retry=retry_if_exception_type(httpx.TransportError),
    stop=stop_after_delay(AWAY_S_MAX),
    wait=wait_fixed(POLL_S),
    reraise=True,
)
def _shown(client: Client, batch_id: str) -> dict[str, Any]:
    return client.show(batch_id)


def _follow(client: Client, batch_id: str, bars: _Bars) -> bool:
    """Show the events while the stream is open; return whether it reached the end."""
    try:
        for event in client.events(batch_id, after=bars.position):
            bars.take(event)
            if event.name == "end":
                return True
    except httpx.TransportError:
        pass  # control restarts or is unreachable: the caller tries again
    except ApiError as refusal:  # too many streams are open
        if refusal.status != httpx.codes.TOO_MANY_REQUESTS and refusal.status < 500:
            raise
    return False


class _Bars:
    """A bar for each source of a batch."""

    def __init__(self, progress: Progress, batch: dict[str, Any]) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._statuses: dict[str, dict[str, str]] = {}  # of outputs, by source
        self.position = 0  # the last durable event
        for source in batch["sources"]:
            task = progress.add_task(_label(source["name"]), total=100, note="")
            self._tasks[source["source_id"]] = task
        self.show(batch)

    def show(self, batch: dict[str, Any]) -> None:
        """Show the current state of the batch."""
        for source in batch["sources"]:
            self._statuses[source["source_id"]] = {o["output_id"]: o["status"] for o in source["outputs"]}
        self._move(batch, batch["progress"]["eta_s"])

    def take(self, event: StreamEvent) -> None:
        """Show one event."""
        self.position = event.id or self.position
        if event.name == "progress":
            self._move(event.data, event.data["eta_s"])
        elif event.name == "output":
            for statuses in self._statuses.values():
                if event.data["output_id"] in statuses:
                    statuses[event.data["output_id"]] = event.data["status"]

    def _move(self, facts: dict[str, Any], eta_s: int | None) -> None:
        for source in facts["sources"]:
            note = facts["waiting"]["message"] if facts["waiting"] else self._note(source, eta_s)
            self._progress.update(self._tasks[source["source_id"]], completed=source["percent"], note=note)

    def _note(self, source: dict[str, Any], eta_s: int | None) -> str:
        statuses = self._statuses[source["source_id"]].values()
        ready = sum(status == "ready" for status in statuses)
        note = f"{ready}/{len(statuses)} ready, {source['status']}"
        is_live = source["status"] in ("queued", "running")
        return f"{note}, about {eta_s} s left" if eta_s and is_live else note


def download(client: Client, batch_id: str, out: Path, console: Console) -> None:
    """Download the ZIP of the batch and unpack it into `out`. An incomplete ZIP raises."""
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
