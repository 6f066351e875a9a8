"""The bucket adapter against a real S3 server that checks every signature."""

from __future__ import annotations

import hashlib
import socket
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest
from botocore.exceptions import ClientError

from infra.local.s3_server import LocalS3
from infra.ports import Part, Refusal, Refused, Storage, StoredObject, StoredPart, Unanswered
from infra.s3 import AGAIN_AFTER_S, TigrisStorage, _newest, _translated

PART_BYTES = 5 * 1024 * 1024


@pytest.fixture
def key() -> str:
    return f"test/{uuid4().hex}/ä b+c.mp4"


def put(storage: TigrisStorage, key: str, body: bytes) -> None:
    url, headers = storage.sign_put(key, expires_s=60)
    assert httpx.put(url, content=body, headers=headers).status_code == 200


def upload_parts(storage: TigrisStorage, key: str, *bodies: bytes) -> tuple[str, list[Part]]:
    upload = storage.start_multipart(key, content_type="video/mp4")
    parts = []
    for number, body in enumerate(bodies, 1):
        url = storage.sign_part(key, upload, number, size_bytes=len(body), expires_s=60)
        answer = httpx.put(url, content=body).raise_for_status()
        parts.append(Part(number=number, etag=answer.headers["etag"]))
    return upload, parts


def test_it_is_a_storage(storage: TigrisStorage) -> None:
    port: Storage = storage
    port.check()


# --- multipart ------------------------------------------------------------------------------------


def test_signed_parts_become_one_object(storage: TigrisStorage, key: str) -> None:
    first, last = b"a" * PART_BYTES, b"the end"
    upload, parts = upload_parts(storage, key, first, last)
    assert storage.head(key) is None
    storage.complete_multipart(key, upload, parts[::-1])
    found = storage.head(key)
    assert found is not None
    assert found.size_bytes == PART_BYTES + len(last)
    assert found.etag.endswith("-2")
    assert storage.read(key, PART_BYTES - 1, PART_BYTES + 100) == b"athe end"
    assert httpx.head(storage.sign_get(key, expires_s=60)).status_code == 403  # signed for GET alone
    assert httpx.get(storage.sign_get(key, expires_s=60)).headers["content-type"] == "video/mp4"


def test_completing_twice_is_success(storage: TigrisStorage, key: str) -> None:
    upload, parts = upload_parts(storage, key, b"whole")
    storage.complete_multipart(key, upload, parts)
    storage.complete_multipart(key, upload, parts)
    assert storage.read(key, 0, 9) == b"whole"


def test_a_wrong_etag_is_refused_and_makes_nothing(storage: TigrisStorage, key: str) -> None:
    upload, _ = upload_parts(storage, key, b"whole")
    with pytest.raises(Refused, match="send it again") as refused:
        storage.complete_multipart(key, upload, [Part(number=1, etag='"' + "0" * 32 + '"')])
    assert refused.value.refusal is Refusal.INVALID
    assert storage.head(key) is None


def test_a_missing_part_is_refused(storage: TigrisStorage, key: str) -> None:
    upload, parts = upload_parts(storage, key, b"whole")
    with pytest.raises(Refused) as refused:
        storage.complete_multipart(key, upload, [*parts, Part(number=2, etag=parts[0].etag)])
    assert refused.value.refusal is Refusal.INVALID


def test_small_parts_are_refused_with_what_to_do(storage: TigrisStorage, key: str) -> None:
    upload, parts = upload_parts(storage, key, b"small", b"end")
    with pytest.raises(Refused, match="larger parts") as refused:
        storage.complete_multipart(key, upload, parts)
    assert refused.value.refusal is Refusal.INVALID


def test_an_aborted_upload_is_gone_and_stays_gone(storage: TigrisStorage, key: str) -> None:
    upload, parts = upload_parts(storage, key, b"whole")
    storage.abort_multipart(key, upload)
    storage.abort_multipart(key, upload)
    with pytest.raises(Refused, match="start it again"):
        storage.complete_multipart(key, upload, parts)
    late = httpx.put(storage.sign_part(key, upload, 1, size_bytes=4, expires_s=60), content=b"late")
    assert late.status_code == 404


