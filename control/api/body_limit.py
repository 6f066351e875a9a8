"""Caps on request bodies, in bytes and in time, kept while reading: before a route's guard is asked.

A form of videos has no cap in bytes here: it is streamed, by a route that asks its guard first and counts.
"""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES_MAX = 2 * 1024**2  # a finish of 200 outputs has about 300 kB
BODY_S_MAX = 60.0
FORM_PATH = "/api/jobs"


def is_form(scope: Scope) -> bool:
    """Tell whether the request is a form of videos."""
    if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != FORM_PATH:
        return False
    content_type = Headers(scope=scope).get("content-type", "")
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


class BodyLimit:
    """ASGI middleware: reading too much of a body raises HTTPException 413, waiting too long for it 408."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request."""
        if is_form(scope):
            await _serve_form(self._app, scope, receive, send)
            return
        until_s, seen_bytes, is_whole = asyncio.get_running_loop().time() + BODY_S_MAX, 0, False

        async def counted() -> Message:
            nonlocal seen_bytes, is_whole
            if is_whole:  # what is waited for now is the client's going away
                return await receive()
            try:
                async with asyncio.timeout_at(until_s):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408) from None
            is_whole = not message.get("more_body", False)
            seen_bytes += len(message.get("body", b""))
            if seen_bytes > BODY_BYTES_MAX:
                raise HTTPException(413)
            return message

        await self._app(scope, counted, send)


async def _serve_form(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a form; an answer before its end closes the connection, or its sender would go on in vain."""
    is_read = False

    async def noted() -> Message:
        nonlocal is_read
        message = await receive()
        is_read = not message.get("more_body", False)
        return message

    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start" and not is_read:
            message["headers"] = [*message["headers"], (b"connection", b"close")]
        await send(message)

    await app(scope, noted, closing)
