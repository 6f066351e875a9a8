"""The `refresher` command. Thin: each command reads its options and calls one function.

One file, since it is one list of commands with their help texts.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from traceback import walk_stack
from types import FrameType
from typing import Annotated, Any

import typer

from control.cli import lines
from control.cli.checks import require_digest, require_files, require_folder, some_regions
from control.cli.commands import app as client_app
from control.cli.connect import place, unanswered
from control.cli.loading import load_fastapi, loading

app = typer.Typer(
    name="refresher",
    help="Many fresh variations of each video, rendered on one-shot machines.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON line when ready.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="The port on 127.0.0.1; 0 takes a free one.")]

BucketFaults = Annotated[
    Path | None,
    typer.Option(
        help="Put a door with these faults before the bucket: JSON of infra.local.s3_door.DoorFaults."
    ),
]

app.add_typer(client_app)

DRAIN_S = 5.0
IMPORT_LOOK_S = 0.02
_ENDING = (signal.SIGINT, signal.SIGTERM)


def _version(is_asked: bool) -> None:
    if is_asked:
        print(f"refresher {version('video-refresher')}")
        raise typer.Exit


@app.callback()
def _refresher(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    for signum in _ENDING:
        if (
            signal.getsignal(signum) is not signal.SIG_IGN
        ):  # a shell starts background jobs so, which Ctrl-C must not end
            signal.signal(signum, interrupt)


def interrupt(_signum: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, as soon as the main thread imports nothing.

    Raised within Python's own steps of an import, it can leave the lock of all imports taken for ever.
    """
    if _is_importing(frame):
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, IMPORT_LOOK_S)
        return
    for signum in (*_ENDING, signal.SIGALRM):
        signal.signal(signum, signal.SIG_IGN)  # a second signal must not interrupt the clean-up
    raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    return any(each.f_code.co_filename == "<frozen importlib._bootstrap>" for each, _ in walk_stack(frame))


@app.command()
def demo(
    videos: Annotated[list[Path] | None, typer.Argument(help="MP4 or MOV files.")] = None,
    variations: Annotated[int, typer.Option("-n", min=1, max=100, help="Variations of each.")] = 3,
    out: Annotated[Path, typer.Option("-o", help="Where the results go.")] = Path("demo-out"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the table's data as JSON.")] = False,
) -> None:
    """Run the main job for real on this machine, and leave nothing running."""
    from rich.console import Console

    from control.cli import demo as steps
    from control.cli.local import local_stack
    from control.cli.report import is_whole, table
    from control.telemetry.log import send_to
    from infra.hosts import DIRECT
    from video_refresher import Batch, Client, Job

    require_folder(out)
    console = Console(stderr=as_json)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="refresher-")))
        if not videos:
            videos = [folder / "clip.mp4"]
            steps.make_clip(videos[0])
        require_files(videos)
        send_to(folder / "control.log")
        with console.status("Starting the S3 server, the local Fly and control"):
            running = stack.enter_context(local_stack(folder))
        client = stack.enter_context(Client.signed_in(running.url, password=running.password, mounts=DIRECT))
        sources, refused = steps.upload(client, {video: video.name for video in videos}, console)
        if not sources:
            console.print(steps.NOTHING, style="red")
            raise typer.Exit(1)
        batch: Job | Batch = client.submit(list(sources.values()), variations=variations)
        batch = steps.watch(client, batch.batch_id, console)
        if batch.progress.ready:
            steps.download(client, batch.batch_id, out, console, keep_zip=True)
        result = steps.result_of(client, batch, refused=refused, out=str(out))
    if as_json:
        print(json.dumps(result))
    else:
        console.print(table(result, is_free=True))
    if not is_whole(result):
        raise typer.Exit(1)


@app.command()
def serve(
    local: Annotated[
        bool, typer.Option("--local", help="Also start a local S3 server and a local Fly.")
    ] = False,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "",
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Default PORT, or 8080.")] = None,
    data: Annotated[Path, typer.Option(help="Where --local keeps its state.")] = Path(".refresher"),
    bucket_faults: BucketFaults = None,
    as_json: Json = False,
) -> None:
    """Run control until it gets a signal to stop."""
    from control.cli.local import local_stack
    from control.telemetry.log import send_to

    wrong = _bucket_faults(bucket_faults)
    if wrong and not local:
        raise typer.BadParameter("--bucket-faults needs --local.")
    send_to(None)
    if not local:
        _serve_configured(host, port, as_json=as_json)
        return
    from control.settings import load_port

    port = load_port() if port is None else port
    with local_stack(data, host=host or "127.0.0.1", port=port, bucket_faults=wrong) as running:
        _ready(as_json, url=running.url, password=running.password)
        _wait()


