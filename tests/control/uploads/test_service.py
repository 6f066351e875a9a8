"""Uploads on a real bucket, interrupted and concurrent: an aborted or refused one leaves no object behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from inspect import unwrap
from typing import Any

import httpx
import pytest

from control.domain.errors import Code, ControlError
from control.domain.states import OutputState
from control.passes.retention import abandon
from control.routes import uploads
from control.store.tables import Source, Upload
from control.uploads.form import Form
from control.uploads.service import PART_BYTES, open_upload
from control.views import serializers
from control.views.schemas.uploads import NewUpload, PartDone, UploadDone, UploadStarted
from control.views.tallies import Count, tally
from infra.ports import OpenMultipart, Refusal, Refused, Unanswered
from infra.s3 import TigrisStorage
from tests.support.clips import make_clip


class Uploads:
    """The routes' functions, on a bucket that can be told to interrupt."""

    def __init__(self, parts: Any, storage: TigrisStorage) -> None:
        self.storage, self.parts = storage, replace(parts, storage=self)
        router = uploads.routes(self.parts, lambda: None)
        self.start, self.show, self.complete, self.abort = (unwrap(route.endpoint) for route in router.routes)
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

    def multiparts(self) -> list[OpenMultipart]:
        return self.storage.list_multiparts(f"{self.parts.store.owner_id}/")


@pytest.fixture
def bucket(context, storage, monkeypatch) -> Uploads:
    monkeypatch.setattr(storage, "_pause", lambda _: None)
    return Uploads(context, storage)


@pytest.fixture(scope="module")
def clip(ffmpeg, tmp_path_factory) -> bytes:
    return make_clip(ffmpeg, tmp_path_factory.mktemp("clips") / "clip.mp4").read_bytes()


def away() -> None:
    raise Unanswered("away")


def refuse_as_gone(*_: object) -> bytes:
    raise Refused(Refusal.INVALID, "the bucket refused (NoSuchKey)", status=404)


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
def test_an_abort_that_the_bucket_did_not_answer_is_repaired_by_its_repeat(bucket, rows, clip, call):
    upload, done = bucket.opened(clip)
    bucket.before[call] = away
    with pytest.raises(Unanswered):
        bucket.abort(upload.upload_id)
    bucket.abort(upload.upload_id)
    assert row(rows).state == "aborted"
    with pytest.raises(ControlError):
        bucket.complete(upload.upload_id, done)
    assert httpx.put(upload.parts[0].url, content=clip).status_code == 404


def test_a_refusal_whose_removal_was_not_answered_is_repaired_by_its_repeat(bucket, rows):
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


# --- room -----------------------------------------------------------------------------------------------


def cap(bucket: Uploads, cap_bytes: int) -> None:
    settings = bucket.parts.settings.model_copy(update={"storage_cap_bytes": cap_bytes})
    bucket.parts.store.settings = settings
    bucket.parts = replace(bucket.parts, settings=settings)


def start_at_once(bucket: Uploads, count: int, size_bytes: int) -> list[Code | None]:
    """Start so many uploads, none of which asks the bucket before all have looked whether there is room."""
    looked = threading.Barrier(count)

    def one(_: int) -> Code | None:
        try:
            open_upload(parts, name="a", content_type="video/mp4", size_bytes=size_bytes)
        except ControlError as error:
            return error.code
        return None

    class Late:
        def __getattr__(self, name: str) -> Any:
            if name == "start_multipart":
                looked.wait(30)
            return getattr(bucket.storage, name)

    parts = replace(bucket.parts, storage=Late())
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_of_uploads_that_start_at_once_only_as_many_are_taken_as_have_room(bucket, rows):
    cap(bucket, 250)
    answers = start_at_once(bucket, 20, 100)
    assert answers.count(None) == 2
    assert set(answers) == {None, Code.STORAGE_FULL}
    assert len(rows.all(Upload)) == len(bucket.multiparts()) == 2


