"""The client commands of `refresher`: each reads its options and calls the API of a running control.

Results go to stdout and progress to stderr, so that `--json` can be piped. Must never know more than
docs/api.md says. One file, since it is one list of commands with their help texts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from control.cli import lines
from control.cli.checks import (
    job_or_batch,
    require_folder,
    require_place,
    some_effects,
    some_name,
    some_usd,
)
from control.domain.effect_names import EFFECT_NAMES, STRENGTH_MIN

if TYPE_CHECKING:
    from control.cli.client import Client
    from control.cli.inputs import Inputs

app = typer.Typer()

Json = Annotated[bool, typer.Option("--json", help="Print the data as JSON.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The id of a job or batch.", callback=job_or_batch)]
MaxCost = Annotated[
    float | None, typer.Option(help="The most that the batch may cost, in USD.", callback=some_usd)
]
MaxMachines = Annotated[int | None, typer.Option(min=1, help="The largest number of machines at once.")]
Limit = Annotated[int, typer.Option(min=1, help="The largest number of items; the newest come first.")]
Search = Annotated[str, typer.Option(metavar="TEXT", help="Only those with this text in a name.")]
Videos = Annotated[
    list[str], typer.Argument(metavar="VIDEO|FOLDER|URL", help="MP4 or MOV files, folders of them, or links.")
]
Variations = Annotated[int | None, typer.Option("-n", min=1, max=100, help="Variations of each video (3).")]
Preset = Annotated[
    Literal["web-optimized", "hls", "copy", "default"] | None,
    typer.Option(help="Make this of each video instead of variations."),
]
Without = Annotated[
    list[str] | None,
    typer.Option(
        metavar="EFFECT",
        help=f"Leave out an effect: {', '.join(EFFECT_NAMES)}. May be repeated.",
        callback=some_effects,
    ),
]
Strength = Annotated[
    float | None,
    typer.Option(min=STRENGTH_MIN, max=1, help="The strength of the effects: 1 is their full range (1)."),
]
Quality = Annotated[Literal["standard", "high"] | None, typer.Option(help="The quality of variations.")]
FrameRate = Annotated[
    Literal["29.97", "source"] | None, typer.Option(help="Frames per second of variations (29.97).")
]
Deadline = Annotated[
    float | None, typer.Option(min=1, help="Use the cheapest plan that ends within this many seconds.")
]


@app.command()
def submit(
    videos: Videos,
    variations: Variations = None,
    preset: Preset = None,
    without: Without = None,
    strength: Strength = None,
    quality: Quality = None,
    frame_rate: FrameRate = None,
    name: Annotated[
        str | None,
        typer.Option(help="A name for the batch and its ZIP.", callback=some_name),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**63 - 1, help="The same seed gives the same effects.")
    ] = None,
    max_machines: MaxMachines = None,
    max_cost_usd: MaxCost = None,
    deadline_s: Deadline = None,
    webhook_url: Annotated[str | None, typer.Option(help="This URL is called at the end.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end of the batch.")] = False,
    out: Annotated[
        Path | None, typer.Option("-o", help="Wait, and unpack the results into this folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Upload videos and submit them as a batch."""
    from rich.console import Console

    from control.cli import demo

    choices = _choices(variations, preset, without, strength, quality, frame_rate)
    inputs = _inputs(videos)
    if out:
        require_folder(out)
    console = Console(stderr=True)
    with _connected() as client:
        sources, refused = demo.upload(client, inputs.files, console) if inputs.files else ([], [])
        if not sources and not inputs.urls:
            raise typer.Exit(1)
        batch = client.submit(
            sources,
            urls=inputs.urls,
            **choices,
            name=name,
            seed=seed,
            max_machines=max_machines,
            max_cost_usd=max_cost_usd,
            deadline_s=deadline_s,
            webhook_url=webhook_url,
        )
        with _that_goes_on(batch["batch_id"]):
            if wait or out:
                batch = demo.watch(client, batch["batch_id"], console)
            if out and batch["progress"]["ready"]:
                demo.download(client, batch["batch_id"], out, console)
    lines.show(batch, as_json, lines.of_items)
    if refused or ((wait or out) and not _is_whole(batch)):
        raise typer.Exit(1)


def _inputs(arguments: Sequence[str]) -> Inputs:
    from control.cli.inputs import gathered

    inputs = gathered(arguments)
    if inputs.left_out:
        files = lines.count(inputs.left_out, "file").strip()
        print(f"{files} of the folders left out: hidden, or neither MP4 nor MOV.", file=sys.stderr)
    return inputs


def _choices(
    variations: int | None,
    preset: str | None,
    without: list[str] | None,
    strength: float | None,
    quality: str | None,
    frame_rate: str | None,
) -> dict[str, Any]:
    """Return the fields of the API that say what to make of each video. Raises BadParameter."""
    if preset and variations:
        raise typer.BadParameter("Give either -n or --preset.")
    return {
        "variations": None if preset else variations or 3,
        "preset": preset,
        "without": list(dict.fromkeys(without)) if without else None,
        "strength": strength,
        "quality": quality,
        "frame_rate": frame_rate,
    }


