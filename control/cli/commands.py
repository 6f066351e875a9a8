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
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from control.cli import lines
from control.cli.checks import (
    job_or_batch,
    require_folder,
    require_names,
    require_place,
    some_effects,
    some_name,
    some_usd,
)
from control.cli.connect import connected
from control.domain.effect_names import EFFECT_NAMES, STRENGTH_MIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from control.cli.inputs import Inputs
    from control.cli.submission import Submission
    from video_refresher.models import Choices

app = typer.Typer()

Json = Annotated[bool, typer.Option("--json", help="Print the data as JSON.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The id of a job or batch.", callback=job_or_batch)]
MaxCost = Annotated[
    float | None, typer.Option(help="The most that all batches may cost together, in USD.", callback=some_usd)
]
MaxMachines = Annotated[
    int | None, typer.Option(min=1, help="The largest number of machines at once, of each batch.")
]
Limit = Annotated[int, typer.Option(min=1, help="The largest number of items; the newest come first.")]
Search = Annotated[str, typer.Option(metavar="TEXT", help="Only those with this text in a name.")]
Videos = Annotated[
    list[str] | None,
    typer.Argument(metavar="VIDEO|FOLDER|URL", help="MP4 or MOV files, folders of them, or links."),
]
FromList = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="LIST",
        help="A table (.csv; its first line names the columns) or lines of JSON (.jsonl): `source` (a file,"
        " from the folder of the list on, or a link), if you like `name` and `variations`; all else is your"
        " own data, which the manifest and the webhook show again.",
    ),
]
Variations = Annotated[int | None, typer.Option("-n", min=1, max=100, help="Variations of each video (3).")]
Presets = Literal["web-optimized", "hls", "copy", "default"]
Qualities = Literal["standard", "high"]
FrameRates = Literal["29.97", "source"]
Preset = Annotated[
    Presets | None,
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
    float | None, typer.Option(min=STRENGTH_MIN, max=1, help="How strong the effects are: 1 is all (1).")
]
Quality = Annotated[Qualities | None, typer.Option(help="The quality of variations.")]
FrameRate = Annotated[FrameRates | None, typer.Option(help="Frames per second of variations (29.97).")]
NameTemplate = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Names of the files, as in {source}_{n}; also {tag} {seed} {width} {height} {date}.",
    ),
]
Deadline = Annotated[
    float | None,
    typer.Option(min=1, help="Use the cheapest plan that ends within this many seconds, for each batch."),
]


