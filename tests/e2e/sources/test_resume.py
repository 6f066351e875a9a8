"""Interrupted uploads, by the client library and through HTTP."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import httpx
import pytest

from control.uploads.service import PART_BYTES
from tests.support.bucket import MAX_SOURCE_BYTES, Bucket, padding
from tests.support.stack import PASSWORD, Patient, Stack
from tests.support.switches import SOAK_FULL
from tests.support.user import ok
from video_refresher import Client, Unfinished
from video_refresher import uploads as library


class Cut(BaseException):
    """The client's process ends."""


@pytest.fixture
def video(tmp_path: Path, clip: bytes) -> Path:
    """A playable video as large as one may be; no two parts of it are equal."""
    path, left = tmp_path / "large.mp4", MAX_SOURCE_BYTES - len(clip)
    with path.open("wb") as file:
        file.write(clip + padding(left))
        for start in range(16, left, PART_BYTES):
            file.write(random.Random(start).randbytes(1024).ljust(min(PART_BYTES, left - start), b"\0"))
    return path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URLs that parts were sent to."""
    made: list[str] = []
    put = library._put

    def counted(http: httpx.Client, url: str, content: bytes) -> str:
        made.append(url)
        if len(made) in CUT_AT:
            raise Cut
        return put(http, url, content)

    monkeypatch.setattr(library, "_put", counted)
    return made


CUT_AT = {30, 60, 100} if SOAK_FULL else {2, 5, 6}


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_an_upload_that_is_cut_off_three_times_completes_with_the_right_bytes(
    stack: Stack, bucket: Bucket, video: Path, calls: list[str], tmp_path: Path
) -> None:
    before, unfinished = bucket.sources(), Unfinished(tmp_path / "cache" / "uploads.json")
    for cuts in range(4):
        moved: list[int] = []
        with Client.signed_in(stack.url, password=PASSWORD, unfinished=unfinished) as client:
            if cuts < 3:
                with pytest.raises(Cut):
                    client.upload(video, on_bytes=moved.append)
            else:
                source = client.upload(video, on_bytes=moved.append)
    assert sum(moved) == source.size_bytes == video.stat().st_size
    assert len(calls) == -(-source.size_bytes // PART_BYTES) + 3  # only the parts that were cut off, again
    (key,) = bucket.sources() - before
    body = bucket.s3.get_object(Bucket=bucket.name, Key=key)["Body"]
    digest = hashlib.sha256()
    for chunk in iter(lambda: body.read(1 << 20), b""):
        digest.update(chunk)
    assert digest.hexdigest() == sha256_of(video)
    assert unfinished.get(stack.url, video), "until it is submitted"


def test_a_url_that_has_expired_is_replaced_by_a_fresh_one(
    stack: Stack, tmp_path: Path, clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, first = library._put, iter([True])

    def expired(http: httpx.Client, url: str, content: bytes) -> str:
        stale = url.replace("X-Amz-Signature=", "X-Amz-Signature=0") if next(first, False) else url
        return put(http, stale, content)

    monkeypatch.setattr(library, "_put", expired)
    path = tmp_path / "ad.mp4"
    path.write_bytes(clip)
    with Client.signed_in(stack.url, password=PASSWORD) as client:
        assert client.upload(path).size_bytes == len(clip)


def test_an_upload_that_was_aborted_before_is_started_again(
    stack: Stack, user: Patient, tmp_path: Path, clip: bytes
) -> None:
    path, unfinished = tmp_path / "ad.mp4", Unfinished(tmp_path / "uploads.json")
    path.write_bytes(clip)
    upload = user.open_upload(len(clip))
    unfinished.set(stack.url, path, upload["upload_id"])
    assert user.http.delete(f"/api/uploads/{upload['upload_id']}").status_code == 204
    with Client.signed_in(stack.url, password=PASSWORD, unfinished=unfinished) as client:
        assert client.upload(path).size_bytes == len(clip)


def test_an_upload_that_was_completed_but_never_answered_gives_its_source(
    stack: Stack, user: Patient, bucket: Bucket, tmp_path: Path, clip: bytes, calls: list[str]
) -> None:
    path, unfinished = tmp_path / "ad.mp4", Unfinished(tmp_path / "uploads.json")
    path.write_bytes(clip)
    upload = user.open_upload(len(clip))
    parts = user.put_parts(upload, clip)
    source = ok(user.http.post(f"/api/uploads/{upload['upload_id']}/complete", json={"parts": parts}), 200)
    before, moved = bucket.sources(), list[int]()
    with Client.signed_in(stack.url, password=PASSWORD, unfinished=unfinished) as client:
        unfinished.set(client._api.url, path, upload["upload_id"])
        assert client.upload(path, on_bytes=moved.append).source_id == source["source_id"]
        assert (calls, sum(moved)) == ([], len(clip))
        assert bucket.sources() == before
        assert unfinished.get(client._api.url, path) == upload["upload_id"], "until it is submitted"


class Refusing(httpx.MockTransport):
    """A control that loses the answer to the first `complete`, or has lost the source since."""

    def __init__(self, *, is_gone: bool) -> None:
        self.is_gone, self.calls = is_gone, list[str]()
        super().__init__(self.answer)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(f"{request.method} {request.url.path}")
        upload = {"part_size_bytes": 10, "parts": [], "expires_at": "2026-01-01T00:00:00Z", "state": "open"}
        if request.method == "GET" and self.is_gone:
            return httpx.Response(410, json={"error": {"code": "source_gone", "message": "gone"}})
        if request.method == "GET":
            return httpx.Response(200, json={**upload, "upload_id": "upl_1", "source_id": "src_1"})
        if request.url.path == "/api/uploads":
            part = {"number": 1, "etag": "e", "size_bytes": 3}
            return httpx.Response(201, json={**upload, "upload_id": "upl_2", "parts": [part]})
        if "upl_1" in request.url.path:
            return httpx.Response(422, json={"error": {"code": "invalid", "message": "no parts"}})
        if len(self.calls) == 2 and not self.is_gone:
            raise httpx.ReadError("cut", request=request)
        return httpx.Response(200, json={"source_id": "src_2"})


def test_a_completed_upload_whose_source_is_gone_is_sent_again(tmp_path: Path) -> None:
    path, unfinished, control = tmp_path / "a.mp4", Unfinished(tmp_path / "u.json"), Refusing(is_gone=True)
    path.write_bytes(b"abc")
    http = httpx.Client(base_url="http://c", transport=control)
    unfinished.set(str(http.base_url), path, "upl_1")
    assert Client(http, unfinished=unfinished).upload(path).source_id == "src_2"
    assert control.calls == [
        "GET /api/uploads/upl_1",
        "POST /api/uploads",
        "POST /api/uploads/upl_2/complete",
    ]


def test_a_completion_whose_answer_was_lost_counts_no_byte_twice(tmp_path: Path) -> None:
    path, control, moved = tmp_path / "a.mp4", Refusing(is_gone=False), list[int]()
    path.write_bytes(b"abc")
    source = Client(httpx.Client(base_url="http://c", transport=control)).upload(path, on_bytes=moved.append)
    assert source.source_id == "src_1"
    assert sum(moved) == 3


def test_a_changed_file_and_a_broken_memory_start_again(tmp_path: Path) -> None:
    file, memory = tmp_path / "ad.mp4", tmp_path / "uploads.json"
    file.write_bytes(b"one")
    unfinished = Unfinished(memory)
    unfinished.set("http://a", file, "upl_1")
    assert unfinished.get("http://a", file) == "upl_1"
    assert unfinished.get("http://b", file) is None
    file.write_bytes(b"other")
    assert unfinished.get("http://a", file) is None
    memory.write_text("{broken")
    assert unfinished.get("http://a", file) is None
    Unfinished(file / "no folder").set("http://a", file, "upl_1")


def test_the_state_of_an_upload_shows_stored_parts_with_etags_and_missing_ones_with_urls(
    user: Patient, clip: bytes
) -> None:
    size = PART_BYTES + 5
    upload = user.open_upload(size)
    address = f"/api/uploads/{upload['upload_id']}"
    assert [sorted(part) for part in upload["parts"]] == [["number", "url"]] * 2
    etag = httpx.put(upload["parts"][1]["url"], content=b"12345").headers["etag"].strip('"')
    shown = ok(user.http.get(address), 200)
    assert shown["part_size_bytes"] == PART_BYTES
    assert shown["parts"][1] == {"number": 2, "etag": etag, "size_bytes": 5}
    assert sorted(shown["parts"][0]) == ["number", "url"]
    assert httpx.put(shown["parts"][0]["url"], content=bytes(PART_BYTES)).status_code == 200
    parts = [{"number": p["number"], "etag": p["etag"]} for p in ok(user.http.get(address), 200)["parts"]]
    for _ in range(2):
        answer = user.http.post(f"{address}/complete", json={"parts": parts})
        assert ok(answer, 422)["error"]["code"] == "not_playable"
    assert ok(user.http.get(address), 422)["error"]["code"] == "not_playable"


def test_the_state_of_an_upload_that_is_over_says_so(user: Patient, clip: bytes) -> None:
    ok(user.http.get("/api/uploads/upl_none"), 404)
    upload = user.open_upload(len(clip))
    address = f"/api/uploads/{upload['upload_id']}"
    parts = user.put_parts(upload, clip)
    source = ok(user.http.post(f"{address}/complete", json={"parts": parts}), 200)
    shown = ok(user.http.get(address), 200)
    assert (shown["state"], shown["source_id"], shown["parts"]) == ("completed", source["source_id"], [])
    upload = user.open_upload(len(clip))
    address = f"/api/uploads/{upload['upload_id']}"
    for _ in range(2):
        assert user.http.delete(address).status_code == 204
    assert ok(user.http.get(address), 410)["error"]["code"] == "gone"
