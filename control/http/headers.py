"""What goes with every answer: nothing is guessed, framed, kept or told to others unless a route says so."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CLOSED = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",  # answers hold tokens, tickets and signed URLs
}
HTTPS_ONLY = {"Strict-Transport-Security": "max-age=31536000"}


class ClosedHeaders:
    """ASGI middleware: adds the headers that a route has not set itself, behind https HTTPS_ONLY too."""

    def __init__(self, app: ASGIApp, *, is_https: bool) -> None:
        self._app = app
        self._headers = CLOSED | HTTPS_ONLY if is_https else CLOSED

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request."""

        async def closed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, closed)
