"""`refresher provision`: create a deployment on Fly, check that it works, update it, remove it."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
from rich.console import Console

from control.cli import demo
from control.cli.report import table
from infra.hosts import DIRECT
from infra.provision.run import StepFailed, names_of_secrets, require_importable, run
from infra.provision.steps import Deployment, down, release, roll_back, rotate, up
from video_refresher import Client

GIVEN = ("AUTH_PASSWORD", "TOKEN_SECRET", "TOKEN_SECRET_PREVIOUS", "WEBHOOK_SECRET")
STEPS = {"up": up, "release": release, "roll-back": roll_back, "rotate": rotate, "down": down}
HEALTHY_WITHIN_S = 300.0  # a new name and its certificate take minutes to be known
ASK_EVERY_S = 3.0


def provision(what: str, deployment: Deployment, environment: Mapping[str, str], *, apply: bool) -> None:
    """Print the steps of `what`, and run them with `apply`. Raises StepFailed, ApiError.

    Secrets are taken from the environment. Those that are missing there and at Fly are made up: a token
    secret and a password, which is printed before the first step. What Fly has stays, except for the token
    secret of `rotate`.
    """
    console = Console()
    values = {name: environment[name] for name in GIVEN if environment.get(name)}
    require_importable(values)
    if what == "up":
        kept = names_of_secrets(deployment.control) if apply else set()
        for name, size in (("AUTH_PASSWORD", 18), ("TOKEN_SECRET", 32)):
            if name not in kept:
                values.setdefault(name, secrets.token_urlsafe(size))
    elif what == "rotate":
        values.setdefault("TOKEN_SECRET", secrets.token_urlsafe(32))
    if apply and "AUTH_PASSWORD" in values and not environment.get("AUTH_PASSWORD"):
        console.print(
            f"password: {values['AUTH_PASSWORD']}\n(made up now; keep it, it cannot be read back)",
            markup=False,
            highlight=False,
        )
    steps = STEPS[what](deployment)
    run(steps, values, apply=apply, say=lambda text: console.print(text, markup=False, soft_wrap=True))
    if not apply:
        console.print("\nNothing was run. Run it with --apply.")
    elif "AUTH_PASSWORD" in values and what == "up":
        console.print(f"\n# The main job, on {deployment.url}")
        wait_until_healthy(deployment.url)
        smoke(deployment.url, values["AUTH_PASSWORD"], console)


def wait_until_healthy(url: str, *, within_s: float = HEALTHY_WITHIN_S) -> None:
    """Return when control answers. Raises StepFailed after `within_s`."""
    give_up_at = time.monotonic() + within_s
    while not _is_healthy(url):
        if time.monotonic() >= give_up_at:
            raise StepFailed(f"{url} does not answer; everything else is done. Look at `fly logs`.")
        time.sleep(ASK_EVERY_S)


def _is_healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/api/health", timeout=10).is_success
    except httpx.HTTPError:
        return False


def smoke(url: str, password: str, console: Console) -> None:
    """Make one variation of a test clip with the deployment, show it, and delete it. Raises ApiError."""
    with tempfile.TemporaryDirectory(prefix="refresher-") as folder:
        clip = Path(folder, "clip.mp4")
        demo.make_clip(clip)
        with Client.signed_in(url, password=password, mounts=DIRECT) as client:
            sources, _ = demo.upload(client, {clip: clip.name}, console)
            batch = client.submit(list(sources.values()), variations=1)
            console.print(table(demo.result_of(client, demo.watch(client, batch.batch_id, console))))
            client.delete(batch.batch_id)
