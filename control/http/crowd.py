"""Limits how many requests run at once, of each client and of all. Decided before a body is read.

It counts requests, not connections: behind Fly's proxy all connections come from the proxy, which names the
client of each request. Runners and the health check have limits of their own, so clients cannot block them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from control.auth.login_limit import network_of
from control.auth.tokens import Signer
from control.domain.errors import Code
from control.http.caller import address_of, attempt_of
from control.http.errors import answer

REQUESTS_MAX = 750  # of all clients; the rest of `server.CONNECTIONS_MAX` is for runners and health checks
CLIENT_REQUESTS_MAX = 200  # of one network: an office shares an address and keeps event streams open
RUNNER_REQUESTS_MAX = 4  # of one attempt: a heartbeat and a finish, and earlier ones that timed out there
HEALTH_REQUESTS_MAX = 50


@dataclass(frozen=True)
class Caller:
    """The sender of a request, and how many requests it may have in progress."""

    name: str
    requests_max: int
    is_client: bool = False


class Crowd:
    """ASGI middleware: answers 503 to a request that exceeds a limit."""

    def __init__(self, app: ASGIApp, *, signer: Signer, is_behind_fly: bool) -> None:
        self._app, self._signer, self._is_behind_fly = app, signer, is_behind_fly
        self._under_way: Counter[str] = Counter()
        self._clients = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        caller = self._caller(scope)
        if self._under_way[caller.name] >= caller.requests_max or (
            caller.is_client and self._clients >= REQUESTS_MAX
        ):
            await _refused()(scope, receive, send)
            return
        self._count(caller, 1)
        try:
            await self._app(scope, receive, send)
        finally:
            self._count(caller, -1)

    def _caller(self, scope: Scope) -> Caller:
        if scope["path"] == "/api/health":
            return Caller("health", HEALTH_REQUESTS_MAX)
        if attempt_id := attempt_of(scope, self._signer):
            return Caller(attempt_id, RUNNER_REQUESTS_MAX)
        network = network_of(address_of(scope, is_behind_fly=self._is_behind_fly))
        return Caller(network, CLIENT_REQUESTS_MAX, is_client=True)

    def _count(self, caller: Caller, more: int) -> None:
        self._clients += more * caller.is_client
        self._under_way[caller.name] += more
        if not self._under_way[caller.name]:
            del self._under_way[caller.name]


def _refused() -> JSONResponse:
    message = "Too many requests are under way already. Try again in a moment."
    return answer(Code.UNAVAILABLE, message, {"Retry-After": "1", "Connection": "close"})
