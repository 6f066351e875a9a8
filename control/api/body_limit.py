"""A cap on request bodies, counted while reading. Bodies are parsed before a route's guard is asked."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES_MAX = 2 * 1024**2  # a finish of 200 outputs has about 300 kB


class BodyLimit:
    """ASGI middleware: reading more than BODY_BYTES_MAX of a body raises HTTPException 413."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request."""
        seen_bytes = 0

        async def counted() -> Message:
            nonlocal seen_bytes
            message = await receive()
            seen_bytes += len(message.get("body", b""))
            if seen_bytes > BODY_BYTES_MAX:
                raise HTTPException(413)
            return message

        await self._app(scope, counted, send)
