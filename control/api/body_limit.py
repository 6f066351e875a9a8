"""Caps on request bodies, in bytes and in time, kept while reading: before a route's guard is asked."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES_MAX = 2 * 1024**2  # a finish of 200 outputs has about 300 kB
BODY_S_MAX = 60.0


class BodyLimit:
    """ASGI middleware: reading too much of a body raises HTTPException 413, waiting too long for it 408."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request."""
        seen_bytes, is_whole = 0, False
        until = asyncio.get_running_loop().time() + BODY_S_MAX

        async def counted() -> Message:
            nonlocal seen_bytes, is_whole
            if is_whole:  # what is waited for now is the client's going away
                return await receive()
            try:
                async with asyncio.timeout_at(until):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408) from None
            is_whole = not message.get("more_body", False)
            seen_bytes += len(message.get("body", b""))
            if seen_bytes > BODY_BYTES_MAX:
                raise HTTPException(413)
            return message

        await self._app(scope, counted, send)
