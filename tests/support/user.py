"""A user of the HTTP API in a few lines of httpx, so that the public API is what is tested."""

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path
from typing import Any, cast

import httpx

from tests.support.processes import until

LIVE = ("queued", "launching", "running")
WAIT_S = 180.0
POLL_S = 0.05


class User:
    """Signed in at `http`. Methods assert that what they ask for is granted."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def open_upload(self, size_bytes: int, *, name: str = "clip.mp4") -> dict[str, Any]:
        body = {"name": name, "size_bytes": size_bytes, "content_type": "video/mp4"}
        return ok(self.http.post("/api/uploads", json=body), 201)

    def put_parts(self, upload: dict[str, Any], content: bytes) -> list[dict[str, Any]]:
        size, done = upload["part_size_bytes"], []
        for part in upload["parts"]:
            start = (part["number"] - 1) * size
            answer = httpx.put(part["url"], content=content[start : start + size])
            assert answer.status_code == 200, answer.text
            done.append({"number": part["number"], "etag": answer.headers["etag"]})
        return done

    def try_upload(self, content: bytes, *, name: str = "clip.mp4") -> httpx.Response:
        """Return the answer to the `complete` of an upload of `content`."""
        upload = self.open_upload(len(content), name=name)
        parts = self.put_parts(upload, content)
        return self.http.post(f"/api/uploads/{upload['upload_id']}/complete", json={"parts": parts})

    def upload(self, clip: Path | bytes, *, name: str = "") -> str:
        """Upload a clip and return its source id."""
        content = clip if isinstance(clip, bytes) else clip.read_bytes()
        name = name or (clip.name if isinstance(clip, Path) else "clip.mp4")
        return str(ok(self.try_upload(content, name=name), 200)["source_id"])

    def submit(self, *sources: str, variations: int, kind: str = "batches", **more: Any) -> dict[str, Any]:
        """Submit sources by their ids or URLs."""
        named = [{"url" if "://" in source else "source_id": source} for source in sources]
        body = {"sources": named, "variations": variations, **more}
        return ok(self.http.post(f"/api/{kind}", json=body), 202)

    def show(self, id_: str) -> dict[str, Any]:
        return ok(self.http.get(address(id_)), 200)

    def watch(self, id_: str) -> list[dict[str, Any]]:
        """Return every different state of a job or batch that was seen, the last one being its end."""
        seen: list[dict[str, Any]] = []
        deadline = time.monotonic() + WAIT_S
        while True:
            shown = self.show(id_)
            if not seen or facts(shown) != facts(seen[-1]):
                seen.append(shown)
            if shown["status"] not in LIVE:
                return seen
            assert time.monotonic() < deadline, f"did not end in {WAIT_S} s: {shown}"
            time.sleep(POLL_S)

    def wait(self, id_: str) -> dict[str, Any]:
        """Return a job or batch at its end."""

        def ended() -> dict[str, Any] | None:
            shown = self.show(id_)
            return shown if shown["status"] not in LIVE else None

        return cast(dict[str, Any], until(ended, wait_s=WAIT_S))

    def unzip(self, id_: str) -> dict[str, bytes]:
        """Return the files of a job's or batch's ZIP, by name."""
        answer = self.http.get(f"{address(id_)}/download")
        assert answer.status_code == 200, answer.text
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


def sign_in(http: httpx.Client, password: str) -> None:
    token = ok(http.post("/api/auth", json={"password": password}), 200)["token"]
    http.headers["Authorization"] = f"Bearer {token}"


def ok(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Return the body of an answer that has this status."""
    assert answer.status_code == status, f"{answer.request.url} {answer.status_code}: {answer.text}"
    body: dict[str, Any] = answer.json()
    return body


def address(id_: str) -> str:
    return f"/api/jobs/{id_}" if id_.startswith("job_") else f"/api/batches/{id_}"


def outputs(shown: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the outputs of a job or batch, in order."""
    return [output for source in shown["sources"] for output in source["outputs"]]


def facts(shown: dict[str, Any]) -> dict[str, Any]:
    """Return what is shown without what changes on every look."""
    return {key: value for key, value in shown.items() if key not in ("ticket", "attempts", "cost_usd")}
