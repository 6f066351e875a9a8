"""What every request passes through: limits for its body, headers of the answer, allowed origins.

The limit of a body depends on its sender: a runner with the token of its attempt, a client with a token, or
anyone who signs in. From other senders no body is read. This is checked at the moment when the route starts
to read. It limits memory and does not replace the guard of the route, which decides about access afterwards.
A form of videos has no limit here: its route (`routes/forms`) calls its guard first, streams the form, and
limits its size and time itself.

One file, since the order of these layers around the app matters.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from math import inf

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control.auth.tokens import Signer
from control.http.caller import attempt_of
from control.http.server import has_body
from control.settings import Settings

FORM_PATH = "/api/jobs"
LOGIN_PATH = "/api/auth"
GUARDS_AT_ONCE = 4  # threads that check tokens; a check takes less than a millisecond

BODY_S_MAX = 60.0
LOGIN_S_MAX = 10.0
LOGINS_BYTES = 400 * 1024  # of all logins in progress together: 100 of the largest
CLIENTS_BYTES = 8 * 1024**2
RUNNERS_BYTES = 16 * 1024**2  # for the finish messages of 50 machines at once

LOGIN_BYTES_MAX = 4 * 1024  # a password of 1024 ASCII characters, or of 330 other ones
REPORT_BYTES_MAX = 2 * 1024**2  # a finish message with 200 outputs has about 300 kB
CLIENT_BYTES_MAX = 64 * 1024
# In any body. JSON is parsed on the event loop, which 400,000 empty lists kept for a second. The largest
# valid bodies have 10,000 parts, or some 10,000 brackets in the arguments of FFmpeg.
BRACKETS_MAX = 60_000
# for routes that need more:
BYTES_MAX = (
    # 100 sources, each a URL of 8,192 characters, a name of 255 of at most 12 bytes each when escaped, and
    # 4 KiB of the caller's own data; and 2 MiB of URLs for their outputs
    (re.compile(r"/api/(jobs|batches|quote)"), 3840 * 1024),
    # 10,000 parts of 100 bytes: enough for an ETag of 64 characters
    (re.compile(r"/api/uploads/[^/]+/complete"), 1024**2),
    # 10,000 output ids
    (re.compile(r"/api/(jobs|batches)/[^/]+/download-link"), 512 * 1024),
)

CLOSED = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",  # answers hold tokens, tickets and signed URLs
}
HTTPS_ONLY = {"Strict-Transport-Security": "max-age=31536000"}
_SENT = ("Authorization", "Content-Type", "Idempotency-Key", "If-Range", "Last-Event-ID", "Range")
_READ = ("Accept-Ranges", "Content-Disposition", "Content-Range", "ETag", "Location", "Retry-After")


def is_form(scope: Scope) -> bool:
    """Return whether the request is a form of videos."""
    if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != FORM_PATH:
        return False
    content_type = Headers(scope=scope).get("content-type", "")
    return content_type.partition(";")[0].strip().lower() == "multipart/form-data"


class Audience:
    """One kind of senders: how many bytes all their bodies may hold together, and how long one may take.

    If there is no space for a new body, the oldest unfinished bodies are dropped. So slow senders cannot
    occupy all of it.
    """

    def __init__(self, free_bytes: int, body_s_max: float) -> None:
        self._free_bytes, self.body_s_max = free_bytes, body_s_max
        self._awaited: dict[Body, None] = {}  # the oldest first

    def take_in(self, body: Body) -> None:
        """Reserve space for a body. Raises HTTPException 503 when there is none."""
        while body.held_bytes > self._free_bytes and self._awaited:
            next(iter(self._awaited)).give_up()
        if body.held_bytes > self._free_bytes:
            raise HTTPException(503, headers={"Retry-After": "1"})
        self._free_bytes -= body.held_bytes
        self._awaited[body] = None

    def has_arrived(self, body: Body) -> None:
        """Mark a body as complete: it is no longer dropped."""
        self._awaited.pop(body, None)

    def let_go(self, body: Body) -> None:
        """Release the space of a body."""
        self.has_arrived(body)
        self._free_bytes += body.held_bytes


class Body:
    """The body of one request, as its route reads it: at most `held_bytes`, after it is admitted."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._audience: Audience | None = None
        self._until_s = inf
        self._wait: asyncio.Timeout | None = None
        self._seen_bytes = self._seen_brackets = 0
        self._is_given_up = False
        self.held_bytes = 0
        self.is_whole = False

    @property
    def is_admitted(self) -> bool:
        """Whether the body may be read."""
        return self._audience is not None

    def admit(self, audience: Audience, size_bytes: int) -> None:
        """Allow the body to be read, with the limits of its audience. Raises HTTPException 503."""
        self.held_bytes = size_bytes
        audience.take_in(self)
        self._audience = audience
        self._until_s = asyncio.get_running_loop().time() + audience.body_s_max

    async def next(self) -> Message:
        """Return the next part. Raises HTTPException 408 when it is late, 413 when the body is too large."""
        message = await self._in_time()
        if self._is_given_up:  # although its next part has just arrived
            raise HTTPException(408)
        part = message.get("body", b"")
        self._seen_bytes += len(part)
        self._seen_brackets += part.count(b"[") + part.count(b"{")
        if self._seen_bytes > self.held_bytes or self._seen_brackets > BRACKETS_MAX:
            raise HTTPException(413)
        if self._audience is not None and self.is_whole:
            self._audience.has_arrived(self)
        return message

    async def streamed(self) -> Message:
        """Return the next part without any limit."""
        message = await self._receive()
        self.is_whole = not message.get("more_body", False)
        return message

    def give_up(self) -> None:
        """Release the space and let a read that waits fail with HTTPException 408."""
        self.close()
        self._is_given_up, self._until_s = True, 0.0
        if self._wait is not None:
            self._wait.reschedule(self._until_s)

    def close(self) -> None:
        """Release the space."""
        if self._audience is not None:
            self._audience.let_go(self)
            self.held_bytes = 0

    async def _in_time(self) -> Message:
        try:
            async with asyncio.timeout_at(self._until_s) as self._wait:
                return await self.streamed()
        except TimeoutError:
            raise HTTPException(408) from None
        finally:
            self._wait = None


