"""Uploads on a real bucket, cut off and raced: whatever is given up or refused leaves no object behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from control.api import uploads
from control.errors import Code, ControlError
from control.shapes import NewUpload, PartDone, UploadDone, UploadStarted
from control.tables import Source, Upload
from infra.ports import Unanswered
from infra.tigris import TigrisStorage
from tests.runner.clips import make_clip


class Uploads:
    """The routes' functions, on a bucket that can be told to interrupt."""

    def __init__(self, parts: Any, storage: TigrisStorage) -> None:
        self.storage = storage
        router = uploads.routes(replace(parts, storage=self), lambda: None)
        self.start, self.complete, self.abort = (route.endpoint for route in router.routes)
        self.before: dict[str, Callable[[], object]] = {}

    def __getattr__(self, name: str) -> Any:
        """Stand in for the bucket: run what is to happen before this call, once."""
        self.before.pop(name, lambda: None)()
        return getattr(self.storage, name)

    def opened(self, content: bytes) -> tuple[UploadStarted, UploadDone]:
        new = NewUpload(name="clip.mp4", size_bytes=len(content), content_type="video/mp4")
        upload = self.start(new)
        etag = httpx.put(upload.parts[0].url, content=content).raise_for_status().headers["etag"]
        return upload, UploadDone(parts=[PartDone(number=1, etag=etag)])


@pytest.fixture
def bucket(parts, storage) -> Uploads:
    return Uploads(parts, storage)


@pytest.fixture(scope="module")
def clip(ffmpeg, tmp_path_factory) -> bytes:
    return make_clip(ffmpeg, tmp_path_factory.mktemp("clips") / "clip.mp4").read_bytes()


def away() -> None:
    raise Unanswered("away")


def row(rows) -> Upload:
    (upload,) = rows.all(Upload)
    return upload


@pytest.mark.parametrize("moment", ["complete_multipart", "head", "read"])
def test_an_abort_while_a_completion_runs_leaves_no_object(bucket, rows, clip, moment):
    upload, done = bucket.opened(clip)
    bucket.before[moment] = lambda: bucket.abort(upload.upload_id)
    with pytest.raises(ControlError) as refused:
        bucket.complete(upload.upload_id, done)
    assert refused.value.code in (Code.GONE, Code.INVALID)
    assert row(rows).state == "aborted"
    assert rows.all(Source) == []
    assert bucket.storage.head(row(rows).key) is None


def test_a_completion_while_an_abort_runs_leaves_a_source_or_no_object(bucket, rows, clip):
    upload, done = bucket.opened(clip)
    bucket.before["abort_multipart"] = lambda: bucket.complete(upload.upload_id, done)
    bucket.abort(upload.upload_id)
    assert row(rows).state == "completed"
    assert bucket.storage.head(row(rows).key) is not None


@pytest.mark.parametrize("call", ["abort_multipart", "delete"])
def test_an_abort_that_the_bucket_did_not_answer_is_mended_by_its_repeat(bucket, rows, clip, call):
    upload, done = bucket.opened(clip)
    bucket.before[call] = away
    with pytest.raises(Unanswered):
        bucket.abort(upload.upload_id)
    bucket.abort(upload.upload_id)
    assert row(rows).state == "aborted"
    with pytest.raises(ControlError):
        bucket.complete(upload.upload_id, done)
    assert httpx.put(upload.parts[0].url, content=clip).status_code == 404


def test_a_refusal_whose_removal_was_not_answered_is_mended_by_its_repeat(bucket, rows):
    upload, done = bucket.opened(b"no video at all")
    bucket.before["delete"] = away
    with pytest.raises(Unanswered):
        bucket.complete(upload.upload_id, done)
    for _ in range(2):
        with pytest.raises(ControlError) as refused:
            bucket.complete(upload.upload_id, done)
        assert refused.value.code is Code.NOT_PLAYABLE
    assert row(rows).state == "refused"
    assert bucket.storage.head(row(rows).key) is None
