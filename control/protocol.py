"""HTTP/1.1 that does not wait for ever: uvicorn does not limit how long a request's head may take."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_S_MAX = 10.0


class TimedProtocol(H11Protocol):
    """Closes a connection whose first request, or one that has begun, has no whole head after HEAD_S_MAX."""

    _overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Take in bytes; between requests the keep-alive limit of uvicorn counts."""
        super().data_received(data)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._overdue is None:
            self._overdue = self.loop.call_later(HEAD_S_MAX, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None


HTTP_LIMITS: dict[str, Any] = {
    "http": TimedProtocol,
    "ws": "none",
    "timeout_keep_alive": 5,
    "limit_concurrency": 1000,  # connections, or requests under way: beyond it 503
    "server_header": False,
    "proxy_headers": False,  # whoever is near could name any address
    "log_config": None,  # its lines go the way of all others (`control.log`)
}
"""How every server of control is configured."""
