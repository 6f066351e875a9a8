"""Knows whether clients use control: requests in progress, event streams included, and the last one's end."""

from __future__ import annotations

import threading
import time

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from control.domain.errors import Code
from control.http.errors import answer

UNCOUNTED = ("/api/health", "/api/ready", "/metrics")  # these come all the time, and nobody waits for more


class Activity:
    """Counts requests. Once closed, control accepts no further request. May be used by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_progress = 0
        self._last_at = time.monotonic()
        self._is_closed = False

    def begin(self) -> bool:
        """Count the begin of a request. Return False if it must be refused because control is ending."""
        with self._lock:
            self._in_progress += not self._is_closed
            self._last_at = time.monotonic()
            return not self._is_closed

    def end(self) -> None:
        """Count the end of a request that had begun."""
        with self._lock:
            self._in_progress -= 1
            self._last_at = time.monotonic()

    def idle_since(self) -> float | None:
        """Return when the last request ended, on the monotonic clock. None while one is in progress."""
        with self._lock:
            return self._idle_since()

    def close(self, *, idle_since: float) -> bool:
        """Refuse all further requests if none came after `idle_since`. Return whether they are refused."""
        with self._lock:
            self._is_closed = self._is_closed or self._idle_since() == idle_since
            return self._is_closed

    def _idle_since(self) -> float | None:
        return None if self._in_progress else self._last_at


class CountRequests:
    """ASGI middleware: counts requests in `activity`, and answers 503 to those that it refuses."""

    def __init__(self, app: ASGIApp, *, activity: Activity) -> None:
        self._app, self._activity = app, activity

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request."""
        if scope["type"] != "http" or scope["path"] in UNCOUNTED:
            await self._app(scope, receive, send)
            return
        if not self._activity.begin():
            await _ending()(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            self._activity.end()


def _ending() -> JSONResponse:
    message = "The service is starting again. Try again in a moment."
    return answer(Code.UNAVAILABLE, message, {"Retry-After": "1", "Connection": "close"})