@app.command()
def submit(
    videos: Videos = None,
    from_: FromList = None,
    variations: Variations = None,
    preset: Preset = None,
    without: Without = None,
    strength: Strength = None,
    quality: Quality = None,
    frame_rate: FrameRate = None,
    name: Annotated[
        str | None,
        typer.Option(help="A name for the batch: you find it, and its ZIP, by that.", callback=some_name),
    ] = None,
    name_template: NameTemplate = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**63 - 1, help="The same seed gives the same effects.")
    ] = None,
    max_machines: MaxMachines = None,
    max_cost_usd: MaxCost = None,
    deadline_s: Deadline = None,
    webhook_url: Annotated[str | None, typer.Option(help="This URL is called at the end.")] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="s3://BUCKET/PREFIX",
            help="Put the results there too. The keys (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY; AWS_REGION"
            " or AWS_ENDPOINT_URL_S3) stay on this machine and sign a URL for each result.",
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end of the batch.")] = False,
    out: Annotated[
        Path | None, typer.Option("-o", help="Wait, and unpack the results into this folder.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Upload videos and submit them as a batch; more than 100, or other numbers of variations, make several.

    Several batches have one name, and share --max-cost-usd; --max-machines and
    --deadline-s hold for each. Room for the results is requested for each alone,
    so a later one may find the storage full. --json prints the batch; for a list
    or several batches it prints {name, batches, refused, progress, cost_usd}.
    """
    from rich.console import Console

    from control.cli import submission
    from control.cli.destination import destination, template_of

    wish = _wish(variations, preset, without, strength, quality, frame_rate)
    inputs = _inputs(videos, from_, preset)
    _require_names(inputs, wish, name_template)
    if out:
        require_folder(out)
    goal = None
    if to:
        goal = destination(to, os.environ)
        name_template = template_of(name_template, preset=preset)
    more: Choices = {
        "name": name,
        "name_template": name_template,
        "seed": seed,
        "max_machines": max_machines,
        "max_cost_usd": max_cost_usd,
        "deadline_s": deadline_s,
        "webhook_url": webhook_url,
    }
    console = Console(stderr=True)
    with connected() as client:
        try:
            made = submission.submit(client, inputs, {**wish, **more}, console, goal)
        except submission.NotSubmitted as why:
            print(f"refresher: {why}", file=sys.stderr)
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            text = "\nStopped before a batch was confirmed: refresher batches shows whether it is."
            print(text, file=sys.stderr)
            raise
        if wait or out:
            with _that_goes_on(*(batch.batch_id for batch in made.batches)):
                submission.wait(client, made, out, console)
    if as_json and (from_ or len(made.batches) > 1):
        lines.show(made.summary(), as_json, lines.none)
    else:
        lines.show(made.batches[0] if as_json else made.batches, as_json, lines.of_items)
    if len(made.batches) > 1 and not as_json:
        print(_sum(made))
    if made.refused or ((wait or out) and not made.is_whole):
        raise typer.Exit(1)


def _sum(made: Submission) -> str:
    found = made.summary()
    progress = found["progress"]
    counts = f"{len(made.batches)} batches: {progress['ready']}/{progress['total']} ready"
    refused = f"; {lines.count(len(made.refused), 'file').strip()} refused" if made.refused else ""
    return f"{counts}, {progress['failed']} failed, ${found['cost_usd']:.6f}{refused}"


def _inputs(arguments: Sequence[str] | None, list_: Path | None, preset: str | None) -> Inputs:
    from control.cli.inputs import gathered

    inputs = gathered(arguments or (), list_, has_preset=preset is not None)
    if inputs.left_out:
        files = lines.count(inputs.left_out, "file").strip()
        print(f"{files} of the folders left out: hidden, or neither MP4 nor MOV.", file=sys.stderr)
    return inputs


def _require_names(inputs: Inputs, wish: Choices, name_template: str | None) -> None:
    batches = inputs.by_batch(wish["variations"])
    require_names(
        name_template,
        variations=None if wish["preset"] else max(count or 1 for count, _ in batches),
        has_links=any(isinstance(video.place, str) for video in inputs.videos),
    )


def _wish(
    variations: int | None,
    preset: Presets | None,
    without: list[str] | None,
    strength: float | None,
    quality: Qualities | None,
    frame_rate: FrameRates | None,
) -> Choices:
    """Return what is to be made of each video, as the API has it. Raises BadParameter."""
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
def _that_goes_on(*ids: str) -> Iterator[None]:
    """Print that the batches continue without this command, on Ctrl-C and if control no longer answers."""
    from httpx import HTTPError

    try:
        yield
    except (KeyboardInterrupt, HTTPError):
        print(file=sys.stderr)
        for id_ in ids:
            print(
                f"{id_} continues. Watch it: refresher watch {id_}   Cancel it: refresher cancel {id_}",
                file=sys.stderr,
            )
        raise


@app.command()
def watch(id_: Id, as_json: Json = False) -> None:
    """Show a job or batch live until its end. The exit code is 0 when all its outputs are ready."""
    from rich.console import Console

    from control.cli import demo

    with connected() as client, _that_goes_on(id_):
        shown = demo.watch(client, id_, Console(stderr=True))
    lines.show(shown, as_json, lines.of_items)
    if not shown.is_whole:
        raise typer.Exit(1)


@app.command()
def quote(
    videos: Videos = None,
    from_: FromList = None,
    variations: Variations = None,
    preset: Preset = None,
    without: Without = None,
    strength: Strength = None,
    quality: Quality = None,
    frame_rate: FrameRate = None,
    name_template: NameTemplate = None,
    max_machines: MaxMachines = None,
    deadline_s: Deadline = None,
    as_json: Json = False,
) -> None:
    """Show what a batch of these videos would take; they are not uploaded.

    `*` marks what a submit with these options takes. A file that cannot be used
    is named and left out, as by a submit; the exit code is then 1.
    """
    from control.cli.facts import by_batch

    wish = _wish(variations, preset, without, strength, quality, frame_rate)
    inputs = _inputs(videos, from_, preset)
    _require_names(inputs, wish, name_template)
    more: Choices = {
        "name_template": name_template,
        "max_machines": max_machines,
        "deadline_s": deadline_s,
    }
    groups, refusals = by_batch(inputs, wish["variations"])
    if not groups:
        raise typer.BadParameter("\n".join(refusals))
    for refusal in refusals:
        typer.echo(refusal, err=True)
    with connected() as client:
        found = []
        for count, sources in groups:
            each: Choices = {**wish, **more, "variations": count}
            found.append(client.quote(sources, **each))
    lines.show(found if from_ or len(found) > 1 else found[0], as_json, lines.of_quotes)
    if refusals:
        raise typer.Exit(1)


@app.command()
def costs(
    from_: Annotated[str | None, typer.Option("--from", metavar="YYYY-MM-DD", help="The first day.")] = None,
    to: Annotated[str | None, typer.Option(metavar="YYYY-MM-DD", help="The last day.")] = None,
    as_json: Json = False,
) -> None:
    """Show the costs of machines by day and by batch, and the rest of the budgets."""
    with connected() as client:
        found = client.costs(from_=from_ or "", to=to or "")
    lines.show(found, as_json, lines.of_costs)


@app.command()
def jobs(limit: Limit = 20, search: Search = "", as_json: Json = False) -> None:
    """List the newest jobs."""
    with connected() as client:
        lines.show(client.jobs(limit=limit, q=search), as_json, lines.of_items)


@app.command()
def batches(limit: Limit = 20, search: Search = "", as_json: Json = False) -> None:
    """List the newest batches."""
    with connected() as client:
        lines.show(client.batches(limit=limit, q=search), as_json, lines.of_items)


@app.command()
def show(id_: Id, as_json: Json = False) -> None:
    """Show a job or batch with its outputs."""
    with connected() as client:
        lines.show(client.show(id_), as_json, lines.of_items)


@app.command()
def cancel(id_: Id, as_json: Json = False) -> None:
    """Cancel a job or batch; ready outputs stay."""
    with connected() as client:
        lines.show(client.cancel(id_), as_json, lines.of_items)


@app.command()
def retry(id_: Id, as_json: Json = False) -> None:
    """Make the missing outputs of an ended job or batch again."""
    with connected() as client:
        lines.show(client.retry(id_), as_json, lines.of_items)


@app.command()
def rm(id_: Id, as_json: Json = False) -> None:
    """Delete a job or batch with its files; cancel it if it lives."""
    with connected() as client:
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

    require_place(out)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with connected() as client, Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=None, visible=False)

        def show(done: int, size_bytes: int) -> None:
            progress.update(task, completed=done, total=size_bytes, visible=True)

        client.download(id_, out, on_progress=show)
    lines.show({"file": str(out), "size_bytes": out.stat().st_size}, as_json, lines.none)


@app.command()
def link(id_: Id, as_json: Json = False) -> None:
    """Print a URL of the ZIP of a job or batch that needs no password until it expires."""
    with connected() as client:
        found = client.download_link(id_)
    lines.show(found, as_json, lines.of_link)


@app.command()
def share(
    id_: Id,
    end: Annotated[bool, typer.Option("--end", help="End the batch's share link instead.")] = False,
    as_json: Json = False,
) -> None:
    """Print a URL that shows the results of an ended batch to anyone, without the password."""
    with connected() as client:
        if end:
            client.unshare(id_)
            lines.show({"unshared": id_}, as_json, lines.none)
        else:
            lines.show(client.share(id_), as_json, lines.of_link)


@app.command()
def machines(as_json: Json = False) -> None:
    """List the machines in the cloud, each with its job or as an orphan."""
    with connected() as client:
        lines.show(client.machines(), as_json, lines.of_items)


@app.command()
def reap(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Destroy nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Destroy the machines that belong to no attempt, and list them."""
    with connected() as client:
        lines.show(client.reap(dry_run=dry_run), as_json, lines.of_items)


@app.command()
def mcp() -> None:
    """Serve the API as tools of the Model Context Protocol, on stdin and stdout (docs/api.md)."""
    try:
        from control.cli.mcp_server import server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "mcp":
            raise
        raise typer.BadParameter(
            "The SDK of the Model Context Protocol is missing: pip install mcp"
        ) from None
    server.run("stdio")
