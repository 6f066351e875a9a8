"""`refresher provision`: create a deployment on Fly, check that it works, update it, remove it."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from control.cli import demo
from control.cli.client import Client
from control.cli.report import table
from infra.provision.run import names_of_secrets, run
from infra.provision.steps import Deployment, down, release, roll_back, rotate, up

GIVEN = ("AUTH_PASSWORD", "TOKEN_SECRET", "TOKEN_SECRET_PREVIOUS", "WEBHOOK_SECRET")


def provision(
    what: str, deployment: Deployment, environment: Mapping[str, str], *, image: str, apply: bool
) -> None:
    """Print the steps of `what`, and run them with `apply`. Raises StepFailed, ApiError.

    Secrets come from the environment. A token secret and a password that neither the environment nor Fly has
    are generated; the password is printed. Secrets at Fly stay, except the token secret with `rotate`.
    """
    console = Console()
    values = {name: environment[name] for name in GIVEN if environment.get(name)}
    if what == "up":
        kept = names_of_secrets(deployment.control) if apply else set()
        for name, size in (("AUTH_PASSWORD", 18), ("TOKEN_SECRET", 32)):
            if name not in kept:
                values.setdefault(name, secrets.token_urlsafe(size))
    elif what == "rotate":
        values.setdefault("TOKEN_SECRET", secrets.token_urlsafe(32))
    steps = {
        "up": lambda: up(deployment),
        "release": lambda: release(deployment),
        "roll-back": lambda: roll_back(deployment, image=image),
        "rotate": lambda: rotate(deployment),
        "down": lambda: down(deployment),
    }[what]()
    run(steps, values, apply=apply, say=lambda text: console.print(text, markup=False, highlight=False))
    if not apply:
        console.print("\nNothing was run. Run it with --apply.")
    elif "AUTH_PASSWORD" in values and what == "up":
        console.print(f"\n# The main job, on {deployment.url}")
        smoke(deployment.url, values["AUTH_PASSWORD"], console)
        console.print(
            f"\n{deployment.url}\npassword: {values['AUTH_PASSWORD']}", markup=False, highlight=False
        )


def smoke(url: str, password: str, console: Console) -> None:
    """Make one variation of a test clip with the deployment, show it, and delete it. Raises ApiError."""
    with tempfile.TemporaryDirectory(prefix="refresher-") as folder:
        clip = Path(folder, "clip.mp4")
        demo.make_clip(clip)
        with Client.signed_in(url, password=password) as client:
            sources, _ = demo.upload(client, [clip], console)
            batch = client.submit(sources, variations=1, seed=None)
            batch = demo.watch(client, batch["batch_id"], console)
            console.print(table(demo.result_of(client, batch)))
            client.delete(batch["batch_id"])