@pytest.mark.parametrize("size_bytes", [0, 3, 5, 1 << 20])
def test_a_part_of_another_size_than_signed_for_is_refused(
    storage: TigrisStorage, key: str, size_bytes: int
) -> None:
    upload = storage.start_multipart(key, content_type="video/mp4")
    url = storage.sign_part(key, upload, 1, size_bytes=4, expires_s=60)
    assert httpx.put(url, content=bytes(size_bytes)).status_code == 403
    chunked = httpx.put(url, content=iter([bytes(4)]))  # says no length
    assert chunked.status_code >= 400
    assert storage.list_parts(key, upload) == []
    assert httpx.put(url, content=bytes(4)).status_code == 200


def test_stored_parts_are_listed_until_they_are_joined(storage: TigrisStorage, key: str) -> None:
    upload, (first,) = upload_parts(storage, key, b"a" * PART_BYTES)
    last = storage.put_part(key, upload, 2, BytesIO(b"the end"))
    assert storage.list_parts(key, upload) == [
        StoredPart(number=1, etag=first.etag.strip('"'), size_bytes=PART_BYTES),
        StoredPart(number=2, etag=hashlib.md5(b"the end").hexdigest(), size_bytes=7),
    ]
    storage.complete_multipart(key, upload, [first, last])
    assert storage.read(key, PART_BYTES, PART_BYTES + 100) == b"the end"
    assert storage.list_parts(key, upload) == []


def test_of_a_part_that_was_put_again_the_last_is_listed_or_none(storage: TigrisStorage, key: str) -> None:
    def listed(etag: str, second: int) -> dict[str, Any]:
        at = datetime(2026, 11, 21, 12, 0, second, tzinfo=UTC)
        return {"PartNumber": 1, "ETag": f'"{etag}"', "Size": 7, "LastModified": at}

    assert _newest([listed("old", 1), listed("new", 2), listed("older", 0)])[0].etag == "new"
    assert _newest([listed("old", 1), listed("new", 2), listed("other", 2)]) == []
    assert _newest([listed("same", 2), listed("same", 2)])[0].etag == "same"
    upload, _ = upload_parts(storage, key, b"old")
    again = storage.put_part(key, upload, 1, BytesIO(b"the new one"))
    assert {part.etag for part in storage.list_parts(key, upload)} <= {again.etag}
    storage.complete_multipart(key, upload, [again])
    assert storage.read(key, 0, 100) == b"the new one"


def test_open_uploads_are_listed_under_their_prefix_until_they_end(storage: TigrisStorage, key: str) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)  # the bucket tells whole seconds
    aborted, open_one = (storage.start_multipart(key + end, content_type="video/mp4") for end in "ab")
    storage.start_multipart("other/" + key, content_type="video/mp4")
    storage.abort_multipart(key + "a", aborted)
    (found,) = storage.list_multiparts(key)
    assert (found.key, found.multipart_id) == (key + "b", open_one)
    assert before <= found.started_at <= datetime.now(UTC)


# --- listing and deleting -------------------------------------------------------------------------


def test_a_listing_shows_what_is_under_a_prefix_page_by_page_in_order(storage: TigrisStorage) -> None:
    prefix = f"test/{uuid4().hex}/outputs/"
    keys = sorted(f"{prefix}job_{job}-{n}/out {i}.mp4" for job in "ab" for n in (1, 2, 10) for i in range(2))
    begun_at = datetime.now(UTC) - timedelta(seconds=5)
    for key in keys:
        put(storage, key, b"four")
    listed = storage.list_objects(prefix)
    assert [found.key for found in listed] == keys
    assert {found.size_bytes for found in listed} == {4}
    assert all(begun_at < found.modified_at < datetime.now(UTC) + timedelta(seconds=5) for found in listed)
    pages, after = [], ""
    while page := storage.list_objects(prefix, after=after, limit=5):
        pages.append([found.key for found in page])
        after = page[-1].key
    assert [len(page) for page in pages] == [5, 5, 2]
    assert [key for page in pages for key in page] == keys
    of_one = storage.list_objects(f"{prefix}job_a-")
    assert [found.key for found in of_one] == [key for key in keys if "job_a-" in key]
    assert storage.list_objects(f"{prefix}job_c-") == []