def _serve_configured(host: str, port: int | None, *, as_json: bool) -> None:
    with loading():
        load_fastapi()
        from control.app import create_app
        from control.http import metrics_port
        from control.http.server import serve as serve_app
        from control.settings import load_settings
        from infra.local.serve import listen, url_of

        settings = load_settings()
        control = create_app(settings)
    listener = listen(host, settings.port if port is None else port)
    facts = {"url": url_of(listener)}
    if as_json:  # for the program that asked; the password is not shown to people or in logs
        facts["password"] = settings.auth_password.get_secret_value()

    def drain() -> None:
        control.state.drain()
        _end_in(DRAIN_S)

    with suppress(KeyboardInterrupt), metrics_port.serving(settings.metrics_port, control.state.metrics):
        serve_app(control, listener, on_ready=lambda: _ready(as_json, **facts), on_stop=drain)


def _end_in(seconds: float) -> None:
    """End this process after this time, even with requests that wait. Every commit is complete anyway."""
    timer = threading.Timer(seconds, os._exit, [1])
    timer.daemon = True
    timer.start()


class Provisioning(StrEnum):
    """What `provision` does."""

    UP = "up"
    RELEASE = "release"
    ROLL_BACK = "roll-back"
    ROTATE = "rotate"
    DOWN = "down"


@app.command()
def provision(
    what: Annotated[Provisioning, typer.Argument(help="up makes everything, or brings it up to date.")],
    name: Annotated[str, typer.Option(help="The apps are NAME-control and NAME-runner.")],
    region: Annotated[
        str,
        typer.Option(help="The region of control and runners; more of them, after commas, are for runners."),
    ] = "iad",
    org: Annotated[str, typer.Option(help="The Fly organisation.")] = "personal",
    python_image: Annotated[
        str, typer.Option(help="For up and release: the images' base, like python:3.13-slim@sha256:...")
    ] = "",
    image: Annotated[
        str, typer.Option(help="For roll-back: the earlier image of control, or its label (the tag).")
    ] = "",
    runner_apps: Annotated[
        int, typer.Option(min=1, max=20, help="How many apps hold runners: more of them launch faster.")
    ] = 1,
    sleep: Annotated[
        bool, typer.Option("--sleep/--always-on", help="Control ends itself when idle; a request starts it.")
    ] = False,
    apply: Annotated[
        bool, typer.Option("--apply/--dry-run", help="Run the commands, or only print them.")
    ] = False,
) -> None:
    """Deploy to Fly with your own `fly` command. Each command is printed before it runs."""
    from control.cli.provision import provision as run
    from infra.provision.steps import Deployment

    if (what is Provisioning.ROLL_BACK) != bool(image):
        raise typer.BadParameter("--image belongs to roll-back, which needs it")
    if what in (Provisioning.UP, Provisioning.RELEASE):
        require_digest(python_image)
    if "@" in image:
        raise typer.BadParameter("--image names a release by its label, like release-20261126-120000")
    first, *more = some_regions(region)
    run(
        what,
        Deployment(
            name=name,
            org=org,
            region=first,
            more_regions=tuple(more),
            python_image=python_image,
            label=image.rpartition(":")[2] or f"release-{datetime.now(UTC):%Y%m%d-%H%M%S}",
            runner_apps=runner_apps,
            sleeps=sleep,
        ),
        os.environ,
        apply=apply,
    )


