"""Uploads in parallel parts directly to the bucket, which resume after an interruption."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_random_exponential

from video_refresher.api import Api, ApiError, segment
from video_refresher.models import Part, Source, Upload

PARALLEL_PARTS = 4
ROUNDS_MAX = 5  # requests for fresh URLs during one upload
CONTENT_TYPES = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime"}
OVER = (404, 410, 422)  # an upload is unknown, aborted or refused, or its source is gone
KEPT_MAX = 10_000  # ids of uploads, the newest

OnBytes = Callable[[int], object]  # called with the number of bytes since the last call


class Unfinished:
    """Upload ids by server, file and name, in one JSON file, so that a later upload can resume.

    An id stays until its source is submitted, so that after an interruption no file is sent twice. A file
    that has changed counts as another file. If the ids are lost, a file is only sent again. So no error
    here reaches the caller.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, server: str, file: Path, name: str | None = None) -> str | None:
        """Return the id of the upload of this file that is not submitted yet, if there is one."""
        return self._load().get(_key(server, file, name))

    def set(self, server: str, file: Path, upload_id: str | None, name: str | None = None) -> None:
        """Store the id of an upload that has begun; None removes it."""
        known = self._load()
        known.pop(_key(server, file, name), None)
        if upload_id is not None:
            known[_key(server, file, name)] = upload_id
        self._save(known)

    def forget(self, upload_ids: Collection[str]) -> None:
        """Remove these uploads, since their sources are submitted. Their files need not exist any more."""
        known = self._load()
        left = {key: upload_id for key, upload_id in known.items() if upload_id not in upload_ids}
        if left != known:
            self._save(left)

    def _save(self, known: dict[str, str]) -> None:
        newest, fresh = dict(list(known.items())[-KEPT_MAX:]), self._path.with_name(f"{self._path.name}.new")
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(json.dumps(newest))
            fresh.replace(self._path)  # at once: an interruption must not lose the ids of a thousand uploads

    def _load(self) -> dict[str, str]:
        try:
            known = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}


class Uploader:
    """Sends files to the bucket, and has control make sources of them."""

    def __init__(self, api: Api, bucket: httpx.Client, unfinished: Unfinished | None) -> None:
        self._api, self._bucket, self._unfinished = api, bucket, unfinished
        self._made: dict[str, str] = {}  # upload ids by source

    def upload(self, path: Path, name: str, on_bytes: OnBytes) -> Source:
        """Upload a video and return its source. Requests fresh URLs when a part cannot be sent to its URL.

        A repeated call returns the same source until that is submitted or gone.
        """
        upload, stored = self._begun(path, name), dict[int, str]()
        for tries_left in reversed(range(ROUNDS_MAX)):
            try:
                source = self._completed(path, upload, stored, on_bytes)
            except httpx.HTTPError:
                if not tries_left:
                    raise
                upload = self._look(upload.upload_id)
            except ApiError as refusal:
                if refusal.status in OVER:  # else the parts are still there for a later call
                    self._remember(path, name, None)
                raise
            else:
                self._made[source.source_id] = upload.upload_id
                return source
        raise AssertionError("the last round returns or raises")

    def forget(self, source_ids: Collection[str]) -> None:
        """Forget the uploads of these sources, which are submitted: the next ones make new sources."""
        uploads = {self._made.pop(source_id) for source_id in source_ids if source_id in self._made}
        if self._unfinished and uploads:
            self._unfinished.forget(uploads)

    def _completed(self, path: Path, upload: Upload, stored: dict[int, str], on_bytes: OnBytes) -> Source:
        """Return the source of the upload. Sends the missing parts first."""
        if upload.source_id:
            on_bytes(0 if stored else path.stat().st_size)
            return Source(source_id=upload.source_id)
        self._send_parts(path, upload, stored, on_bytes)
        parts = [{"number": number, "etag": stored[number]} for number in sorted(stored)]
        path_ = f"/api/uploads/{segment(upload.upload_id)}/complete"
        return Source.model_validate(self._api.call("POST", path_, json={"parts": parts}).json())

    def _begun(self, path: Path, name: str) -> Upload:
        """Return the earlier upload of this file, or a new one."""
        known = self._unfinished.get(self._api.url, path, name) if self._unfinished else None
        if known is not None:
            try:
                return self._look(known)
            except ApiError as refusal:
                if refusal.status not in OVER:
                    raise
        body = {
            "name": name,
            "size_bytes": path.stat().st_size,
            "content_type": CONTENT_TYPES.get(path.suffix.lower(), "video/mp4"),
        }
        upload = Upload.model_validate(self._api.call("POST", "/api/uploads", json=body).json())
        self._remember(path, name, upload.upload_id)
        return upload

    def _look(self, upload_id: str) -> Upload:
        answer = self._api.call("GET", f"/api/uploads/{segment(upload_id)}")
        return Upload.model_validate(answer.json())

    def _remember(self, path: Path, name: str, upload_id: str | None) -> None:
        if self._unfinished:
            self._unfinished.set(self._api.url, path, upload_id, name)

    def _send_parts(self, path: Path, upload: Upload, stored: dict[int, str], on_bytes: OnBytes) -> None:
        """Send the missing parts, several at once, and add the ETag of each stored part to `stored`."""
        size = upload.part_size_bytes

        def send(part: Part) -> None:
            if part.number in stored:
                return
            content_bytes, etag = part.size_bytes or 0, part.etag
            if etag is None:
                content = _read(path, (part.number - 1) * size, size)
                content_bytes, etag = len(content), _put(self._bucket, part.url or "", content)
            stored[part.number] = etag
            on_bytes(content_bytes)

        with ThreadPoolExecutor(PARALLEL_PARTS) as pool:
            try:
                list(pool.map(send, upload.parts))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # do not send the waiting parts for nothing
                raise


def _key(server: str, file: Path, name: str | None) -> str:
    facts = file.stat()
    called = f" as {name}" if name not in (None, file.name) else ""
    return f"{server} {file.resolve()} {facts.st_size} {facts.st_mtime_ns}{called}"


def _read(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)


def _may_pass(error: BaseException) -> bool:
    """Return whether the same PUT may succeed later: a time-out, a rate limit, a failing server, a cut."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in (408, 429) or error.response.is_server_error
    return isinstance(error, httpx.HTTPError)


@retry(
    retry=retry_if_exception(_may_pass),
    stop=stop_after_attempt(5),
    wait=wait_random_exponential(max=10),
    reraise=True,
)
def _put(http: httpx.Client, url: str, content: bytes) -> str:
    answer = http.put(url, content=content)
    answer.raise_for_status()
    return answer.headers["etag"]
