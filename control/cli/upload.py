"""Uploads a video in parallel parts directly to the bucket. An interrupted upload is resumed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from control.cli.errors import ApiError
from control.cli.resume import Unfinished
from infra.ports import is_transient

PARALLEL_PARTS = 4
ROUNDS_MAX = 5  # requests for fresh URLs during one upload
CONTENT_TYPES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime"}

OnBytes = Callable[[int], object]  # called with the number of bytes since the last call


class Uploader:
    """Uploads to the control at `address`: `call` makes a call of its API, `bucket` sends the parts.

    With `unfinished` it resumes interrupted uploads. Raises ApiError for a refusal, httpx.HTTPError when
    control or the bucket does not answer.
    """

    def __init__(
        self,
        call: Callable[..., dict[str, Any]],
        bucket: httpx.Client,
        address: str,
        unfinished: Unfinished | None,
    ) -> None:
        self._call, self._bucket = call, bucket
        self._address, self._unfinished = address, unfinished

    def upload(self, path: Path, on_bytes: OnBytes = lambda _: None) -> dict[str, Any]:
        """Upload a video and return its source.

        Resumes an earlier upload of the same file. If that one was complete and only its answer was lost, the
        result has nothing but `source_id`. Requests fresh URLs when a part cannot be sent to its URL.
        """
        upload, stored = self._begun(path), dict[int, str]()
        for tries_left in reversed(range(ROUNDS_MAX)):
            try:
                source = self._completed(path, upload, stored, on_bytes)
            except httpx.HTTPError:
                if not tries_left:
                    raise
                upload = self._call("GET", f"/api/uploads/{upload['upload_id']}")
            except ApiError:
                self._remember(path, None)
                raise
            else:
                self._remember(path, None)
                return source
        raise AssertionError("the last round returns or raises")

    def _completed(
        self, path: Path, upload: dict[str, Any], stored: dict[int, str], on_bytes: OnBytes
    ) -> dict[str, Any]:
        """Return the source of the upload. Sends the missing parts first."""
        if upload.get("source_id"):
            on_bytes(0 if stored else path.stat().st_size)
            return {"source_id": upload["source_id"]}
        self._send_parts(path, upload, stored, on_bytes)
        parts = [{"number": number, "etag": stored[number]} for number in sorted(stored)]
        return self._call("POST", f"/api/uploads/{upload['upload_id']}/complete", json={"parts": parts})

    def _begun(self, path: Path) -> dict[str, Any]:
        """Return the earlier upload of this file, or a new one."""
        known = self._unfinished.get(self._address, path) if self._unfinished else None
        if known is not None:
            with suppress(ApiError):  # it was aborted, or its source is gone
                return self._call("GET", f"/api/uploads/{quote(known, safe='')}")
        body = {
            "name": path.name,
            "size_bytes": path.stat().st_size,
            "content_type": CONTENT_TYPES.get(path.suffix.lower(), "video/mp4"),
        }
        upload = self._call("POST", "/api/uploads", json=body)
        self._remember(path, upload["upload_id"])
        return upload

    def _remember(self, path: Path, upload_id: str | None) -> None:
        if self._unfinished:
            self._unfinished.set(self._address, path, upload_id)

    def _send_parts(
        self, path: Path, upload: dict[str, Any], stored: dict[int, str], on_bytes: OnBytes
    ) -> None:
        """Send the missing parts, several at once, and add the ETag of each stored part to `stored`."""
        size = upload["part_size_bytes"]

        def send(part: dict[str, Any]) -> None:
            number = part["number"]
            if number in stored:
                return
            content_bytes = part.get("size_bytes", 0)
            etag = part.get("etag")
            if etag is None:
                content = read(path, (number - 1) * size, size)
                content_bytes, etag = len(content), _put(self._bucket, part["url"], content)
            stored[number] = etag
            on_bytes(content_bytes)

        with ThreadPoolExecutor(PARALLEL_PARTS) as pool:
            try:
                list(pool.map(send, upload["parts"]))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # do not send the waiting parts for nothing
                raise


def read(path: Path, start: int, size: int) -> bytes:
    """Return up to `size` bytes of the file from `start`."""
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)


def _may_be_repeated(error: BaseException) -> bool:
    if isinstance(error, httpx.HTTPStatusError):
        return is_transient(error.response.status_code)
    return isinstance(error, httpx.HTTPError)


@retry(
    retry=retry_if_exception(_may_be_repeated),
    stop=stop_after_attempt(5),
    wait=wait_random_exponential(max=10),
    reraise=True,
)
def _put(http: httpx.Client, url: str, content: bytes) -> str:
    answer = http.put(url, content=content)
    answer.raise_for_status()
    return answer.headers["etag"]
