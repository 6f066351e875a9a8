"""Streams stored files through control, as fast as the client reads.

`Piped` is async; the generator that makes the chunks is sync and runs in threads. A download never holds more
than one chunk, and never sends a byte of an object other than the one that control verified.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import urllib3
from anyio import CancelScope, CapacityLimiter, to_thread
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from control.context import AppContext
from control.domain.errors import Code, ControlError
from control.store.files import StoredFile
from control.telemetry.log import log_failure
from infra.ports import OutsideError, Refusal, Refused, Unanswered, is_transient

CHUNK_BYTES_MAX = 2 * 1024**2  # a chunk costs thread switches: with a quarter of it, CPU rises by half
CHUNK_BYTES_MIN = 64 * 1024
CHUNKS_BYTES = 4 * 1024**2  # of all downloads together, unless CHUNK_BYTES_MIN makes it more
OPEN_MAX = 200
OPEN_OF_ONE_MAX = 50  # of one archive; download managers open up to 16 for one file
TRIES_MAX = 5  # consecutive tries without a byte
PAUSE_S = 0.1  # before the second try; doubled before each further one
URL_LIFE_S = 300  # the URL is used at once; a running transfer continues after it expires


class Piped(StreamingResponse):
    """Sends the chunks of a blocking generator. The headers must contain the Content-Length of the body.

    A thread is used only while a chunk is made. It comes from `threads`, so a slow bucket never delays the
    heartbeats of runners. If the bucket fails, the connection is closed before the end of the body, since
    HTTP has no other way to report an error by then. `place` is held meanwhile, and it may refuse.
    """

    def __init__(
        self,
        chunks: Generator[bytes],
        *,
        place: AbstractContextManager[None],
        threads: CapacityLimiter,
        status_code: int,
        headers: Mapping[str, str],
        media_type: str,
    ) -> None:
        super().__init__((), status_code=status_code, headers=headers, media_type=media_type)
        self._chunks, self._threads, self._place = chunks, threads, place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer. Raises what `place` raises, before anything is sent."""
        with self._place:
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        """Send head and body. The framework calls it."""
        head = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **head})
        try:
            while chunk := await self._next():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except OutsideError as error:
            log_failure("download_cut", error)
            return  # the server closes the connection, since the body is incomplete
        finally:
            with CancelScope(shield=True):  # the sent bytes also count if the client has disconnected
                await to_thread.run_sync(self._chunks.close, limiter=self._threads)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _next(self) -> bytes:
        return await to_thread.run_sync(next, self._chunks, b"", limiter=self._threads)


class Share:
    """Limits the open downloads and their memory: the more are open, the smaller are their chunks.

    Many people may use the same link, so one archive never gets all places. For one event loop.
    """

    def __init__(self) -> None:
        self._open = Counter[str]()

    @contextmanager
    def taken(self, archive_id: str) -> Iterator[None]:
        """Hold a place while the block runs. Raises ControlError unavailable when none is free."""
        if self._open.total() >= OPEN_MAX or self._open[archive_id] >= OPEN_OF_ONE_MAX:
            raise ControlError(
                Code.UNAVAILABLE,
                "Too many downloads are under way. Try again when one has ended.",
                headers={"Retry-After": "30"},
            )
        self._open[archive_id] += 1
        try:
            yield
        finally:
            self._open[archive_id] -= 1
            self._open += Counter()  # drops the keys whose count is zero

    @property
    def chunk_bytes(self) -> int:
        """The largest size of the next chunk of each download."""
        return max(CHUNK_BYTES_MIN, min(CHUNK_BYTES_MAX, CHUNKS_BYTES // max(1, self._open.total())))


def fetch(context: AppContext, share: Share, file: StoredFile, start: int, stop: int) -> Generator[bytes]:
    """Yield the bytes `start <= i < stop` of a file. If a connection drops, a new one continues there.

    Raises Refused if the object has changed or is gone, Unanswered if the bucket does not answer.
    """
    failures = 0
    while start < stop:
        try:
            for chunk in _answer(context, share, file, start, stop):
                start, failures = start + len(chunk), 0
                yield chunk
        except (urllib3.exceptions.HTTPError, Unanswered) as error:
            failures += 1
            if failures == TRIES_MAX:
                raise _unanswered(file, f"the bucket does not answer ({type(error).__name__})") from None
            time.sleep(PAUSE_S * 2 ** (failures - 1))


def _answer(context: AppContext, share: Share, file: StoredFile, start: int, stop: int) -> Iterator[bytes]:
    url = context.storage.sign_get(file.key, expires_s=URL_LIFE_S)
    headers = {"Range": f"bytes={start}-{stop - 1}", "If-Match": f'"{file.etag}"'}
    with context.bucket_http.request("GET", url, headers=headers, preload_content=False) as answer:
        _require_range(file, answer, stop - start)
        while chunk := answer.read(share.chunk_bytes, decode_content=False):
            yield chunk
        answer.release_conn()


def _require_range(file: StoredFile, answer: urllib3.BaseHTTPResponse, length: int) -> None:
    status = answer.status
    if is_transient(status):
        raise _unanswered(file, "the bucket is busy or failing", status)
    if status != 206 or answer.headers.get("content-length") != str(length):
        message = "the object has changed or is gone" if status in (404, 412) else "not the requested bytes"
        raise Refused(Refusal.INVALID, message, method="GET", path=file.key, status=status)


def _unanswered(file: StoredFile, message: str, status: int | None = None) -> Unanswered:
    return Unanswered(message, method="GET", path=file.key, status=status)
