"""The deployment of Video Refresher on Fly, as a list of `fly` commands. PURE: nothing is run here.

Every step can be repeated. What exists is left unchanged; a command looks it up, and no error text is
interpreted. A step has the name of a secret, never its value, which `fly` reads from stdin. Flags:
superfly/flyctl ad0172f and https://fly.io/docs/flyctl/ (2026-11). Not yet run against the real Fly.

One file, since it is one list of commands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

TOKEN_LIFE = "2160h"  # noqa: S105 - 90 days; by default it would be 20 years
HOLDER_ROLE = "image-holder"
IDLE_S = "300"  # how long control waits for another request before it ends itself

Find = Callable[[str], str | None]  # what a command printed -> what to keep of it
Choose = Callable[[str, Mapping[str, str]], str | None]  # the same, given what earlier steps have kept


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """The names and the region of a deployment. `label` names a release: the tag of both its images."""

    name: str
    org: str
    region: str
    python_image: str = ""
    label: str = ""
    runner_apps: int = 1
    more_regions: tuple[str, ...] = ()  # of runners alone, after `region`
    sleeps: bool = False  # control ends itself when it is idle

    @property
    def control(self) -> str:
        """The app of control."""
        return f"{self.name}-control"

    @property
    def runner(self) -> str:
        """The first app of the runners, which holds their image."""
        return f"{self.name}-runner"

    @property
    def runners(self) -> Sequence[str]:
        """All apps of the runners: creates are limited per app, so that more of them launch faster."""
        return [self.runner, *(f"{self.runner}-{n}" for n in range(2, self.runner_apps + 1))]

    @property
    def bucket(self) -> str:
        """The bucket of videos, results and the database's copy."""
        return f"{self.name}-videos"

    @property
    def network(self) -> str:
        """The runners' private network. Nothing else of the organisation uses it."""
        return f"{self.name}-runners"

    @property
    def url(self) -> str:
        """The address of control for browsers."""
        return f"https://{self.control}.fly.dev"

    def image(self, app: str) -> str:
        """Return the reference of an app's image of this release."""
        return f"registry.fly.io/{app}:{self.label}"


@dataclass(frozen=True, kw_only=True)
class Look:
    """A command that shows whether something exists already; `find` returns it, or None."""

    argv: tuple[str, ...]
    find: Find


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command. `{NAME}` in its words and in `stdin` is a value that an earlier step has kept."""

    title: str
    argv: tuple[str, ...]
    unless: Look | None = None  # the step is done when this finds something
    stdin: Mapping[str, str] = field(default_factory=dict)  # NAME -> value, given as NAME=VALUE lines
    needs: str = ""  # the step is skipped without this value
    keeps: str = ""  # the name under which `find` of what was printed is kept
    find: Find = str
    choose: Choose | None = None  # in place of `find`
    otherwise: str = ""  # what is kept when nothing is found
    is_optional: bool = False  # nothing needs to be found or kept
    shows_secrets: bool = False  # what it prints must not be shown


def matching(pattern: str) -> Find:
    """Return a function that finds the pattern's group in a text."""

    def find(text: str) -> str | None:
        found = re.search(pattern, text)
        return found[1] if found else None

    return find


def up(d: Deployment) -> list[Step]:
    """Return the steps that make a new deployment, or bring one up to date."""
    return [*_create(d), *secrets(d), *release(d)]


def _create(d: Deployment) -> list[Step]:
    bucket = ("fly", "storage", "create", "--app", d.control, "--org", d.org, "--name", d.bucket, "--yes")
    return [
        _app(d, d.control, "The app of control"),
        *(
            _app(d, app, "An app of the runners, on a network of their own", "--network", d.network)
            for app in d.runners
        ),
        Step(
            title="The bucket; its keys become secrets of control. Tigris' terms must be accepted once per "
            "organisation: if this step fails, run it by hand and answer",
            argv=bucket,
            unless=Look(argv=("fly", "storage", "list", "--org", d.org), find=_bucket_in(d)),
            shows_secrets=True,
        ),
    ]


def _bucket_in(d: Deployment) -> Find:
    return matching(rf"(?m)^\W*({re.escape(d.bucket)})\s")