def test_many_objects_go_in_one_call_and_those_that_are_gone_do_not_matter(storage: TigrisStorage) -> None:
    prefix = f"test/{uuid4().hex}/"
    for name in ("a ä+&<.mp4", "b", "kept"):
        put(storage, prefix + name, b"x")
    gone = [prefix + name for name in ("a ä+&<.mp4", "b", "never was")]
    for _ in range(2):
        storage.delete_many(gone)
    assert [found.key for found in storage.list_objects(prefix)] == [f"{prefix}kept"]
    storage.delete_many([])


# --- rules ----------------------------------------------------------------------------------------


def test_pages_of_exactly_the_named_origins_may_use_signed_urls(storage: TigrisStorage, key: str) -> None:
    for _ in range(2):
        storage.set_rules(["https://app.example", "http://localhost:5173"])
    multipart_id = storage.start_multipart(key, content_type="video/mp4")
    url = storage.sign_part(key, multipart_id, 1, size_bytes=9, expires_s=60)

    def asked(origin: str, method: str = "PUT") -> httpx.Response:
        headers = {"Origin": origin, "Access-Control-Request-Method": method}
        return httpx.options(url, headers=headers)

    for origin in ("https://app.example", "http://localhost:5173"):
        assert asked(origin).headers["access-control-allow-origin"] == origin
    for origin in ("https://app.example.evil", "http://app.example", "https://other.example", "null"):
        assert "access-control-allow-origin" not in asked(origin).headers
    assert "PUT" in asked("https://app.example").headers["access-control-allow-methods"]
    refused = asked("https://app.example", "DELETE").headers
    assert "DELETE" not in refused.get("access-control-allow-methods", "")
    stored = httpx.put(url, content=b"x" * 9, headers={"Origin": "https://app.example"})
    assert stored.status_code == 200
    assert stored.headers["access-control-expose-headers"].lower() == "etag"
    storage.set_rules(["https://new.example"])
    assert "access-control-allow-origin" not in asked("https://app.example").headers
    assert asked("https://new.example").headers["access-control-allow-origin"] == "https://new.example"


def test_unfinished_uploads_are_dropped_by_the_bucket_itself(storage: TigrisStorage) -> None:
    storage.set_rules(["https://app.example"])
    rules = storage._client.get_bucket_lifecycle_configuration(Bucket=storage._bucket)["Rules"]
    assert [rule["AbortIncompleteMultipartUpload"] for rule in rules] == [{"DaysAfterInitiation": 2}]
    assert [rule["Status"] for rule in rules] == ["Enabled"]
    assert not any("Expiration" in rule for rule in rules), "results are control's to delete"


class Refusing:
    """A client whose call of one name fails as given."""

    def __init__(self, client: Any, name: str, error: Exception) -> None:
        self._client, self._name, self._error = client, name, error

    def __getattr__(self, name: str) -> Any:
        if name == self._name:
            raise self._error
        return getattr(self._client, name)


