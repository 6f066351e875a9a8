"""What it takes to put Video Refresher on Fly, as a list of `fly` commands. PURE: nothing is run here.

Every step may be run again: what is there already is left as it is. A secret is named, never written into a
step: it reaches `fly` on stdin. Flags: https://fly.io/docs/flyctl/ (2026-08).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TOKEN_LIFE = "2160h"  # noqa: S105 - 90 days; by default it would be 20 years


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What a deployment is called and where it is."""

    name: str
    org: str
    region: str
    python_image: str

    @property
    def control(self) -> str:
        """The app of control."""
        return f"{self.name}-control"

    @property
    def runner(self) -> str:
        """The app that holds runners."""
        return f"{self.name}-runner"

    @property
    def bucket(self) -> str:
        """The bucket of videos, results and the database's copy."""
        return f"{self.name}-videos"

    @property
    def network(self) -> str:
        """The runners' private network: nothing else of the organisation is on it."""
        return f"{self.name}-runners"

    @property
    def url(self) -> str:
        """Where browsers reach control."""
        return f"https://{self.control}.fly.dev"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command. `{NAME}` in its words is a value that an earlier step has kept."""

    title: str
    argv: tuple[str, ...]
    stdin: tuple[str, ...] = ()  # values that go in as NAME=VALUE lines
    keeps: str | None = None  # the name under which what it printed is kept
    pattern: str = r"(\S+)\s*$"  # the part of it that is kept
    done_if: str = ""  # an error that says this means that it is done already
    shows_secrets: bool = False  # what it prints is for nobody to see


def up(d: Deployment) -> list[Step]:
    """Return the steps that make a new deployment, or bring one up to date."""
    return [*_create(d), *secrets(d), *release(d)]


def _create(d: Deployment) -> list[Step]:
    taken = "already been taken|already exists"
    bucket = ("fly", "storage", "create", "--app", d.control, "--org", d.org, "--name", d.bucket, "--yes")
    return [
        Step(
            title="The app of control",
            argv=("fly", "apps", "create", d.control, "--org", d.org),
            done_if=taken,
        ),
        Step(
            title="The app of the runners, on a network of its own",
            argv=("fly", "apps", "create", d.runner, "--org", d.org, "--network", d.network),
            done_if=taken,
        ),
        Step(
            title="The bucket; its keys become secrets of control",
            argv=bucket,
            done_if=f"{taken}|already has",
            shows_secrets=True,
        ),
    ]


def secrets(d: Deployment) -> list[Step]:
    """Return the steps that give control a new token for the runners' app, and its secrets."""
    return [
        Step(
            title="A token that can do nothing but manage the runners' app, for 90 days",
            argv=("fly", "tokens", "create", "deploy", "--app", d.runner, "--expiry", TOKEN_LIFE),
            keeps="FLY_API_TOKEN",
            pattern=r"(FlyV1 \S+|fm\d_\S+)",
        ),
        Step(
            title="Secrets, staged for the next release",
            argv=("fly", "secrets", "import", "--app", d.control, "--stage"),
            stdin=(
                "AUTH_PASSWORD",
                "TOKEN_SECRET",
                "TOKEN_SECRET_PREVIOUS",
                "WEBHOOK_SECRET",
                "FLY_API_TOKEN",
            ),
        ),
    ]


def release(d: Deployment) -> list[Step]:
    """Return the steps that build both images and start control with them."""
    base = ("--build-arg", f"PYTHON_IMAGE={d.python_image}")
    return [
        Step(
            title="Build and push the runner's image; nothing is started",
            argv=(
                "fly",
                "deploy",
                "--config",
                "fly.runner.toml",
                "--app",
                d.runner,
                "--build-only",
                "--push",
                *base,
            ),
            keeps="RUNNER_IMAGE",
            pattern=r"pushing manifest for (\S+@sha256:[0-9a-f]{64})",
        ),
        Step(
            title="Build, push and start control; the first time this makes its volume",
            argv=(
                *(
                    "fly",
                    "deploy",
                    "--config",
                    "fly.control.toml",
                    "--app",
                    d.control,
                    "--ha=false",
                    "--yes",
                    *base,
                ),
                *_env("PUBLIC_URL", d.url),
                *_env("RUNNER_APPS", d.runner),
                *_env("RUNNER_REGIONS", d.region),
                *_env("RUNNER_IMAGE", "{RUNNER_IMAGE}"),
            ),
        ),
        Step(
            title="Rules of the bucket: who may reach it from a page, what is forgotten",
            argv=("fly", "ssh", "console", "--app", d.control, "-C", "python3 -m control bucket-rules"),
        ),
    ]


def roll_back(d: Deployment, *, image: str) -> list[Step]:
    """Return the steps that start control with an earlier image of its own."""
    return [
        Step(title="Control's releases", argv=("fly", "releases", "--app", d.control, "--image")),
        Step(
            title="Start control from the earlier image; it must know the database's migrations",
            argv=(
                "fly",
                "deploy",
                "--config",
                "fly.control.toml",
                "--app",
                d.control,
                "--ha=false",
                "--yes",
                "--image",
                image,
            ),
        ),
    ]


def rotate(d: Deployment) -> list[Step]:
    """Return the steps that replace control's secrets; the previous TOKEN_SECRET still verifies."""
    return [
        *secrets(d),
        Step(title="Restart control with them", argv=("fly", "secrets", "deploy", "--app", d.control)),
        Step(
            title="Earlier tokens of the runners' app: revoke each but the newest by `fly tokens revoke ID`",
            argv=("fly", "tokens", "list", "--app", d.runner),
        ),
    ]


def down(d: Deployment) -> list[Step]:
    """Return the steps that remove everything, results and database included."""
    return [
        Step(title="The runners' app with its machines", argv=("fly", "apps", "destroy", d.runner, "--yes")),
        Step(title="Control with its volume", argv=("fly", "apps", "destroy", d.control, "--yes")),
        Step(
            title="The bucket with all that is in it",
            argv=("fly", "storage", "destroy", d.bucket, "--yes"),
        ),
    ]


def _env(name: str, value: str) -> Sequence[str]:
    return ("--env", f"{name}={value}")
