"""The bucket, over the S3 API: Tigris when deployed, SeaweedFS on a laptop and in the tests.

Must never put a key, a header or a signed URL into an error, and never guess that an unanswered call was
done. boto3 is loaded by the first call, since control answers its first client before that, and signs URLs
without it. One file, since it is the whole of one port: each method is one call to the bucket.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from infra.hosts import is_loopback
from infra.ports import (
    Clock,
    ListedObject,
    OpenMultipart,
    OutsideError,
    Part,
    Refusal,
    Refused,
    StoredObject,
    StoredPart,
    Unanswered,
    is_transient,
)
from infra.presign import Presigner, is_virtual_host

if TYPE_CHECKING:
    from boto3.session import Session

Found = TypeVar("Found")

_BAD_PARTS = {
    "InvalidPart": "a part is missing or is not the one that was stored: send it again, then complete",
    "InvalidPartOrder": "the parts are not in rising order: name each part once",
    "EntityTooSmall": "a part other than the last is below 5 MiB: upload the file again in larger parts",
    "NoSuchUpload": "the upload has expired or was aborted: start it again",
}


ABANDONED_DAYS = 2  # an upload lives for one day; this is for uploads that control has lost
CONNECTIONS_KEPT = 32  # of each client: about the number of calls at the same time
# A Global bucket of Tigris reads eventually: without this header a HEAD may miss what another region has just
# stored. https://www.tigrisdata.com/docs/objects/consistency/ (2026-11)
CONSISTENT = ("X-Tigris-Consistent", "true")
FRESH_PAUSES_S = (0.5, 1.0, 1.5)  # of an object that was stored just now
AGAIN_AFTER_S = 0.5  # a 404 for an object that should exist is repeated once, after this time
LOOK_TIMEOUT_S = 3  # of a HEAD: a runner waits 4 s for the answer to a heartbeat, then repeats it


def connect(
    *,
    endpoint: str,
    region: str,
    access_key_id: str,
    secret_access_key: str,
    attempts: int = 3,
    timeout_s: float = 60,
    session: Session | None = None,
) -> Any:
    """Return a boto3 S3 client, safe to share between threads.

    Clients of one `session` share its model of S3, 12 MB; only one thread may make them.
    Proxies that the environment names are used, but never to reach this machine itself. `when_required`
    checksums: Tigris rejects the aws-chunked bodies that botocore sends by default
    (https://github.com/benbjohnson/litestream/pull/907, 2025-12).
    """
    from boto3.session import Session
    from botocore.config import Config

    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "virtual" if is_virtual_host(endpoint) else "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=min(5, timeout_s),
        read_timeout=timeout_s,
        proxies={} if is_loopback(endpoint) else None,
        max_pool_connections=CONNECTIONS_KEPT,
        retries={"mode": "standard", "total_max_attempts": attempts},
    )
    client = (session or Session()).client(
        "s3",
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret_access_key,
        config=config,
    )
    client.meta.events.register("before-sign.s3", _ask_consistently)
    return client


def _ask_consistently(request: Any, signature_version: str, **_: Any) -> None:
    if "query" not in signature_version:  # the user of a signed URL would have to send this header too
        name, value = CONSISTENT
        request.headers[name] = value


def _now() -> datetime:
    return datetime.now(UTC)


class TigrisStorage:
    """`infra.ports.Storage` on one bucket. Opens no connection before the first call."""

    def __init__(
        self,
        *,
        endpoint: str,
        region: str,
        access_key_id: str,
        secret_access_key: str,
        bucket: str,
        public_endpoint: str | None = None,
        clock: Clock = _now,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bucket, self._clock, self._pause = bucket, clock, pause
        self._connect = partial(
            connect,
            endpoint=endpoint,
            region=region,
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
        )
        sign = partial(
            Presigner,
            region=region,
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
            bucket=bucket,
        )
        self._ours, self._theirs = sign(endpoint=endpoint), sign(endpoint=public_endpoint or endpoint)

    @cached_property
    def _clients(self) -> tuple[Any, Any]:
        from boto3.session import Session

        session = Session()
        looking = self._connect(attempts=1, timeout_s=LOOK_TIMEOUT_S, session=session)
        return self._connect(session=session), looking

    @property
    def _client(self) -> Any:
        return self._clients[0]

    @property
    def _looking_client(self) -> Any:
        return self._clients[1]

    def check(self) -> None:
        """Return when the bucket answers to our key; raise otherwise."""
        with self._errors("HEAD", ""):
            self._looking_client.head_bucket(Bucket=self._bucket)

    def start_multipart(self, key: str, *, content_type: str) -> str:
        """Open a multipart upload and return its id."""
        with self._errors("POST", key):
            opened = self._client.create_multipart_upload(
                Bucket=self._bucket, Key=key, ContentType=content_type
            )
        return str(opened["UploadId"])

    def sign_part(self, key: str, multipart_id: str, number: int, *, size_bytes: int, expires_s: int) -> str:
        """Return a URL, as browsers reach the bucket, that PUTs one part of exactly this size."""
        part = {"uploadId": multipart_id, "partNumber": str(number)}
        length = {"content-length": str(size_bytes)}
        return self._theirs.url(
            "PUT", key, now=self._clock(), expires_s=expires_s, query=part, headers=length
        )

    def put_part(self, key: str, multipart_id: str, number: int, content: BinaryIO) -> Part:
        """Store one part, read from the start of `content`, which must seek: it may be sent again."""
        with self._errors("PUT", key):
            stored = self._client.upload_part(
                Bucket=self._bucket, Key=key, UploadId=multipart_id, PartNumber=number, Body=content
            )
        return Part(number=number, etag=stored["ETag"].strip('"'))

    def list_parts(self, key: str, multipart_id: str) -> list[StoredPart]:
        """Return the parts that are surely stored, in order; none of an upload that is not open."""
        try:
            with self._errors("GET", key):
                pages = self._client.get_paginator("list_parts").paginate(
                    Bucket=self._bucket, Key=key, UploadId=multipart_id
                )
                found = [part for page in pages for part in page.get("Parts", ())]
        except _Gone:
            return []
        return _newest(found)

    def list_multiparts(self, prefix: str) -> list[OpenMultipart]:
        """Return the open multipart uploads whose key begins with `prefix`. One short try per page."""
        with self._errors("GET", prefix):
            pages = self._looking_client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=prefix
            )
            found = [upload for page in pages for upload in page.get("Uploads", ())]
        return [
            OpenMultipart(key=upload["Key"], multipart_id=upload["UploadId"], started_at=upload["Initiated"])
            for upload in found
        ]

    def complete_multipart(self, key: str, multipart_id: str, parts: Sequence[Part]) -> None:
        """Join the parts. Refused(INVALID) when one is missing or differs; repeating it is success.

        A key belongs to one upload, so an object under it proves that an earlier completion went through.
        """
        wanted = [
            {"PartNumber": part.number, "ETag": part.etag}
            for part in sorted(parts, key=lambda part: part.number)
        ]
        try:
            with self._errors("POST", key):
                self._client.complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=key,
                    UploadId=multipart_id,
                    MultipartUpload={"Parts": wanted},
                )
        except _Gone:
            if self.head(key, is_fresh=True) is None:
                raise

    def abort_multipart(self, key: str, multipart_id: str) -> None:
        """Abort a multipart upload and drop its parts. One that is gone is a success."""
        with self._gone_is_success(), self._errors("DELETE", key):
            self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=multipart_id)

    def sign_put(self, key: str, *, expires_s: int) -> tuple[str, dict[str, str]]:
        """Return a URL that creates the object once, and the headers that must be sent with it.

        The signature covers `If-None-Match: *`: a second PUT answers 412 and changes nothing.
        """
        once = {"if-none-match": "*"}
        url = self._ours.url("PUT", key, now=self._clock(), expires_s=expires_s, headers=once)
        return url, {"If-None-Match": "*"}

    def sign_get(self, key: str, *, expires_s: int) -> str:
        """Return a URL, as our own programs reach the bucket, that reads the object."""
        return self._ours.url("GET", key, now=self._clock(), expires_s=expires_s)

    def sign_download(self, key: str, *, expires_s: int, disposition: str, content_type: str) -> str:
        """Return a URL, as browsers reach the bucket, that answers with these headers."""
        answer = {"response-content-disposition": disposition, "response-content-type": content_type}
        return self._theirs.url("GET", key, now=self._clock(), expires_s=expires_s, query=answer)

    def head(self, key: str, *, is_fresh: bool = False) -> StoredObject | None:
        """Return the object's size and ETag, or None if there is none. A 404 is checked once more.

        `is_fresh`: it is known to have been stored just now, so it is asked for over three seconds.
        """

        def once() -> Any:
            with self._errors("HEAD", key):
                return self._looking_client.head_object(Bucket=self._bucket, Key=key)

        try:
            found = self._again_if_gone(once, FRESH_PAUSES_S if is_fresh else (AGAIN_AFTER_S,))
        except _Gone:
            return None
        return StoredObject(size_bytes=found["ContentLength"], etag=found["ETag"].strip('"'))

    def read(self, key: str, start: int, stop: int) -> bytes:
        """Return the bytes `start <= i < stop`, fewer at the end of the object."""
        if stop <= start:
            return b""

        def once() -> bytes:
            with self._errors("GET", key):
                wanted = f"bytes={start}-{stop - 1}"
                found = self._client.get_object(Bucket=self._bucket, Key=key, Range=wanted)
                return bytes(found["Body"].read())

        try:
            return self._again_if_gone(once)
        except Refused as error:
            if error.status == 416:  # the range begins at or after the end
                return b""
            raise

    def delete(self, key: str) -> None:
        """Delete the object. One that is gone is a success."""
        with self._gone_is_success(), self._errors("DELETE", key):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def list_objects(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[ListedObject]:
        """Return the first objects under `prefix` whose key follows `after`, at most `limit` (1000).

        Fewer than `limit` are the last ones.
        """
        with self._errors("GET", prefix):
            page = self._client.list_objects_v2(
                Bucket=self._bucket, Prefix=prefix, StartAfter=after, MaxKeys=limit
            )
        return [
            ListedObject(key=found["Key"], size_bytes=found["Size"], modified_at=found["LastModified"])
            for found in page.get("Contents", ())
        ]

    def delete_many(self, keys: Sequence[str]) -> None:
        """Delete at most 1000 objects in one call.

        One that is gone is a success. After an error some may be left.
        """
        if not keys:
            return
        wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        with self._errors("POST", "?delete"):
            answer = self._client.delete_objects(Bucket=self._bucket, Delete=wanted)
        if errors := answer.get("Errors"):
            message = f"{len(errors)} of {len(keys)} objects stay ({errors[0].get('Code', '')})"
            raise Unanswered(message, method="POST", path=f"/{self._bucket}/?delete")

    def allowed_origins(self) -> frozenset[str]:
        """Return the origins whose pages may PUT by signed URLs; none when the bucket has no such rule."""
        try:
            with self._errors("GET", "?cors"):
                rules = self._client.get_bucket_cors(Bucket=self._bucket)["CORSRules"]
        except _Gone as error:
            if error.code == "NoSuchBucket":
                raise
            return frozenset()
        return frozenset(
            origin for rule in rules if "PUT" in rule["AllowedMethods"] for origin in rule["AllowedOrigins"]
        )

    def set_rules(self, origins: Sequence[str]) -> str | None:
        """Let pages of exactly these origins use signed URLs, and have unfinished uploads dropped in time.

        Replaces the bucket's rules, so a repeat changes nothing. The second rule is optional, since
        Tigris does not document it: returns why the bucket refused it, or None.
        """
        cross_origin = {
            "AllowedOrigins": list(origins),
            "AllowedMethods": ["PUT", "GET", "HEAD"],
            "AllowedHeaders": ["*"],
            "ExposeHeaders": ["ETag"],
            "MaxAgeSeconds": 3600,
        }
        abandoned = {
            "ID": "abandoned-uploads",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": ABANDONED_DAYS},
        }
        with self._errors("PUT", "?cors"):
            rules = {"CORSRules": [cross_origin]}
            self._client.put_bucket_cors(Bucket=self._bucket, CORSConfiguration=rules)
        try:
            with self._errors("PUT", "?lifecycle"):
                self._client.put_bucket_lifecycle_configuration(
                    Bucket=self._bucket, LifecycleConfiguration={"Rules": [abandoned]}
                )
        except OutsideError as error:
            return str(error)
        return None

    def removes_unfinished_uploads(self) -> bool:
        """Return whether the bucket has a rule that removes unfinished uploads, as `set_rules` asks for."""
        try:
            with self._errors("GET", "?lifecycle"):
                rules = self._client.get_bucket_lifecycle_configuration(Bucket=self._bucket)["Rules"]
        except _Gone as error:
            if error.code == "NoSuchBucket":
                raise
            return False
        return any(rule["Status"] == "Enabled" and "AbortIncompleteMultipartUpload" in rule for rule in rules)

    def _again_if_gone(
        self, once: Callable[[], Found], pauses_s: Sequence[float] = (AGAIN_AFTER_S,)
    ) -> Found:
        """Return what `once` returns; a 404 is asked again after each of the pauses, since reads may lag."""
        for pause_s in pauses_s:
            try:
                return once()
            except _Gone:
                self._pause(pause_s)
        return once()

    @contextmanager
    def _gone_is_success(self) -> Iterator[None]:
        try:
            yield
        except _Gone as error:
            if error.code == "NoSuchBucket":
                raise

    @contextmanager
    def _errors(self, method: str, key: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

        path = f"/{self._bucket}/{key}"
        try:
            yield
        except ClientError as error:
            raise _translated(error.response, method=method, path=path) from None
        except ParamValidationError:
            raise Refused(Refusal.INVALID, "not a valid S3 request", method=method, path=path) from None
        except BotoCoreError as error:
            message = f"the bucket did not answer ({type(error).__name__})"
            raise Unanswered(message, method=method, path=path) from None


def _newest(listed: list[dict[str, Any]]) -> list[StoredPart]:
    """Return each part as it was last put.

    SeaweedFS lists every version of a part that was sent twice. The last of several versions within one
    second is unknown: such a part is left out, as if it were missing, and its client sends it again.
    """
    versions: dict[int, dict[datetime, set[StoredPart]]] = {}
    for part in listed:
        stored = StoredPart(number=part["PartNumber"], etag=part["ETag"].strip('"'), size_bytes=part["Size"])
        versions.setdefault(stored.number, {}).setdefault(part["LastModified"], set()).add(stored)
    last = (versions[number][max(versions[number])] for number in sorted(versions))
    return [stored for same in last if len(same) == 1 for stored in same]


class _Gone(Refused):
    """404: the bucket does not have it. `code` says what is missing."""

    def __init__(self, code: str, message: str, **where: object) -> None:
        super().__init__(Refusal.INVALID, message, **where)
        self.code = code


def _translated(response: dict[str, Any], *, method: str, path: str) -> OutsideError:
    """Return our error for S3's. Only S3's code is quoted: its message may contain the signed text."""
    answer = response.get("ResponseMetadata", {})
    status, code = int(answer.get("HTTPStatusCode", 0)), str(response.get("Error", {}).get("Code", ""))
    where = {"method": method, "path": path, "status": status, "request_id": answer.get("RequestId")}
    if is_transient(status) or code in ("SlowDown", "RequestTimeout", "InternalError"):
        return Unanswered(f"the bucket is busy or has a fault ({code})", **where)
    if status in (401, 403):
        return Refused(Refusal.UNAUTHORIZED, f"the bucket refused our key ({code})", **where)
    message = _BAD_PARTS.get(code, f"the bucket refused ({code})")
    if status == 404:
        return _Gone(code, message, **where)
    return Refused(Refusal.INVALID, message, **where)