def test_a_refused_lifecycle_rule_is_a_warning_and_the_pages_rule_is_set_all_the_same(
    storage: TigrisStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = {"Error": {"Code": "NotImplemented"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    error = ClientError(answer, "PutBucketLifecycleConfiguration")  # type: ignore[arg-type]
    refusing = Refusing(storage._client, "put_bucket_lifecycle_configuration", error)
    monkeypatch.setattr(TigrisStorage, "_client", refusing)
    warning = storage.set_rules(["https://once.example"])
    assert "NotImplemented" in (warning or "")
    assert storage.allowed_origins() == {"https://once.example"}


def test_a_bucket_without_a_rule_allows_no_origin(storage: TigrisStorage) -> None:
    storage._client.delete_bucket_cors(Bucket=storage._bucket)
    assert storage.allowed_origins() == frozenset()


def test_every_call_of_ours_asks_for_a_consistent_answer(storage: TigrisStorage) -> None:
    sent: list[str | None] = []
    for client in storage._clients:
        client.meta.events.register(
            "before-send.s3", lambda request, **_: sent.append(request.headers.get("X-Tigris-Consistent"))
        )
    storage.head("none")
    storage.list_objects("none")
    assert set(sent) == {b"true"}


def test_an_object_that_is_seen_only_at_the_second_try_is_found(
    storage: TigrisStorage, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def appear(seconds: float) -> None:
        paused.append(seconds)
        put(storage, key, b"late")

    paused: list[float] = []
    monkeypatch.setattr(storage, "_pause", appear)
    assert storage.head(key) is not None
    storage.delete(key)
    assert storage.read(key, 0, 9) == b"late"
    monkeypatch.setattr(storage, "_pause", paused.append)
    assert storage.head(f"{key}-never") is None
    assert paused == [AGAIN_AFTER_S] * 3
    assert storage.head(f"{key}-never", is_fresh=True) is None
    assert sum(paused[3:]) >= 3, "what was stored just now is waited for"


# --- signed URLs ----------------------------------------------------------------------------------


def test_a_second_put_changes_nothing(storage: TigrisStorage, key: str) -> None:
    put(storage, key, b"first")
    url, headers = storage.sign_put(key, expires_s=60)
    assert httpx.put(url, content=b"second", headers=headers).status_code == 412
    assert storage.head(key) == StoredObject(size_bytes=5, etag=hashlib.md5(b"first").hexdigest())


@pytest.mark.parametrize("headers", [{}, {"If-None-Match": '"other"'}])
def test_a_put_without_its_header_is_refused(
    storage: TigrisStorage, key: str, headers: dict[str, str]
) -> None:
    url, _ = storage.sign_put(key, expires_s=60)
    assert httpx.put(url, content=b"x", headers=headers).status_code == 403
    assert storage.head(key) is None


def test_an_expired_url_is_refused(storage: TigrisStorage, key: str) -> None:
    put(storage, key, b"x")
    url = storage.sign_get(key, expires_s=1)
    deadline = time.monotonic() + 5
    while (status := httpx.get(url).status_code) == 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert status == 403


def test_a_tampered_url_is_refused(storage: TigrisStorage, key: str) -> None:
    put(storage, key, b"x")
    url = storage.sign_get(key, expires_s=60)
    other = httpx.URL(url).copy_with(path="/refresher/another")
    longer = url.replace("X-Amz-Expires=60", "X-Amz-Expires=6000")
    assert httpx.get(other).status_code == 403
    assert httpx.get(longer).status_code == 403
    assert httpx.put(url, content=b"y").status_code == 403
    assert httpx.get(url).content == b"x"


@pytest.mark.parametrize(
    "name", ["plain.mp4", 'qu"ote.mp4', "ünï 漢字.mp4", "a\r\nSet-Cookie: x=1.mp4", "../../etc;passwd"]
)
def test_a_download_answers_with_the_headers_that_were_signed(
    storage: TigrisStorage, key: str, name: str
) -> None:
    put(storage, key, b"video")
    disposition = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    url = storage.sign_download(key, expires_s=60, disposition=disposition, content_type="video/mp4")
    answer = httpx.get(url)
    assert answer.content == b"video"
    assert answer.headers["content-disposition"] == disposition
    assert answer.headers["content-type"] == "video/mp4"
    assert "set-cookie" not in answer.headers


def test_browsers_get_the_public_address_and_programs_ours(s3: LocalS3, storage: TigrisStorage) -> None:
    public = TigrisStorage(**asdict(s3), public_endpoint="https://t3.storage.dev")
    ours = s3.endpoint + "/refresher/k?"
    theirs = "https://refresher.t3.storage.dev/k?"
    assert public.sign_get("k", expires_s=60).startswith(ours)
    assert public.sign_put("k", expires_s=60)[0].startswith(ours)
    assert public.sign_part("k", "u", 1, size_bytes=9, expires_s=60).startswith(theirs)
    signed = public.sign_download("k", expires_s=60, disposition="inline", content_type="video/mp4")
    assert signed.startswith(theirs)
    assert storage.sign_part("k", "u", 1, size_bytes=9, expires_s=60).startswith(ours)


# --- objects --------------------------------------------------------------------------------------


def test_read_gives_a_range_and_what_there_is_at_the_end(storage: TigrisStorage, key: str) -> None:
    put(storage, key, b"0123456789")
    assert storage.read(key, 2, 5) == b"234"
    assert storage.read(key, 8, 50) == b"89"
    assert storage.read(key, 10, 50) == b""
    assert storage.read(key, 5, 5) == b""


def test_an_object_that_is_not_there(storage: TigrisStorage, key: str) -> None:
    assert storage.head(key) is None
    storage.delete(key)
    with pytest.raises(Refused) as refused:
        storage.read(key, 0, 5)
    assert refused.value.refusal is Refusal.INVALID
    assert refused.value.status == 404


def test_deleting_twice_is_success(storage: TigrisStorage, key: str) -> None:
    put(storage, key, b"x")
    storage.delete(key)
    storage.delete(key)
    assert storage.head(key) is None


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("known_id", [True, False])
def test_a_bad_key_is_unauthorized_and_not_repeated_in_the_error(s3: LocalS3, known_id: bool) -> None:
    stranger = TigrisStorage(
        endpoint=s3.endpoint,
        region=s3.region,
        access_key_id=s3.access_key_id if known_id else "AKIASTRANGER",
        secret_access_key="wrong-secret",
        bucket=s3.bucket,
    )
    for call in (stranger.check, lambda: stranger.head("k"), lambda: stranger.read("k", 0, 1)):
        with pytest.raises(Refused) as refused:
            call()
        assert refused.value.refusal is Refusal.UNAUTHORIZED
        assert refused.value.status == 403
        for secret in ("AKIASTRANGER", s3.access_key_id, "wrong-secret", "Signature="):
            assert secret not in str(refused.value)


def test_a_missing_bucket_is_refused(s3: LocalS3) -> None:
    lost = TigrisStorage(
        endpoint=s3.endpoint,
        region=s3.region,
        access_key_id=s3.access_key_id,
        secret_access_key=s3.secret_access_key,
        bucket="another",
    )
    with pytest.raises(Refused):
        lost.check()


def test_a_dead_endpoint_is_unanswered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    dead = TigrisStorage(
        endpoint=f"http://127.0.0.1:{port}",
        region="auto",
        access_key_id="k",
        secret_access_key="s",
        bucket="b",
    )
    with pytest.raises(Unanswered) as unanswered:
        dead.head("k")
    assert str(unanswered.value) == "HEAD /b/k · the bucket did not answer (EndpointConnectionError)"


def test_a_proxy_of_the_environment_is_not_used_for_this_machine(
    s3: LocalS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    storage = TigrisStorage(**asdict(s3))
    storage.check()
    storage.delete("k")


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (503, "SlowDown", Unanswered),
        (500, "InternalError", Unanswered),
        (429, "TooManyRequests", Unanswered),
        (408, "RequestTimeout", Unanswered),
        (200, "InternalError", Unanswered),  # complete_multipart may fail after it answered 200
        (403, "SignatureDoesNotMatch", Refusal.UNAUTHORIZED),
        (401, "", Refusal.UNAUTHORIZED),
        (400, "InvalidPart", Refusal.INVALID),
        (404, "NoSuchUpload", Refusal.INVALID),
        (411, "MissingContentLength", Refusal.INVALID),
    ],
)
def test_each_answer_has_its_class(status: int, code: str, expected: object) -> None:
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status, "RequestId": "r1"}}
    error = _translated(response, method="GET", path="/b/k")
    assert error.request_id == "r1"
    assert (error.refusal if isinstance(error, Refused) else type(error)) is expected
