"""The client commands of `refresher`: each reads its options and calls one thing of a control that runs.

Results go to stdout and progress to stderr, so that `--json` can be piped. Must never know more
than docs/api.md tells. Long because it is one list of commands, each with the words of its help.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from control.cli.checks import job_or_batch, require_files, require_folder, require_place, some_usd

if TYPE_CHECKING:
    from control.cli.client import Client

app = typer.Typer()

Json = Annotated[bool, typer.Option("--json", help="Print the data as JSON.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The id of a job or batch.", callback=job_or_batch)]
MaxCost = Annotated[float | None, typer.Option(help="At most so many USD.", callback=some_usd)]
Preset = Literal["web-optimized", "hls", "copy", "default"]
MaxMachines = Annotated[int | None, typer.Option(min=1, help="At most so many machines at once.")]
Limit = Annotated[int, typer.Option(min=1, help="How many, the newest first.")]


@app.command()
def submit(
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEO", help="MP4 or MOV files.")],
    variations: Annotated[
        int | None, typer.Option("-n", min=1, max=100, help="Variations of each (3).")
    ] = None,
    preset: Annotated[Preset | None, typer.Option(help="Make this of each instead of variations.")] = None,
    max_machines: MaxMachines = None,
    max_cost_usd: MaxCost = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return at the end of the batch.")] = False,
    out: Annotated[
        Path | None, typer.Option("-o", help="Wait, and unpack the results into this folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Upload videos and submit them as a batch."""
    if preset and variations:
        raise typer.BadParameter("Give either -n or --preset.")
    from rich.console import Console

    from control.cli import demo

    require_files(videos)
    if out:
        require_folder(out)
    console = Console(stderr=True)
    with _connected() as client:
        sources, refused = demo.upload(client, videos, console)
        if not sources:
            raise typer.Exit(1)
        batch = client.submit(
            sources,
            variations=None if preset else variations or 3,
            preset=preset,
            max_machines=max_machines,
            max_cost_usd=max_cost_usd,
        )
        if wait or out:
            batch = demo.watch(client, batch["batch_id"], console)
        if out and batch["progress"]["ready"]:
            demo.download(client, batch["batch_id"], out, console)
    _print(batch, as_json)
    is_less = (wait or out) and (batch["status"] != "completed" or batch["partial"])
    if is_less or refused:
        raise typer.Exit(1)


@app.command()
def quote(
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEO", help="MP4 or MOV files.")],
    variations: Annotated[int, typer.Option("-n", min=1, max=100, help="Variations of each.")] = 3,
    max_machines: MaxMachines = None,
    as_json: Json = False,
) -> None:
    """Tell what a batch of these videos would take; they are not uploaded."""
    from control.uploads.mp4 import NotPlayable

    require_files(videos)
    with _connected() as client:
        try:
            found = client.quote(videos, variations=variations, max_machines=max_machines)
        except NotPlayable as refusal:
            raise typer.BadParameter(str(refusal)) from None
    if as_json:
        print(json.dumps(found))
        return
    for point in found["curve"]:
        is_chosen = point["machines"] == found["machines"]
        line = (
            f"{_count(point['machines'], 'machine')}  {point['makespan_s']:>8.1f} s  ${point['cost_usd']:.6f}"
        )
        print(f"* {line}  {found['size']}" if is_chosen else f"  {line}")
    if not found["fits"]:
        print("The results may not fit into the storage now: a submit would be refused.")


def _count(number: int, noun: str) -> str:
    """Return such as `   2 machines`, as wide for one."""
    return f"{number:>4} {noun}{' ' if number == 1 else 's'}"


@app.command()
def costs(
    from_: Annotated[str | None, typer.Option("--from", metavar="YYYY-MM-DD", help="The first day.")] = None,
    to: Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="The last day.")] = None,
    as_json: Json = False,
) -> None:
    """Tell what machines have cost, by day and by batch, and what is left of the budgets."""
    with _connected() as client:
        found = client.costs(**{"from": from_, "to": to})
    if as_json:
        print(json.dumps(found))
        return
    for day in found["days"]:
        print(f"{day['date']}  {_paid(day)}  {day['machine_seconds']:.1f} machine-seconds")
    for batch in found["batches"]:
        print(f"{batch['batch_id']}  {_paid(batch)}")
    for name, left in found["budget"].items():
        if left:
            print(f"left of this {name}'s ${left['cap_usd']:g}: ${left['left_usd']:.6f}")
    print(f"${found['cost_usd']:.6f} in all; {found['leaked_seconds']:.1f} s leaked")


def _paid(row: dict[str, Any]) -> str:
    return f"${row['cost_usd']:.6f}  {_count(row['machines'], 'machine')}  {_count(row['outputs'], 'output')}"


@app.command()
def jobs(limit: Limit = 20, as_json: Json = False) -> None:
    """List the newest jobs."""
    with _connected() as client:
        _print(client.newest("jobs", limit=limit), as_json)


@app.command()
def batches(limit: Limit = 20, as_json: Json = False) -> None:
    """List the newest batches."""
    with _connected() as client:
        _print(client.newest("batches", limit=limit), as_json)


@app.command()
def show(id_: Id, as_json: Json = False) -> None:
    """Show a job or batch with its outputs."""
    with _connected() as client:
        _print(client.show(id_), as_json)


@app.command()
def cancel(id_: Id, as_json: Json = False) -> None:
    """Cancel a job or batch; what is ready stays."""
    with _connected() as client:
        _print(client.cancel(id_), as_json)


@app.command()
def retry(id_: Id, as_json: Json = False) -> None:
    """Start again what is not ready of an ended job or batch."""
    with _connected() as client:
        _print(client.retry(id_), as_json)


@app.command()
def rm(id_: Id) -> None:
    """Delete a job or batch with its files; cancel it if it lives."""
    with _connected() as client:
        client.delete(id_)


@app.command()
def download(
    id_: Id, out: Annotated[Path, typer.Option("-o", metavar="FILE", help="Where the ZIP goes.")]
) -> None:
    """Download the ZIP of a job or batch; what an earlier try has left beside FILE is gone on with."""
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


@app.command()
def machines(as_json: Json = False) -> None:
    """List what the cloud holds now, each machine with its job or as an orphan."""
    with _connected() as client:
        _print(client.machines(), as_json)


@app.command()
def reap(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Destroy nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Destroy the machines that belong to no attempt, and list them."""
    with _connected() as client:
        _print(client.reap(dry_run=dry_run), as_json)


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


def _print(data: dict[str, Any] | list[dict[str, Any]], as_json: bool) -> None:
    """Print the data as JSON, or one line for each thing and each of its outputs."""
    if as_json:
        print(json.dumps(data))
        return
    for item in data if isinstance(data, list) else [data]:
        print(_line(item))
        for source in item.get("sources", ()):
            for output in source["outputs"]:
                problem = f"  {output['error']['message']}" if output["error"] else ""
                print(f"  {output['output_id']}  {output['status']:<9}  {_safe(output['name'])}{problem}")


def _line(item: dict[str, Any]) -> str:
    if "machine_id" in item:
        owner = "orphan" if item["orphan"] else item["job_id"]
        return f"{item['machine_id']}  {item['state']:<10}  {item['region']}  {item['created_at']}  {owner}"
    progress = item["progress"]
    facts = f"{item['status']:<9}  {progress['ready']}/{progress['total']} ready  {item['created_at']}"
    problem = item["error"] or item["waiting"]
    return f"{item.get('job_id') or item['batch_id']}  {facts}" + (
        f"  {problem['message']}" if problem else ""
    )


def _safe(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name)
