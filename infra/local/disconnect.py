"""Ends a connection without an answer, as a network does, under uvicorn.

ASGI has no message for it: when an app sends nothing, uvicorn answers 500. So this takes the connection from
uvicorn's `send` (0.54; a test notices a change). Must never be used in a deployment.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

_KEY = "video_refresher.connection"


class Cuttable:
    """Wraps the whole app, right under uvicorn: lets a `CutResponse` find the connection."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            cycle: Any = getattr(send, "__self__", None)
            scope[_KEY] = cycle.transport
        await self._app(scope, receive, send)


class CutResponse(Response):
    """No response: the connection ends before the first byte."""

    async def __call__(self, scope: Scope, receive: Receive, _: Send) -> None:
        scope[_KEY].abort()
        while (await receive())["type"] != "http.disconnect":
            pass


def cut(_: Request, __: Exception) -> Response:
    """Answer an exception with a cut connection."""
    return CutResponse()
