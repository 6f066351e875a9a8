"""HTTP/1.1 within limits: uvicorn bounds neither how long a head may take nor how large it may be."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from control.stalls import CountedTransport, StallWatch

HEAD_S_MAX = 10.0
HEAD_BYTES_MAX = 64 * 1024  # of a head, and of what follows a body
PIPELINED_MAX = 10  # requests that wait for the answer to an earlier one


class LimitedProtocol(HttpToolsProtocol):
    """Closes a connection that has no whole head in time, that sends too large a one, or too many at once."""

    _overdue: asyncio.TimerHandle | None = None  # None: no head is waited for
    _pending_bytes = 0  # in a row, of which nothing whole has come yet

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        counted = CountedTransport(transport)
        super().connection_made(counted)  # type: ignore[arg-type]  # it is one in all that is used
        self._stalls = StallWatch(self.loop, counted)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Take in bytes; between requests the keep-alive limit of uvicorn counts."""
        self._pending_bytes += len(data)
        super().data_received(data)
        if self._pending_bytes > HEAD_BYTES_MAX:
            self.transport.close()

    def on_message_begin(self) -> None:
        """Begin to wait for the rest of a head."""
        if len(self.pipeline) >= PIPELINED_MAX:
            raise ValueError("too many requests at once")  # a bad request, to the parser
        super().on_message_begin()
        self._wait_for_head()

    def on_headers_complete(self) -> None:
        """Wait no longer."""
        self._pending_bytes = 0
        self._stop_waiting()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take in a part of the body."""
        self._pending_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take in the end of a request."""
        self._pending_bytes = 0
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stalls.stop()
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        if self._overdue is None:
            self._overdue = self.loop.call_later(HEAD_S_MAX, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None


HTTP_LIMITS: dict[str, Any] = {
    "http": LimitedProtocol,
    "ws": "none",
    "timeout_keep_alive": 5,
    "limit_concurrency": 1000,  # connections, or requests under way: beyond it 503
    "server_header": False,
    "proxy_headers": False,  # whoever is near could name any address
    "log_config": None,  # its lines go the way of all others (`control.log`)
}
"""How every server of control is configured."""
