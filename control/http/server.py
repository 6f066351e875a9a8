"""The HTTP server: uvicorn on the main thread, with the limits for connections and heads that it lacks.

A connection either has a request in progress or waits for its client. A waiting connection has a deadline,
which received bytes do not extend, and is closed earlier when CONNECTIONS_MAX connections are open. uvicorn
itself limits neither the time nor the size of a request head, nor how long an answer may stay unread.

One file, since the server and each connection change one list of waiting connections.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from control.auth.login_limit import network_of
from control.http.stalls import CountedTransport, StallWatch, Unread
from infra.ports import NotStarted

GRACE_S = 2  # for the answers in progress when the server is stopped
# How long a thread that computes keeps the interpreter while others wait for it. With Python's 5 ms a health
# check waited for seconds behind a few threads that computed.
SWITCH_S = 0.001
FILES = 4096  # open files to allow, if the system permits it: each connection is one
CONNECTIONS_MAX = 1000
OTHER_FILES = 200  # other open files of the process: database, bucket, Fly
HEAD_S_MAX = 10.0
IDLE_S_MAX = 5.0  # between an answer and the next request
LINGER_S = 2.0  # after the last answer, bytes that the client still sends are read and dropped for so long
HEAD_BYTES_MAX = 16 * 1024  # of a request head, and of the trailers after a body
HEADERS_MAX = 100
PIPELINED_MAX = 10  # requests that wait for the answer to an earlier one
UNSENT_BYTES = 128 * 1024  # of an answer in the kernel; the rest stays in our memory, where it is counted


def serve(
    app: Any, listener: socket.socket, *, on_ready: Callable[[], object], on_stop: Callable[[], object]
) -> None:
    """Serve `app` until SIGTERM or SIGINT, which is raised again at the end. Raises NotStarted.

    Calls `on_ready` as soon as requests are answered, and `on_stop` as soon as the signal arrives.
    """
    _allow_files()
    sys.setswitchinterval(SWITCH_S)
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
            gc.collect()
            gc.freeze()  # what is loaded stays: a full collection looked through it for 70 ms, and all waited
            self._on_ready()


class Waiting:
    """The connections of one server that wait for their clients, by the client's network, oldest first.

    `unread` are those whose client has not taken its answer yet.
    """

    def __init__(self) -> None:
        self.unread = Unread()
        self._by_network: dict[str, dict[LimitedProtocol, None]] = {}
        files_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        is_bounded = files_max != resource.RLIM_INFINITY
        self.connections_max = (
            min(CONNECTIONS_MAX, files_max - OTHER_FILES) if is_bounded else CONNECTIONS_MAX
        )

    def add(self, connection: LimitedProtocol) -> None:
        """Add a connection: it waits from now on."""
        self.discard(connection)
        self._by_network.setdefault(connection.network, {})[connection] = None

    def discard(self, connection: LimitedProtocol) -> None:
        """Remove a connection: it no longer waits."""
        mine = self._by_network.get(connection.network, {})
        mine.pop(connection, None)
        if not mine:
            self._by_network.pop(connection.network, None)

    def dispensable(self) -> LimitedProtocol | None:
        """Return the oldest connection of the network with the most of them, or None if none waits."""
        crowd = max(self._by_network.values(), key=len, default={})
        return next(iter(crowd), None)


_waiting: WeakKeyDictionary[ServerState, Waiting] = WeakKeyDictionary()


class LimitedProtocol(HttpToolsProtocol):
    """One connection. It is closed as soon as it exceeds a limit."""

    network = ""
    _deadline: asyncio.TimerHandle | None = None  # set while the connection waits
    _head_bytes = 0  # of the request head, or of the trailers after a body
    _pending_bytes = 0  # received since the parser last completed a part
    _is_in_head = False
    _is_held = False  # the next request waits until the client has read the last answer
    _is_refused = False  # because it is not HTTP
    _is_over = False  # nothing more is read or answered

    # --- called by the event loop ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request. If too many connections are open, close one that waits."""
        self._waiting = _waiting.setdefault(self.server_state, Waiting())
        self._real = CountedTransport(transport, self._waiting.unread)
        self._stalls = StallWatch(self.loop, self._real)
        super().connection_made(_Watched(self._real, self))  # type: ignore[arg-type]
        self.network = network_of(self.client[0] if self.client else "")
        _bound_the_kernels_buffer(transport)
        if len(self.connections) > self._waiting.connections_max:
            (self._waiting.dispensable() or self).abort()
        if not transport.is_closing():
            self._wait(HEAD_S_MAX)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, unless the connection is over."""
        if self._is_over:
            return
        self._pending_bytes += len(data)
        super().data_received(data)
        if self._pending_bytes > HEAD_BYTES_MAX:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers of the connection."""
        self._is_over = True
        self._stop_waiting()
        self._stalls.stop()
        super().connection_lost(exc)

    # --- called by the parser -------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Wait for the rest of a request head."""
        if len(self.pipeline) >= PIPELINED_MAX:
            raise ValueError("too many requests at once")  # the parser answers 400
        super().on_message_begin()
        self._is_in_head, self._head_bytes = True, 0
        self._wait(HEAD_S_MAX)

    def on_url(self, url: bytes) -> None:
        """Count and store a part of the URL."""
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count and store a header. Trailers after the body are only counted."""
        self._count_head(len(name) + len(value))
        if self._is_in_head:
            super().on_header(name, value)
            if len(self.headers) > HEADERS_MAX:
                raise ValueError("too many headers")

    def on_headers_complete(self) -> None:
        """Start the request without its body, which is read only when the route asks for it."""
        self._is_in_head, self._head_bytes, self._pending_bytes = False, 0, 0
        self._stop_waiting()
        super().on_headers_complete()
        if self._means_its_body() and has_body(self.headers):
            self.flow.pause_reading()

    def on_body(self, body: bytes) -> None:
        """Store a part of the body. The body of a method other than POST is dropped."""
        self._pending_bytes = 0
        if self._means_its_body():
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Note the end of the request."""
        self._pending_bytes = 0
        super().on_message_complete()

    # --- ends -----------------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        """Continue with the next request when the client has read this answer.

        If the body of the request has not arrived completely, close the connection instead.
        """
        if self.flow.write_paused and not self.is_over():
            self._is_held = True
            self.flow.pause_reading()
            self._wait(IDLE_S_MAX)
            return
        super().on_response_complete()
        if self.cycle.response_complete:  # no other request is under way
            if self.cycle.more_body:
                self.close()
            elif not self._is_over:
                self._wait(IDLE_S_MAX)

    def resume_writing(self) -> None:
        """Continue after an answer that was too large to be sent at once."""
        super().resume_writing()
        if self._is_held:
            self._is_held = False
            self._stop_waiting()
            self.on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer 400 to bytes that are not HTTP."""
        self._is_refused = True
        super().send_400_response(msg)

    def close(self) -> None:
        """Close the connection after the written bytes are sent.

        If a client is refused while it still sends, its bytes are read for LINGER_S. Closing a socket with
        unread bytes resets the connection, and the client could lose the answer that explains the refusal.
        """
        if self._is_over:
            return
        if not (self._is_refused or (self.cycle is not None and self.cycle.more_body)):
            self._expire()
            return
        self._is_over = True
        if self.cycle is not None:
            self.cycle.body.clear()  # no route reads it any more
        with suppress(OSError):
            self._real.write_eof()
        self.flow.resume_reading()
        self._wait(LINGER_S)

    def abort(self) -> None:
        """Close the connection now and discard the unsent bytes."""
        self._is_over = True
        self._stop_waiting()
        self._real.reset()

    def is_over(self) -> bool:
        """Return whether nothing more is answered on this connection."""
        return self._is_over or self._real.is_closing()

    def _wait(self, seconds: float) -> None:
        """Close the connection after `seconds`, or earlier if its place is needed, unless a head arrives."""
        self._stop_waiting()
        self._deadline = self.loop.call_later(seconds, self._expire)
        self._let_go()

    def _expire(self) -> None:
        self._is_over = True
        self._let_go()
        self._real.close()

    def _let_go(self) -> None:
        """Allow other connections to take the place of this one, unless a request is in progress."""
        if self._is_held or self.cycle is None or self.cycle.response_complete:
            self._waiting.add(self)

    def _stop_waiting(self) -> None:
        self._waiting.discard(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _means_its_body(self) -> bool:
        return bool(self.scope["method"] == "POST")

    def _count_head(self, size_bytes: int) -> None:
        self._head_bytes += size_bytes
        if self._head_bytes > HEAD_BYTES_MAX:
            raise ValueError("the request head is too large")


class _Watched:
    """The transport that uvicorn sees: the connection decides how it closes and what is written."""

    def __init__(self, real: CountedTransport, connection: LimitedProtocol) -> None:
        self._real, self._connection = real, connection
        self.close, self.is_closing = connection.close, connection.is_over

    def write(self, data: bytes) -> None:
        if not self._connection.is_over():
            self._real.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def has_body(headers: list[tuple[bytes, bytes]]) -> bool:
    """Return whether a request with these headers has a body (RFC 9112, 6.3)."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip(b" \t0") != b"")
        for name, value in headers
    )


def _bound_the_kernels_buffer(transport: asyncio.Transport) -> None:
    """Limit the unsent bytes in the kernel, which would keep some MB of them even after the connection."""
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        with suppress(OSError):
            transport.get_extra_info("socket").setsockopt(
                socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES
            )


HTTP_LIMITS: dict[str, Any] = {
    "http": LimitedProtocol,
    "ws": "none",
    "timeout_keep_alive": IDLE_S_MAX,
    "server_header": False,
    "proxy_headers": False,  # any client could forge them
    "log_config": None,  # `control.telemetry.log` handles its lines too
}
"""The configuration of every server of control. `control.http.crowd` limits requests."""
