"""Caps on request bodies, in bytes and in time, kept while reading: before a route's guard is asked.

A form of videos has no cap in bytes here: it is streamed, by a route that asks its guard first and counts.
"""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES_MAX = 2 * 1024**2  # a finish of 200 outputs has about 300 kB
BODY_S_MAX = 60.0  # for the whole of a body; of a form for each piece of it
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
        now_s = asyncio.get_running_loop().time
        until_s, seen_bytes, is_whole = now_s() + BODY_S_MAX, 0, False
        is_capped = not is_form(scope)

        async def counted() -> Message:
            nonlocal seen_bytes, is_whole
            if is_whole:  # what is waited for now is the client's going away
                return await receive()
            try:
                async with asyncio.timeout_at(until_s if is_capped else now_s() + BODY_S_MAX):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408) from None
            is_whole = not message.get("more_body", False)
            seen_bytes += len(message.get("body", b""))
            if is_capped and seen_bytes > BODY_BYTES_MAX:
                raise HTTPException(413)
            return message

        await self._app(scope, counted, send)