@contextmanager
def _that_goes_on(id_: str) -> Iterator[None]:
    """On Ctrl-C print that the batch continues without this command."""
    try:
        yield
    except KeyboardInterrupt:
        print(
            f"\n{id_} continues. Watch it: refresher watch {id_}   Cancel it: refresher cancel {id_}",
            file=sys.stderr,
        )
        raise


def _is_whole(shown: dict[str, Any]) -> bool:
    return shown["status"] == "completed" and not shown["partial"]


@app.command()
def watch(id_: Id, as_json: Json = False) -> None:
    """Show a job or batch live until its end. The exit code is 0 when all its outputs are ready."""
    from rich.console import Console

    from control.cli import demo

    with _connected() as client, _that_goes_on(id_):
        shown = demo.watch(client, id_, Console(stderr=True))
    lines.show(shown, as_json, lines.of_items)
    if not _is_whole(shown):
        raise typer.Exit(1)


@app.command()
def quote(
    videos: Videos,
    variations: Variations = None,
    preset: Preset = None,
    without: Without = None,
    strength: Strength = None,
    quality: Quality = None,
    frame_rate: FrameRate = None,
    max_machines: MaxMachines = None,
    deadline_s: Deadline = None,
    as_json: Json = False,
) -> None:
    """Show the time and cost of a batch of these videos. They are not uploaded."""
    from control.uploads.mp4 import NotPlayable

    choices = _choices(variations, preset, without, strength, quality, frame_rate)
    inputs = _inputs(videos)
    with _connected() as client:
        try:
            found = client.quote(
                inputs.files, urls=inputs.urls, **choices, max_machines=max_machines, deadline_s=deadline_s
            )
        except NotPlayable as refusal:
            raise typer.BadParameter(str(refusal)) from None
    lines.show(found, as_json, lines.of_quote)


@app.command()
def costs(
    from_: Annotated[str | None, typer.Option("--from", metavar="YYYY-MM-DD", help="The first day.")] = None,
    to: Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="The last day.")] = None,
    as_json: Json = False,
) -> None:
    """Show the costs of machines by day and by batch, and the rest of the budgets."""
    with _connected() as client:
        found = client.costs(**{"from": from_, "to": to})
    lines.show(found, as_json, lines.of_costs)


@app.command()
def jobs(limit: Limit = 20, search: Search = "", as_json: Json = False) -> None:
    """List the newest jobs."""
    with _connected() as client:
        lines.show(client.newest("jobs", limit=limit, q=search), as_json, lines.of_items)


@app.command()
def batches(limit: Limit = 20, search: Search = "", as_json: Json = False) -> None:
    """List the newest batches."""
    with _connected() as client:
        lines.show(client.newest("batches", limit=limit, q=search), as_json, lines.of_items)


@app.command()
def show(id_: Id, as_json: Json = False) -> None:
    """Show a job or batch with its outputs."""
    with _connected() as client:
        lines.show(client.show(id_), as_json, lines.of_items)


@app.command()
def cancel(id_: Id, as_json: Json = False) -> None:
    """Cancel a job or batch; ready outputs stay."""
    with _connected() as client:
        lines.show(client.cancel(id_), as_json, lines.of_items)


@app.command()
def retry(id_: Id, as_json: Json = False) -> None:
    """Make the missing outputs of an ended job or batch again."""
    with _connected() as client:
        lines.show(client.retry(id_), as_json, lines.of_items)


@app.command()
def rm(id_: Id, as_json: Json = False) -> None:
    """Delete a job or batch with its files; cancel it if it lives."""
    with _connected() as client:
        client.delete(id_)
    lines.show({"deleted": id_}, as_json, lines.none)


@app.command()
def download(
    id_: Id,
    out: Annotated[Path, typer.Option("-o", metavar="FILE", help="Where the ZIP goes.")],
    as_json: Json = False,
) -> None:
    """Download the ZIP of a job or batch; a partial download beside FILE is resumed."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    from control.cli.download import save

    require_place(out)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with _connected() as client, Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=None, visible=False)

        def show(done: int, size_bytes: int) -> None:
            progress.update(task, completed=done, total=size_bytes, visible=True)

        save(client, id_, out, show)
    lines.show({"file": str(out), "size_bytes": out.stat().st_size}, as_json, lines.none)


@app.command()
def machines(as_json: Json = False) -> None:
    """List the machines in the cloud, each with its job or as an orphan."""
    with _connected() as client:
        lines.show(client.machines(), as_json, lines.of_items)


@app.command()
def reap(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Destroy nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Destroy the machines that belong to no attempt, and list them."""
    with _connected() as client:
        lines.show(client.reap(dry_run=dry_run), as_json, lines.of_items)


@contextmanager
def _connected() -> Iterator[Client]:
    from control.cli.client import Client
    from control.cli.resume import default
    from control.settings import is_http_url

    url, token = os.environ.get("REFRESHER_URL"), os.environ.get("REFRESHER_TOKEN", "")
    password = os.environ.get("REFRESHER_PASSWORD", "")
    if not url or not (token or password):
        raise typer.BadParameter("Set REFRESHER_URL, and REFRESHER_PASSWORD or REFRESHER_TOKEN.")
    if not is_http_url(url):
        raise typer.BadParameter("REFRESHER_URL must be a URL like https://host or http://host:port.")
    with Client.signed_in(url, password=password, token=token, unfinished=default()) as client:
        yield client
