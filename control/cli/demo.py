"""The steps of the main job as a person sees them: upload, watch, download, unpack.

Speaks to control only as a client of its public API.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from imageio_ffmpeg import get_ffmpeg_exe
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.text import Text

from control.cli.report import outcome
from video_refresher import ApiError, Batch, Client, Event, Job, Source
from video_refresher.client import AWAY_S_MAX
from video_refresher.models import Output, Problem, ProgressEvent, SourceInBatch, SourceProgress

OF_THE_FILE = (413, 415, 422)  # refusals that concern one file: too large, no video, not playable
BARS_MAX = 20  # of more files, only the bars of those on their way stay
NOTHING = "Nothing is submitted: no file was accepted."


def make_clip(path: Path) -> None:
    """Write a short test clip with sound. Its moving picture shows every effect."""
    picture = "testsrc2=size=1280x720:rate=30:duration=4"
    sound = "sine=frequency=330:duration=4"
    inputs = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound]
    codecs = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    subprocess.run([get_ffmpeg_exe(), "-v", "error", "-y", *inputs, *codecs, "-shortest", path], check=True)


def upload(
    client: Client, names: Mapping[Path, str], console: Console
) -> tuple[dict[Path, Source], list[dict[str, str]]]:
    """Upload videos under these names, with a progress bar for each. Return their sources, and the refusals.

    A file that control refuses is printed with the reason and returned as `name` and `message`. The other
    files are uploaded all the same. Raises ApiError for a refusal that does not concern one file alone, such
    as that of a full bucket; the client then knows what is uploaded, so that a repeat does not send it again.
    """
    sources, refused = dict[Path, Source](), []
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console) as progress:
        for video, name in names.items():
            task = progress.add_task(_label(name), total=video.stat().st_size)
            try:
                sources[video] = client.upload(video, name=name, on_bytes=partial(progress.advance, task))
                progress.update(task, visible=len(names) <= BARS_MAX)
            except ApiError as refusal:
                if refusal.status not in OF_THE_FILE:
                    raise
                progress.update(task, visible=False)  # a full bar would look like success
                refused.append({"name": _printable(name), "message": str(refusal)})
                console.print(Text(f"{_printable(name)}: {refusal}"), style="red")
            else:
                for note in sources[video].notes:
                    console.print(Text(f"{_printable(name)}: {note}"), style="yellow")
    return sources, refused


def watch(client: Client, id_: str, console: Console) -> Job | Batch:
    """Show one line per source until the job or batch has ended, and return it.

    Raises httpx.HTTPError when control has not answered for two minutes.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        bars = Bars(progress)
        return client.wait(id_, on_look=bars.show, on_event=bars.take, on_away=bars.note_away)


class Bars:
    """A bar for each source of a job or batch."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._statuses: dict[str, dict[str, str]] = {}  # of outputs, by source
        self._waiting: str | None = None  # why nothing moves, as last printed
        self._is_away = False

    def show(self, shown: Job | Batch) -> None:
        """Show the state of the job or batch."""
        self._is_away = False
        for source in shown.sources:
            if source.source_id not in self._tasks:
                task = self._progress.add_task(_label(source.name), total=100, note="")
                self._tasks[source.source_id] = task
            self._statuses[source.source_id] = {each.output_id: each.status for each in source.outputs}
        self._move(shown.sources, shown.waiting, shown.progress.eta_s)

    def take(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event.data, ProgressEvent):
            self._move(event.data.sources, event.data.waiting, event.data.eta_s)
        elif isinstance(event.data, Output):
            for statuses in self._statuses.values():
                if event.data.output_id in statuses:
                    statuses[event.data.output_id] = event.data.status

    def note_away(self, _: float) -> None:
        """Say once that control does not answer, until it does again."""
        if not self._is_away:
            minutes = round(AWAY_S_MAX / 60)
            said = f"Video Refresher does not answer. Trying again for {minutes} minutes."
            self._progress.console.print(Text(said))
        self._is_away = True

    def _move(
        self, sources: Sequence[SourceInBatch | SourceProgress], waiting: Problem | None, eta_s: int | None
    ) -> None:
        why = waiting.message if waiting else None
        if why and why != self._waiting:  # on lines of its own: beside a bar it would be cut off
            self._progress.console.print(Text(why))
        self._waiting = why
        for source in sources:
            note = "waiting" if why else self._note(source, eta_s)
            self._progress.update(self._tasks[source.source_id], completed=source.percent, note=note)

    def _note(self, source: SourceInBatch | SourceProgress, eta_s: int | None) -> str:
        statuses = self._statuses[source.source_id].values()
        ready = sum(status == "ready" for status in statuses)
        note = f"{ready}/{len(statuses)} ready"
        is_live = source.status in ("queued", "running")
        left = f", about {eta_s} s left" if eta_s and is_live else ""
        return note if source.status == "ready" else f"{note}, {source.status}{left}"


def download(client: Client, id_: str, out: Path, console: Console, *, keep_zip: bool = False) -> None:
    """Download the ZIP of the batch and unpack it into `out`, where it may stay. An incomplete ZIP raises.

    Manifests of another batch that are there get its id in their names.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        file = Path(folder, "all.zip")
        with console.status("Downloading the ZIP"):
            client.download(id_, file)
        _keep_manifests(out, id_)
        with zipfile.ZipFile(file) as archive:
            archive.extractall(out)
        if keep_zip:
            file.replace(out / f"{id_}.zip")


def _keep_manifests(out: Path, id_: str) -> None:
    try:
        owner = json.loads((out / "manifest.json").read_bytes())["batch_id"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # there is none, or it is not ours
    if owner != id_ and re.fullmatch("bat_[0-9a-f]+", str(owner)):
        for name in ("manifest.json", "manifest.csv"):
            with suppress(FileNotFoundError):
                Path(out, name).replace(out / name.replace(".", f"-{owner}."))


def result_of(
    client: Client, batch: Job | Batch, *, refused: Sequence[dict[str, str]] = (), out: str | None = None
) -> dict[str, Any]:
    """Return the `outcome` of a batch that has ended."""
    jobs = batch.jobs if isinstance(batch, Batch) else []
    shown = [client.show(job.job_id).model_dump(mode="json") for job in jobs]
    return outcome(batch.model_dump(mode="json"), shown, refused=refused, out=out)


def _label(name: str) -> str:
    return Text(_printable(name[:40])).markup


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name)
