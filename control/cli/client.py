"""A client of control's public API, for the CLI and the demo. Must never know more than docs/api.md says.

One file because it is one list of calls.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import httpx

from control.cli.errors import ApiError
from control.cli.resume import Unfinished
from control.cli.upload import OnBytes, Uploader, read
from control.uploads import mp4
from infra.hosts import DIRECT

BUSY_TRIES = 10  # retries of a call: a 503 with Retry-After has done nothing
CHUNK_BYTES = 256 * 1024

SILENCE_S_MAX = 45.0  # without a byte of an event stream, which sends a ping three times as often


@dataclass(frozen=True)
class StreamEvent:
    """One event of a stream. A later stream resumes after the `id`; a `progress` event has none."""

    name: str
    data: dict[str, Any]
    id: int | None


class Client:
    """A signed-in client. Raises ApiError for a refusal, httpx.HTTPError when control does not answer."""

    def __init__(self, http: httpx.Client, unfinished: Unfinished | None = None) -> None:
        self._http, self._unfinished = http, unfinished
        self._bucket = httpx.Client(timeout=60, mounts=DIRECT)

    @classmethod
    @contextmanager
    def signed_in(
        cls, url: str, *, password: str = "", token: str = "", unfinished: Unfinished | None = None
    ) -> Iterator[Client]:
        """Yield a client of the control at `url`, signed in with its password unless a token is given.

        With `unfinished` the client resumes interrupted uploads.
        """
        with httpx.Client(base_url=url, timeout=60, mounts=DIRECT) as http:
            client = cls(http, unfinished)
            if not token:
                token = client._call("POST", "/api/auth", json={"password": password})["token"]
            http.headers["Authorization"] = f"Bearer {token}"
            with client._bucket:
                yield client

    def upload(self, path: Path, on_bytes: OnBytes = lambda _: None) -> dict[str, Any]:
        """Upload a video in parallel parts directly to the bucket, and return its source: see `Uploader`."""
        address = str(self._http.base_url)
        return Uploader(self._call, self._bucket, address, self._unfinished).upload(path, on_bytes)

    def submit(
        self, source_ids: Sequence[str], *, urls: Sequence[str] = (), **choices: Any
    ) -> dict[str, Any]:
        """Submit a batch of uploaded sources and links, and return it.

        `choices` has the other fields of `POST /api/batches`; one that is None is left out.
        """
        sources = [{"source_id": source_id} for source_id in source_ids]
        return self._call("POST", "/api/batches", json=_request([*sources, *_links(urls)], choices))

    def quote(self, videos: Sequence[Path], *, urls: Sequence[str] = (), **choices: Any) -> dict[str, Any]:
        """Return the quote for a batch of these videos and links. Videos are read here, and not uploaded.

        `choices` is as for `submit`. Raises mp4.NotPlayable.
        """
        sources = [_facts(path) for path in videos]
        return self._call("POST", "/api/quote", json=_request([*sources, *_links(urls)], choices))

    def costs(self, **days: str | None) -> dict[str, Any]:
        """Return the costs; `days` are `from` and `to`."""
        query = {name: day for name, day in days.items() if day}
        return self._call("GET", "/api/costs", params=query)

    def show(self, id_: str) -> dict[str, Any]:
        """Return the job or batch of this id."""
        return self._call("GET", _address(id_))

    def events(self, id_: str, *, after: int = 0) -> Iterator[StreamEvent]:
        """Yield the events of a job or batch that follow the event `after`. The first shows its progress.

        Ends after `end`, or at once if `end` is not later than `after`. Also ends when control closes the
        stream, which can happen at any time. Raises httpx.HTTPError when the connection breaks.
        """
        address, headers = f"{_address(id_)}/events", {"Last-Event-ID": str(after)}
        timeout = httpx.Timeout(60, read=SILENCE_S_MAX)
        with self._http.stream("GET", address, headers=headers, timeout=timeout) as answer:
            if answer.is_error:
                answer.read()
            _check(answer)
            yield from _events_in(answer.iter_lines())

    def newest(self, noun: str, *, limit: int, q: str = "") -> list[dict[str, Any]]:
        """Return the newest `jobs` or `batches`, as lists show them; with `q` those with it in a name."""
        found: list[dict[str, Any]] = []
        cursor = None
        while len(found) < limit:
            query = {"limit": min(100, limit - len(found)), "q": q, "cursor": cursor or ""}
            page = self._call("GET", f"/api/{noun}", params=query)
            found, cursor = found + page["items"], page["next_cursor"]
            if cursor is None:
                break
        return found

    def cancel(self, id_: str) -> dict[str, Any]:
        """Cancel a job or batch and return it."""
        return self._call("POST", f"{_address(id_)}/cancel")

    def retry(self, id_: str) -> dict[str, Any]:
        """Make the missing outputs of an ended job or batch again, and return it."""
        return self._call("POST", f"{_address(id_)}/retry")

    def delete(self, id_: str) -> None:
        """Delete a job or batch with its files."""
        _check(self._http.delete(_address(id_)))

    def machines(self) -> list[dict[str, Any]]:
        """Return the machines of control that exist in the cloud now."""
        items: list[dict[str, Any]] = self._call("GET", "/api/machines")["items"]
        return items

    def reap(self, *, dry_run: bool) -> list[dict[str, Any]]:
        """Destroy the machines that belong to no attempt and return them; with `dry_run` only return them."""
        query = {"dry_run": dry_run}
        items: list[dict[str, Any]] = self._call("POST", "/api/machines/reap", params=query)["items"]
        return items

    def download(self, id_: str, to: BinaryIO, on_bytes: OnBytes = lambda _: None) -> None:
        """Write the ZIP of a job or batch. Raises httpx.HTTPError when the connection breaks."""
        with self.zip(id_) as answer:
            for chunk in answer.iter_raw(CHUNK_BYTES):
                to.write(chunk)
                on_bytes(len(chunk))

    @contextmanager
    def zip(self, id_: str, *, start: int = 0, tag: str = "") -> Iterator[httpx.Response]:
        """Yield the answer with the ZIP of a job or batch; the caller reads the body.

        With the `tag` of an ETag it is a 206 with the bytes from `start`, if the archive has not changed.
        """
        headers = {"Range": f"bytes={start}-", "If-Range": f'"{tag}"'} if tag else {}
        with self._http.stream("GET", f"{_address(id_)}/download", headers=headers) as answer:
            if answer.is_error:
                answer.read()
            _check(answer)
            yield answer

    def _call(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        answer = self._http.request(method, path, **content)
        for _ in range(BUSY_TRIES):
            if answer.status_code != 503 or "Retry-After" not in answer.headers:
                break
            time.sleep(float(answer.headers["Retry-After"]) * random.uniform(0.5, 1.5))  # noqa: S311
            answer = self._http.request(method, path, **content)
        _check(answer)
        body: dict[str, Any] = answer.json()
        return body


def _links(urls: Sequence[str]) -> list[dict[str, Any]]:
    return [{"url": url} for url in urls]


def _request(sources: Sequence[dict[str, Any]], choices: dict[str, Any]) -> dict[str, Any]:
    return {"sources": sources, **{name: value for name, value in choices.items() if value is not None}}


def _address(id_: str) -> str:
    noun = "jobs" if id_.startswith("job_") else "batches"
    return f"/api/{noun}/{quote(id_, safe='')}"


def _check(answer: httpx.Response) -> None:
    if answer.is_error:
        try:
            error = answer.json()["error"]
            raise ApiError(answer.status_code, error["code"], error["message"])
        except (ValueError, KeyError, TypeError):
            text = f"{answer.request.url.path} answered {answer.status_code}"
            raise ApiError(answer.status_code, "unknown", text) from None


def _events_in(lines: Iterable[str]) -> Iterator[StreamEvent]:
    """Yield the events of a stream as control writes them: each has one line of data."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if name:  # a comment has none
            fields[name] = value
        elif not line:
            if "data" in fields:
                id_ = int(fields["id"]) if "id" in fields else None
                yield StreamEvent(fields["event"], json.loads(fields["data"]), id_)
            fields = {}


def _facts(path: Path) -> dict[str, Any]:
    size_bytes = path.stat().st_size
    try:
        movie = mp4.look_into(lambda start, stop: read(path, start, stop - start), size_bytes=size_bytes)
    except mp4.NotPlayable as refusal:
        raise mp4.NotPlayable(f"{path.name}: {refusal}") from None
    facts = {"duration_s": movie.duration_s, "width": movie.width, "height": movie.height}
    return {"name": path.name, "size_bytes": size_bytes, **facts}