def _app(d: Deployment, name: str, title: str, *more: str) -> Step:
    def is_listed(text: str) -> str | None:
        return name if any(app.get("Name") == name for app in _json_list(text)) else None

    return Step(
        title=title,
        argv=("fly", "apps", "create", name, "--org", d.org, *more),
        unless=Look(argv=("fly", "apps", "list", "--org", d.org, "--json"), find=is_listed),
    )


def _no_app(name: str, title: str) -> Step:
    def is_gone(text: str) -> str | None:
        others = [app for app in _json_list(text) if app.get("Name") != name]
        return name if text.strip() == "[]" or (others and others == _json_list(text)) else None

    return Step(
        title=title,
        argv=("fly", "apps", "destroy", name, "--yes"),
        unless=Look(argv=("fly", "apps", "list", "--json"), find=is_gone),  # of any organisation
    )


def _json_list(text: str) -> list[dict[str, object]]:
    try:
        found = json.loads(text)
    except ValueError:
        return []
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def secrets(d: Deployment) -> list[Step]:
    """Return the steps that give control new tokens, one for each app of the runners, and its secrets."""
    tokens = {app: f"TOKEN_{number}" for number, app in enumerate(d.runners, 1)}
    pairs = " ".join(f"{app}={{{kept}}}" for app, kept in tokens.items())
    given = ("AUTH_PASSWORD", "TOKEN_SECRET", "TOKEN_SECRET_PREVIOUS", "WEBHOOK_SECRET")
    return [
        *(
            Step(
                title=f"A token that can only manage {app}, for 90 days",
                argv=("fly", "tokens", "create", "deploy", "--app", app, "--expiry", TOKEN_LIFE),
                keeps=kept,
                find=matching(r"(FlyV1 \S+|fm\d_\S+)"),
            )
            for app, kept in tokens.items()
        ),
        Step(
            title="Secrets, staged for the next release",
            argv=("fly", "secrets", "import", "--app", d.control, "--stage"),
            stdin={name: f"{{{name}}}" for name in given} | {"FLY_API_TOKEN": pairs},
        ),
    ]


def release(d: Deployment) -> list[Step]:
    """Return the steps that build both images and start control with them."""
    base = ("--build-arg", f"PYTHON_IMAGE={d.python_image}", "--image-label", d.label)
    build = ("fly", "deploy", "--config", "fly.runner.toml", "--app", d.runner, "--build-only", "--push")
    return [
        Step(
            title="Build and push the runner's image; nothing is started",
            argv=(*build, *base),
            keeps="RUNNER_IMAGE",
            # only some builders print the digest; the label is as good, since no other release has it
            find=matching(r"pushing manifest for (\S+@sha256:[0-9a-f]{64})"),
            otherwise=d.image(d.runner),
        ),
        *_hold(d),
        Step(
            title="Build, push and start control; the first time this makes its volume",
            argv=(*_deploy(d), *base),
        ),
        *_let_go(d),
    ]


def _deploy(d: Deployment) -> tuple[str, ...]:
    """Return the deploy of control. Each one replaces the environment of the last, so all of it is given."""
    where = ("--config", "fly.control.toml", "--app", d.control, "--primary-region", d.region)
    env = {
        "PUBLIC_URL": d.url,
        "RUNNER_APPS": ",".join(d.runners),
        "RUNNER_REGIONS": ",".join((d.region, *d.more_regions)),
        "RUNNER_IMAGE": "{RUNNER_IMAGE}",
        **({"STOP_WHEN_IDLE_S": IDLE_S} if d.sleeps else {}),
    }
    given = (word for name, value in env.items() for word in ("--env", f"{name}={value}"))
    return ("fly", "deploy", *where, "--ha=false", "--yes", *given)