@app.command()
def doctor(
    inside: Annotated[
        bool,
        typer.Option(
            "--inside", help="Look with control's settings, and start a machine: says what it costs."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check a deployment: from outside, as a client, or inside, on control's machine. Names each remedy."""
    from rich.console import Console

    from control.cli.doctor import findings

    console = Console(stderr=True)
    found = []
    for finding in _looks(console, is_inside=inside):
        found.append(finding)
        console.print(f"{finding.status:<4}  {finding.check}", markup=False, highlight=False)
    if as_json:
        print(json.dumps([finding.as_data for finding in found]))
    else:
        Console().print(findings.table(found))
    if findings.has_failed(found):
        raise typer.Exit(1)


def _looks(console: Any, *, is_inside: bool) -> Any:
    """Return the doctor's findings, one after another as they are found."""
    if not is_inside:
        from control.cli.doctor import outside

        url, password, token = place()
        return outside.check(url, password=password, token=token)
    from control.cli.doctor import cloud, findings
    from control.cli.doctor import inside as inner
    from control.settings import SettingsError, load_settings

    try:
        settings = load_settings()
    except SettingsError as error:
        return [findings.settings(str(error))]
    console.print(cloud.cost(settings), markup=False, highlight=False, soft_wrap=True)
    return inner.check(settings)


@app.command("bucket-rules")
def bucket_rules(
    as_json: Annotated[bool, typer.Option("--json", help="Print the data as JSON.")] = False,
) -> None:
    """Set the rules of the bucket: which pages may use it, and that unfinished uploads are removed."""
    from control.app import storage_of
    from control.settings import load_settings

    settings = load_settings()
    if warning := storage_of(settings).set_rules(settings.origins):
        typer.echo(f"Warning: the bucket refused its lifecycle rule, which is optional: {warning}", err=True)
    _ready(as_json, bucket=settings.bucket_name, origins=" ".join(settings.origins))


@app.command("fly-local")
def fly_local(
    port: Port = 0,
    data: Annotated[
        Path | None, typer.Option(help="A folder for the logs of machines; without it they are not kept.")
    ] = None,
    faults: Annotated[
        Path | None, typer.Option(help="The faults to inject: JSON of infra.flysim.faults.Faults.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the local Fly alone: a machine is a child process."""
    from infra.local.fly_server import local_fly

    wrong = _faults(faults) if faults else None
    with ExitStack() as stack:
        folder = data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fly-local-")))
        fly = stack.enter_context(local_fly(folder, port=port, faults=wrong))
        _ready(as_json, url=fly.url, token=fly.token, app=fly.app)
        _wait()


def _faults(path: Path) -> Any:
    from pydantic import TypeAdapter, ValidationError

    from infra.flysim.faults import Faults

    require_files([path])
    try:
        return TypeAdapter(Faults).validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise typer.BadParameter(f"{path}: {where}: {first['msg']}") from None


@app.command("s3-local")
def s3_local(
    data: Annotated[Path, typer.Option(help="Where objects and keys are kept.")],
    port: Port = 0,
    faults: BucketFaults = None,
    as_json: Json = False,
) -> None:
    """Run the S3 server alone."""
    from infra.local.s3_door import local_door
    from infra.local.s3_server import local_s3

    wrong = _bucket_faults(faults)
    with ExitStack() as stack:
        s3 = stack.enter_context(local_s3(data, port=0 if wrong else port))
        if wrong:
            s3 = stack.enter_context(local_door(s3, port=port, faults=wrong)).s3
        _ready(
            as_json,
            endpoint=s3.endpoint,
            region=s3.region,
            access_key_id=s3.access_key_id,
            secret_access_key=s3.secret_access_key,
            bucket=s3.bucket,
        )
        _wait()


def _bucket_faults(path: Path | None) -> Any:
    from infra.local.s3_door import faults_from_json

    if path is None:
        return None
    require_files([path])
    try:
        return faults_from_json(path.read_bytes())
    except ValueError as error:
        raise typer.BadParameter(f"{path}: {error}") from None


def _ready(as_json: bool, **facts: str) -> None:
    lines.show(facts, as_json, lines.of_facts)


def _wait() -> None:
    """Return when the process gets a signal to stop."""
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


def main() -> None:
    """Run the command. An error that a person can fix is one line; Ctrl-C prints no traceback."""
    try:
        app(standalone_mode=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        text = _explained(error)
        if text is None:
            raise
        print(f"refresher: {text}", file=sys.stderr)
        sys.exit(1)


def _explained(error: Exception) -> str | None:
    """Return the line for an error that a person can fix, or None for a defect."""
    import httpx

    from control.settings import SettingsError
    from infra.ports import NotStarted, OutsideError
    from infra.provision.run import StepFailed
    from video_refresher import ApiError

    if isinstance(error, ApiError | SettingsError | NotStarted | OutsideError | StepFailed | OSError):
        return str(error)
    if isinstance(error, httpx.HTTPError):
        return unanswered(error)
    return None
