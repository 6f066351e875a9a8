"""Serves control as a deployment does: on the main thread, where uvicorn owns the process's signals."""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import uvicorn

from control.http.protocol import HTTP_LIMITS
from infra.ports import NotStarted

GRACE_S = 2  # for the answers under way when a stop is asked for
FILES = 4096  # that may be open, if the system lets us: each connection is one


def serve(
    app: Any, listener: socket.socket, *, on_ready: Callable[[], object], on_stop: Callable[[], object]
) -> None:
    """Serve `app` until SIGTERM or SIGINT, which is raised again at the end. Raises NotStarted.

    Calls `on_ready` when requests are answered, and `on_stop` the moment the end is asked for.
    """
    _allow_files()
    config = uvicorn.Config(
        app,
        log_level="warning",
        timeout_graceful_shutdown=GRACE_S,
        lifespan="on",
        **HTTP_LIMITS,
    )
    server = _Server(config, on_ready, on_stop)
    with listener:
        server.run(sockets=[listener])
    if not server.started:
        raise NotStarted("control did not start; the log above says why")


def _allow_files() -> None:
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if most == resource.RLIM_INFINITY else min(FILES, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, on_ready: Callable[[], object], on_stop: Callable[[], object]
    ) -> None:
        super().__init__(config)
        self._on_ready, self._on_stop = on_ready, on_stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._on_stop()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()
