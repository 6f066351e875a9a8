"""Uploads in parallel parts directly to the bucket, which resume after an interruption."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
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
    """Upload ids by server, file and name, in one file, so that a later upload can resume.

    An id stays until its source is submitted, so that after an interruption no file is sent twice. A file
    that has changed counts as another file. If the ids are lost, a file is only sent again. So no error
    here reaches the caller.

    Each change appends one line of JSON, `[key, id]` or `[key, null]`, so that the thousandth upload of a
    command costs as much as the first. The first use reads the lines, and writes only the ids that are left.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, str] | None = None  # None: not read yet

    def get(self, server: str, file: Path, name: str | None = None) -> str | None:
        """Return the id of the upload of this file that is not submitted yet, if there is one."""
        return self._ids().get(_key(server, file, name))

    def set(self, server: str, file: Path, upload_id: str | None, name: str | None = None) -> None:
        """Store the id of an upload that has begun; None removes it."""
        self._change({_key(server, file, name): upload_id})

    def forget(self, upload_ids: Collection[str]) -> None:
        """Remove these uploads, since their sources are submitted. Their files need not exist any more."""
        self._change(dict.fromkeys(key for key, id_ in self._ids().items() if id_ in upload_ids))

    def _change(self, changes: Mapping[str, str | None]) -> None:
        known = self._ids()
        for key, upload_id in changes.items():
            known.pop(key, None)
            if upload_id is not None:
                known[key] = upload_id
        with suppress(OSError), self._path.open("a") as file:
            file.write(_lines(changes))

    def _ids(self) -> dict[str, str]:
        if self._known is None:
            self._known = dict(list(_read_lines(self._path).items())[-KEPT_MAX:])
            fresh = self._path.with_name(f"{self._path.name}.new")
            with suppress(OSError):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                fresh.write_text(_lines(self._known))
                fresh.replace(self._path)  # at once: an interruption must not lose what was there
        return self._known


def _lines(ids: Mapping[str, str | None]) -> str:
    return "".join(json.dumps([key, upload_id]) + "\n" for key, upload_id in ids.items())


def _read_lines(path: Path) -> dict[str, str]:
    """Return the ids that the lines leave. A line that was cut off is left out."""
    known: dict[str, str] = {}
    try:
        lines = path.read_text().splitlines()
    except (OSError, ValueError):
        return known
    for line in lines:
        with suppress(ValueError, TypeError):
            key, upload_id = json.loads(line)
            known.pop(key, None)
            if upload_id is not None:
                known[key] = upload_id
    return known


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
