"""A bucket of the user as the place of results: `--to s3://BUCKET/PREFIX`.

The keys of the bucket stay on this machine. Control gets URLs, each of which can PUT one object, for a day.
Keys and endpoint come from the environment, by the names that AWS's own tools use.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import typer

from control.domain.filenames import folders
from control.domain.name_template import NameRefused, NameTemplate
from infra.hosts import is_http_url
from infra.presign import Presigner

URL_S = 24 * 3600  # how long a URL can be used: a batch that waits longer is not delivered
OUTPUTS_MAX = 1000  # of a batch: its URLs must fit into one request
TEMPLATE = "{source}_var{n}"  # without the digits that only control knows
KNOWN = {"source", "n"}  # the placeholders that this machine can fill in

_PLACE = re.compile(r"s3://(?P<bucket>[A-Za-z0-9._-]{3,255})(?:/(?P<prefix>.*))?")


@dataclass(frozen=True)
class Destination:
    """Where results go, and what signs URLs for it."""

    prefix: str  # "" or ends with a slash
    presigner: Presigner
    session_token: str = ""

    def urls(
        self, names: Sequence[str], *, variations: int | None, template: str | None, folder: str = ""
    ) -> list[list[str]]:
        """Return the URLs of the outputs of each source of a batch, by the names of its sources in order.

        `variations` is None for a preset. The objects have the names that the outputs have in the ZIP.
        """
        now = datetime.now(UTC)
        return [
            [self._url(f"{self.prefix}{folder}{path}", now) for path in _paths(source, variations, template)]
            for source in folders(names)
        ]

    def _url(self, key: str, now: datetime) -> str:
        query = {"X-Amz-Security-Token": self.session_token} if self.session_token else {}
        return self.presigner.url("PUT", key, now=now, expires_s=URL_S, query=query)


def _paths(source: str, variations: int | None, template: str | None) -> list[str]:
    name = NameTemplate(template or TEMPLATE)
    if variations is None:
        return [f"{source}/{name.file_name({'source': source})}.mp4"]
    numbers = [f"{number:02d}" for number in range(1, variations + 1)]
    return [f"{source}/{name.file_name({'source': source, 'n': number})}.mp4" for number in numbers]


def destination(place: str, env: Mapping[str, str]) -> Destination:
    """Return the destination that `--to` names. Raises BadParameter."""
    found = _PLACE.fullmatch(place)
    if not found:
        raise typer.BadParameter(
            "--to: name a bucket and a folder in it, like s3://bucket/folder."
            " The bucket's name has 3 characters or more."
        )
    missing = [name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY") if not env.get(name)]
    endpoint = env.get("AWS_ENDPOINT_URL_S3") or env.get("AWS_ENDPOINT_URL") or ""
    region = env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or ("auto" if endpoint else "")
    if not region:
        missing.append("AWS_REGION")
    if missing:
        raise typer.BadParameter(f"--to: set {', '.join(missing)}, with which this machine signs the URLs.")
    if endpoint and not is_http_url(endpoint):
        raise typer.BadParameter("--to: AWS_ENDPOINT_URL_S3 must be a URL like https://host.")
    prefix = (found["prefix"] or "").strip("/")
    return Destination(
        prefix=f"{prefix}/" if prefix else "",
        presigner=Presigner(
            endpoint=endpoint or f"https://s3.{region}.amazonaws.com",
            region=region,
            access_key_id=env["AWS_ACCESS_KEY_ID"],
            secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
            bucket=found["bucket"],
        ),
        session_token=env.get("AWS_SESSION_TOKEN", ""),
    )


def template_of(template: str | None, *, preset: str | None) -> str:
    """Return the template by which both control and this machine name the outputs. Raises BadParameter."""
    if template is None:
        return f"{{source}}_{preset}" if preset else TEMPLATE
    try:
        placeholders = NameTemplate(template).placeholders
    except NameRefused as why:
        raise typer.BadParameter(f"--name-template: {why}.") from None
    if unknown := sorted(placeholders - KNOWN):
        raise typer.BadParameter(
            f"--name-template: with --to, names are made before the submit, and {{{unknown[0]}}} is not known"
            " then; there are {source} {n}."
        )
    return template
