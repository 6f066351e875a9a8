"""Bytes of stored files through control, as fast as the client takes them.

The one async place of downloads; what makes the chunks is sync as all else.

Must never hold more than one chunk, nor yield a byte of another object than the one that was looked at.
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
from infra.ports import OutsideError, Refusal, Refused, Unanswered


class Piped(StreamingResponse):
    """Sends what a blocking generator yields. Its headers must hold the body's Content-Length.

    The server sends one chunk while the next is made, and a thread is only taken to make one: of `threads`,
    so that a slow bucket never keeps runners' beats waiting. When the bucket fails the connection is cut
    before its end, which is all that HTTP can still say by then. `place` is held meanwhile, and may refuse.
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
        """Send the answer. Raises what the place does, before anything is sent."""
        with self._place:
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        """Send head and body. Called by the framework."""
        head = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **head})
        try:
            while chunk := await self._next():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except OutsideError as error:
            log_failure("download_cut", error)
            return  # the server cuts what has no end
        finally:
            with CancelScope(shield=True):  # what was sent is counted also of a client that went away
                await to_thread.run_sync(self._chunks.close, limiter=self._threads)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _next(self) -> bytes:
        return await to_thread.run_sync(next, self._chunks, b"", limiter=self._threads)


CHUNK_BYTES_MAX = 2 * 1024**2  # each costs switches between threads: a fourth of it, half as much CPU again
CHUNK_BYTES_MIN = 64 * 1024
CHUNKS_BYTES = 4 * 1024**2  # of all downloads together, while they are not too many for that
OPEN_MAX = 200
OPEN_OF_ONE_MAX = 50  # of one archive; programs that fetch one file in pieces open up to 16
TRIES_MAX = 5  # in a row that brought nothing
PAUSE_S = 0.1  # before the second try; twice as long before each further one
URL_LIFE_S = 300  # it is used at once; what is under way goes on after it

_BUSY = frozenset({408, 429, 500, 502, 503, 504})


class Share:
    """The places of downloads, and how much each holds: less the more there are, since clients may be slow.

    A link can be in many hands, so one archive never gets all places. For one event loop.
    """

    def __init__(self) -> None:
        self._open = Counter[str]()

    @contextmanager
    def taken(self, archive_id: str) -> Iterator[None]:
        """Take one more place while the block lasts. Raises ControlError unavailable when none is free."""
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
            self._open += Counter()  # drops what is at nought

    @property
    def chunk_bytes(self) -> int:
        """How long the next chunk of each may be."""
        return max(CHUNK_BYTES_MIN, min(CHUNK_BYTES_MAX, CHUNKS_BYTES // max(1, self._open.total())))


def fetch(context: AppContext, share: Share, file: StoredFile, start: int, stop: int) -> Generator[bytes]:
    """Yield the bytes `start <= i < stop` of a file; where a connection drops, the next one goes on.

    Raises Refused when the object has changed or vanished, Unanswered when the bucket stays away.
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
                raise _unanswered(file, f"the bucket stays away ({type(error).__name__})") from None
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
    if status in _BUSY:
        raise _unanswered(file, "the bucket is busy or unwell", status)
    if status != 206 or answer.headers.get("content-length") != str(length):
        message = "the object has changed or vanished" if status in (404, 412) else "not the bytes asked for"
        raise Refused(Refusal.INVALID, message, method="GET", path=file.key, status=status)


def _unanswered(file: StoredFile, message: str, status: int | None = None) -> Unanswered:
    return Unanswered(message, method="GET", path=file.key, status=status)
