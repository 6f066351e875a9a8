"""Serve an ASGI app in a thread of this process: how the embedded stack and the tests run their servers.

Must never be used for a deployment: there uvicorn owns the process and its signals.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from infra.ports import NotStarted


def listen(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """Return a listening socket; port 0 takes a free one. Raises OSError when the port is taken.

    Host "" is every address of this machine, also those of IPv6.

    Its connections inherit TCP_NODELAY: asyncio sets that only on sockets that name their protocol, and
    without it each answer after the first of a connection takes 44 ms.
    """
    if not host and socket.has_dualstack_ipv6():  # Fly's private network is IPv6
        listener = socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True)
    else:
        listener = socket.create_server((host, port))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the base URL of the server on `listener`."""
    host, port = listener.getsockname()[:2]
    return f"http://{'127.0.0.1' if host in ('::', '0.0.0.0') else host}:{port}"  # noqa: S104 - compared


@contextmanager
def serving(
    app: Any,
    *,
    listener: socket.socket | None = None,
    port: int = 0,
    on_stop: Callable[[], object] = lambda: None,
    **options: Any,
) -> Iterator[str]:
    """Yield the base URL of `app`, served until the block ends; port 0 takes a free one.

    Takes over `listener`, and calls `on_stop` when the end begins. `options` are uvicorn's.
    Raises OSError when the port is taken, NotStarted when the app does not start.
    """
    listener = listener or listen(port=port)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1, lifespan="on", **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="http")
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise NotStarted("the server did not start; its log says why")
            time.sleep(0.01)
        yield url_of(listener)
    finally:
        on_stop()
        server.should_exit = True
        thread.join()
        listener.close()
