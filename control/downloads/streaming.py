"""An answer whose body is made while it is sent, as fast as the client takes it.

The one async place of downloads; what makes the chunks is sync as all else.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager

from anyio import CancelScope, CapacityLimiter, to_thread
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from control.telemetry.log import failure
from infra.ports import OutsideError


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
            failure("download_cut", error)
            return  # the server cuts what has no end
        finally:
            with CancelScope(shield=True):  # what was sent is counted also of a client that went away
                await to_thread.run_sync(self._chunks.close, limiter=self._threads)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _next(self) -> bytes:
        return await to_thread.run_sync(next, self._chunks, b"", limiter=self._threads)