def test_a_form_is_refused_at_the_part_that_has_no_room_and_nothing_of_it_stays(bucket, rows, clip):
    cap(bucket, 2 * PART_BYTES + 1)
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n'
    sent = []

    def chunks():
        yield head + clip
        for _ in range(8 * PART_BYTES // (1 << 20)):
            sent.append(1 << 20)
            yield bytes(1 << 20)

    form = Form(bucket.parts)
    with pytest.raises(ControlError) as refused:
        form.read("multipart/form-data; boundary=b", chunks())
    assert refused.value.code is Code.STORAGE_FULL
    assert sum(sent) <= 3 * PART_BYTES, "it was refused while it came"
    assert row(rows).size_bytes == 2 * PART_BYTES, "what is stored of it counts"
    form.close()
    assert (row(rows).state, bucket.multiparts()) == ("aborted", [])


# --- resuming -----------------------------------------------------------------------------------------


def put(url: str, content: bytes) -> str:
    return httpx.put(url, content=content).raise_for_status().headers["etag"].strip('"')


def test_a_resumed_upload_lists_what_is_stored_and_signs_the_rest(bucket, clock):
    content = b"a" * PART_BYTES + b"b" * PART_BYTES + b"the end"
    upload = bucket.start(NewUpload(name="a.mp4", size_bytes=len(content), content_type="video/mp4"))
    second = put(upload.parts[1].url, content[PART_BYTES : 2 * PART_BYTES])
    assert httpx.put(upload.parts[2].url, content=b"cut").status_code == 403, "not the size it should have"
    clock.forward(3600)
    again = bucket.show(upload.upload_id)
    assert again.expires_at == upload.expires_at + timedelta(hours=1)
    assert [part.number for part in again.parts if part.url] == [1, 3]
    assert (again.parts[1].etag, again.parts[1].size_bytes, again.parts[1].url) == (second, PART_BYTES, None)
    put(again.parts[0].url, content[:PART_BYTES])


def test_a_completion_that_was_cut_off_after_the_join_is_ended_by_a_look(bucket, rows, clip):
    upload, done = bucket.opened(clip)
    bucket.before["read"] = away
    with pytest.raises(Unanswered):
        bucket.complete(upload.upload_id, done)
    assert row(rows).state == "open"
    shown = bucket.show(upload.upload_id)
    assert (shown.state, shown.parts) == ("completed", [])
    assert bucket.complete(upload.upload_id, done).source_id == shown.source_id
    assert bucket.show(upload.upload_id) == shown


@pytest.mark.parametrize("call", ["head", "read"])
def test_a_joined_upload_that_the_bucket_does_not_show_yet_is_concluded_by_a_repeat(
    bucket, rows, clip, monkeypatch, call
):
    upload, done = bucket.opened(clip)
    missing = {"head": lambda *_, **__: None, "read": refuse_as_gone}
    with monkeypatch.context() as late:
        late.setattr(bucket.storage, call, missing[call])
        with pytest.raises(Unanswered, match="does not show yet"):
            bucket.complete(upload.upload_id, done)
    assert row(rows).state == "open"
    assert bucket.complete(upload.upload_id, done).size_bytes == len(clip)


def test_a_look_at_a_closed_upload_says_why_it_is_closed(bucket, clip):
    upload, _ = bucket.opened(clip)
    bucket.abort(upload.upload_id)
    with pytest.raises(ControlError) as refused:
        bucket.show(upload.upload_id)
    assert refused.value.code is Code.GONE
    upload, done = bucket.opened(b"no video at all")
    with pytest.raises(ControlError):
        bucket.complete(upload.upload_id, done)
    with pytest.raises(ControlError, match="text file") as refused:
        bucket.show(upload.upload_id)
    assert refused.value.code is Code.NOT_PLAYABLE


@pytest.mark.parametrize("is_removed", [False, True])
def test_an_upload_whose_source_is_gone_says_so_and_is_started_again_by_the_client(
    bucket, rows, clip, is_removed
):
    upload, done = bucket.opened(clip)
    source_id = bucket.complete(upload.upload_id, done).source_id
    with bucket.parts.store.transaction() as tx:
        source = tx.session.get_one(Source, source_id)
        source.deleted_at = tx.now
        if is_removed:
            tx.session.delete(source)
    for call in (lambda: bucket.show(upload.upload_id), lambda: bucket.complete(upload.upload_id, done)):
        with pytest.raises(ControlError) as refused:
            call()
        assert refused.value.code is Code.SOURCE_GONE


# --- left for good ------------------------------------------------------------------------------------


def test_an_upload_that_nobody_resumed_is_aborted_after_a_day_and_not_before(bucket, rows, clip, clock):
    upload, done = bucket.opened(clip)
    clock.forward(23 * 3600)
    bucket.show(upload.upload_id)
    for hours, state in ((23, "open"), (2, "aborted")):
        clock.forward(hours * 3600)
        abandon(bucket.parts)
        assert row(rows).state == state
    assert bucket.multiparts() == []
    with pytest.raises(ControlError) as refused:
        bucket.complete(upload.upload_id, done)
    assert refused.value.code is Code.GONE


def test_a_stale_upload_whose_completion_wins_the_race_stays(bucket, rows, clip, clock):
    upload, done = bucket.opened(clip)
    clock.forward(25 * 3600)
    bucket.before["abort_multipart"] = lambda: bucket.complete(upload.upload_id, done)
    abandon(bucket.parts)
    assert row(rows).state == "completed"
    assert bucket.storage.head(row(rows).key) is not None


def test_a_multipart_upload_whose_row_was_never_written_is_aborted_when_it_is_old(bucket, rows, clock):
    key = f"{bucket.parts.store.owner_id}/sources/upl_lost.mp4"
    bucket.storage.start_multipart(key, content_type="video/mp4")
    clock.now = datetime.now(UTC)  # the bucket has its own clock
    abandon(bucket.parts)
    assert [upload.key for upload in bucket.multiparts()] == [key]
    clock.forward(25 * 3600)
    abandon(bucket.parts)
    assert bucket.multiparts() == []


def test_nothing_of_another_control_is_aborted(bucket, clock):
    key = "another-owner/sources/upl_1.mp4"
    multipart_id = bucket.storage.start_multipart(key, content_type="video/mp4")
    clock.now = datetime.now(UTC) + timedelta(days=9)
    abandon(bucket.parts)
    assert [upload.multipart_id for upload in bucket.storage.list_multiparts(key)] == [multipart_id]
    bucket.storage.abort_multipart(key, multipart_id)


def test_at_most_two_uploads_are_looked_into_at_a_time(bucket, clip):
    opened = [bucket.opened(clip) for _ in range(5)]
    under_way, most, real, lock = set(), [], bucket.storage.read, threading.Lock()

    def read(key: str, start: int, stop: int) -> bytes:
        with lock:
            under_way.add(key)
            most.append(len(under_way))
        time.sleep(0.05)
        found = real(key, start, stop)
        with lock:
            under_way.discard(key)
        return found

    bucket.read = read
    with ThreadPoolExecutor(5) as pool:
        done = [pool.submit(bucket.complete, upload.upload_id, parts) for upload, parts in opened]
        assert all(each.result().duration_s > 0 for each in done)
    assert max(most) == 2


@pytest.mark.parametrize("name", ["video", "holiday.avi", "scan.pdf", "clip.MP4.part", ".mov"])
def test_the_content_of_a_file_decides_and_not_its_name(bucket, clip, name):
    new = NewUpload(name=name, size_bytes=len(clip), content_type="video/mp4")
    upload = bucket.start(new)
    etag = httpx.put(upload.parts[0].url, content=clip).raise_for_status().headers["etag"]
    created = bucket.complete(upload.upload_id, UploadDone(parts=[PartDone(number=1, etag=etag)]))
    assert (created.name, created.width, created.notes) == (name, 160, [])


def test_what_could_not_be_used_of_a_source_is_said_on_it_and_in_its_batch(bucket, rows, ffmpeg, tmp_path):
    flags = ["-movflags", "frag_keyframe+empty_moov", "-g", "10"]
    recording = make_clip(ffmpeg, tmp_path / "obs.mp4", *flags, seconds=2).read_bytes()
    upload, done = bucket.opened(recording[: len(recording) * 3 // 4])
    created = bucket.complete(upload.upload_id, done)
    (note,) = created.notes
    assert note.startswith("The recording was cut off: ")
    assert 1 < created.duration_s < 2
    (source,) = rows.all(Source)
    counts = [Count(source, OutputState.QUEUED, tally(source, OutputState.QUEUED, 0), position=0)]
    assert serializers.source(counts, []).notes == [note]
    assert bucket.complete(upload.upload_id, done) == created
