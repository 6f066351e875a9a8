"""Connects the client to the control that the environment names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from infra.hosts import DIRECT, is_http_url

if TYPE_CHECKING:
    import httpx

    from video_refresher import Client


def place() -> tuple[str, str, str]:
    """Return control's address, its password and a token, as the environment names them; one may be empty.

    Raises BadParameter.
    """
    url, token = os.environ.get("REFRESHER_URL"), os.environ.get("REFRESHER_TOKEN", "")
    password = os.environ.get("REFRESHER_PASSWORD", "")
    if not url or not (token or password):
        raise typer.BadParameter("Set REFRESHER_URL, and REFRESHER_PASSWORD or REFRESHER_TOKEN.")
    if not is_http_url(url):
        raise typer.BadParameter("REFRESHER_URL must be a URL like https://host or http://host:port.")
    return url, password, token


@contextmanager
def connected() -> Iterator[Client]:
    """Yield a signed-in client, which resumes the uploads of this user. Raises BadParameter."""
    url, password, token = place()
    from video_refresher import Client, Unfinished

    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    unfinished = Unfinished(Path(cache, "refresher", "uploads.json"))
    with Client.signed_in(
        url, password=password, token=token, unfinished=unfinished, mounts=DIRECT
    ) as client:
        yield client


def unanswered(error: httpx.HTTPError) -> str:
    """Return the line for a call without an answer. It names the server without the rest of the URL."""
    url = error.request.url
    return f"{url.scheme}://{url.netloc.decode()} does not answer ({type(error).__name__})"
