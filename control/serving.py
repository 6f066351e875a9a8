"""Serves control as a deployment does: on the main thread, where uvicorn owns the process's signals."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from infra.ports import NotStarted

GRACE_S = 10  # what is under way when a stop is asked for may take so long


def serve(app: Any, listener: socket.socket, *, on_ready: Callable[[], object]) -> None:
    """Serve `app` until SIGTERM or SIGINT, which is raised again at the end. Raises NotStarted.

    Calls `on_ready` when requests are answered.
    """
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=GRACE_S, lifespan="on")
    server = _Server(config, on_ready)
    with listener:
        server.run(sockets=[listener])
    if not server.started:
        raise NotStarted("control did not start; the log above says why")


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()