class BodyLimit:
    """ASGI middleware: a body that exceeds a limit raises HTTPException where the route reads it.

    401 without a token, 413 when it is too large, 408 when it is too slow, 503 when there is no space now.
    """

    def __init__(self, app: ASGIApp, *, signer: Signer, is_client: Callable[[str], bool]) -> None:
        self._app, self._signer, self._is_client = app, signer, is_client
        self._anyone = Audience(LOGINS_BYTES, LOGIN_S_MAX)
        self._clients = Audience(CLIENTS_BYTES, BODY_S_MAX)
        self._runners = Audience(RUNNERS_BYTES, BODY_S_MAX)
        self._guards = CapacityLimiter(GUARDS_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request. An answer that comes before the end of the body has `Connection: close`."""
        if scope["type"] != "http" or not has_body(scope["headers"]):
            await self._app(scope, receive, send)
            return
        body = Body(receive)

        async def admitted() -> Message:
            if body.is_whole:  # the route now waits for the client to disconnect
                return await receive()
            if not body.is_admitted:
                await self._admit(body, scope)
            return await body.next()

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start" and not body.is_whole:
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        try:
            await self._app(scope, body.streamed if is_form(scope) else admitted, closing)
        finally:
            body.close()

    async def _admit(self, body: Body, scope: Scope) -> None:
        audience, bytes_max = await self._judge(scope)
        length = Headers(scope=scope).get("content-length")
        size_bytes = bytes_max if length is None else int(length)
        if size_bytes > bytes_max:
            raise HTTPException(413)
        body.admit(audience, size_bytes)

    async def _judge(self, scope: Scope) -> tuple[Audience, int]:
        """Return the kind of the sender and the largest body that it may send. Raises HTTPException 401."""
        if scope["path"] == LOGIN_PATH:
            return self._anyone, LOGIN_BYTES_MAX
        if attempt_of(scope, self._signer) is not None:
            return self._runners, REPORT_BYTES_MAX
        kind, _, token = Headers(scope=scope).get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and await to_thread.run_sync(
            self._is_client, token.strip(), limiter=self._guards
        ):
            return self._clients, client_bytes_max(scope["path"])
        raise HTTPException(401, headers={"WWW-Authenticate": "Bearer"})


def client_bytes_max(path: str) -> int:
    """Return the largest body of a client for an address: every valid request fits into it."""
    return next((most for address, most in BYTES_MAX if address.fullmatch(path)), CLIENT_BYTES_MAX)


class PlainPath:
    """ASGI middleware: a NUL in a path becomes a replacement character. PostgreSQL cannot look for a NUL."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request."""
        if scope["type"] == "http" and "\0" in scope["path"]:
            scope = {**scope, "path": scope["path"].replace("\0", "\ufffd")}
        await self._app(scope, receive, send)


class ClosedHeaders:
    """ASGI middleware: adds each header of CLOSED that the route has not set, with https HTTPS_ONLY too."""

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


def allow_origins(app: FastAPI, settings: Settings) -> None:
    """Allow pages of ALLOWED_ORIGINS to call the API with a bearer token. Cookies are not used."""
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.allowed_origins),
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=list(_SENT),
            expose_headers=list(_READ),
        )