def _hold(d: Deployment) -> list[Step]:
    """Return the steps that keep Fly from pruning the runner's image: a machine that is never started.

    Those of this release and of the one that is live until now stay, so that a roll-back finds its image.
    """

    def oldest_of_the_others(text: str, kept: Mapping[str, str]) -> str | None:
        """Return the holder that neither release needs; none while it is unknown what is live."""
        needed = {f"{HOLDER_ROLE}-{label}" for label in (d.label, kept.get("LIVE_LABEL"))}
        others = [machine for machine in _holders(text) if _name(machine) not in needed]
        others.sort(key=lambda machine: str(machine.get("created_at", "")))
        return str(others[0]["id"]) if others and "LIVE_LABEL" in kept else None

    metadata = ("--metadata", f"role={HOLDER_ROLE}")
    create = ("fly", "machine", "create", "{RUNNER_IMAGE}", "--app", d.runner, "--region", d.region)
    return [
        Step(
            title="Which release is live",
            argv=("fly", "machine", "list", "--app", d.control, "--json"),
            keeps="LIVE_LABEL",
            find=matching(rf"registry\.fly\.io/{re.escape(d.control)}:([\w.-]+)"),
            is_optional=True,
        ),
        Step(
            title="Which machine holds the image of neither this release nor the live one",
            argv=("fly", "machine", "list", "--app", d.runner, "--json"),
            keeps="OLD_HOLDER",
            choose=oldest_of_the_others,
            is_optional=True,
        ),
        Step(
            title="A machine that is never started, so that Fly keeps the runner's image",
            argv=(*create, "--name", f"{HOLDER_ROLE}-{d.label}", *metadata, "--vm-size", "shared-cpu-1x"),
            unless=Look(
                argv=("fly", "machine", "list", "--app", d.runner, "--json"),
                find=lambda text: next(
                    (name for name in map(_name, _holders(text)) if name == f"{HOLDER_ROLE}-{d.label}"), None
                ),
            ),
        ),
    ]


def _let_go(d: Deployment) -> list[Step]:
    """Return the last step: a release that fails keeps every image."""
    return [
        Step(
            title="An image that neither this release nor a roll-back to the last one needs",
            argv=("fly", "machine", "destroy", "{OLD_HOLDER}", "--app", d.runner, "--force"),
            needs="OLD_HOLDER",
        ),
    ]


def _holders(text: str) -> list[dict[str, object]]:
    return [machine for machine in _json_list(text) if _name(machine).startswith(f"{HOLDER_ROLE}-")]


def _name(machine: Mapping[str, object]) -> str:
    return str(machine.get("name", ""))


def roll_back(d: Deployment) -> list[Step]:
    """Return the steps that start control as it was in the release `d.label`, with its runner's image."""
    return [
        Step(title="Control's releases", argv=("fly", "releases", "--app", d.control, "--image")),
        Step(
            title="The runner's image of that release must still be there",
            argv=("fly", "machine", "list", "--app", d.runner, "--json"),
            keeps="RUNNER_IMAGE",
            find=lambda text: (
                d.image(d.runner) if f"{HOLDER_ROLE}-{d.label}" in map(_name, _holders(text)) else None
            ),
        ),
        Step(
            title="Start control from the earlier image; it must know the database's migrations",
            argv=(*_deploy(d), "--image", d.image(d.control)),
        ),
    ]


def rotate(d: Deployment) -> list[Step]:
    """Return the steps that replace control's secrets; the previous TOKEN_SECRET still verifies."""
    return [
        *secrets(d),
        Step(title="Restart control with them", argv=("fly", "secrets", "deploy", "--app", d.control)),
        *(
            Step(
                title=f"Earlier tokens of {app}: revoke each but the newest by `fly tokens revoke ID`",
                argv=("fly", "tokens", "list", "--app", app),
            )
            for app in d.runners
        ),
    ]


def down(d: Deployment) -> list[Step]:
    """Return the steps that remove everything, results and database included."""

    def bucket_is_gone(text: str) -> str | None:
        """Return the bucket's name if a list was printed and does not have it."""
        is_list = re.search(r"(?m)^\W*NAME\s", text)
        return d.bucket if is_list and not _bucket_in(d)(text) else None

    return [
        *(_no_app(app, f"{app} with its machines") for app in d.runners),
        _no_app(d.control, "Control with its volume"),
        Step(
            title="The bucket with all that is in it",
            argv=("fly", "storage", "destroy", d.bucket, "--yes"),
            unless=Look(argv=("fly", "storage", "list", "--org", d.org), find=bucket_is_gone),
        ),
    ]
