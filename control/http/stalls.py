"""Drops a client that takes in no more of its answer.

Neither uvicorn nor the event loop bounds how long a send may wait, and a transport that is closed stays open
until its last byte is taken. Works below all answers alike: downloads, event streams, pages.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from contextlib import suppress
from typing import Any

from control.telemetry.log import log_event

STALL_S = 30.0  # a client is dropped after one to two times this
SLOWEST_BYTES = 16 * 1024  # so much of what waits for it must a client take in STALL_S

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of socket(7): at once, and forget what is unsent


class CountedTransport:
    """A transport that knows how much of what was written its client has acknowledged."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._written_bytes = 0

    def __getattr__(self, name: str) -> Any:
        """Be the transport in all else."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send bytes, as the transport does."""
        self._written_bytes += len(data)
        self._transport.write(data)

    def taken_and_waiting(self) -> tuple[int, int]:
        """Return how many bytes the client has acknowledged so far, and how many wait for it."""
        waiting_bytes = self._transport.get_write_buffer_size()
        if not self._transport.is_closing():  # its descriptor may already be another connection's
            waiting_bytes += _in_kernel(self._transport)
        return self._written_bytes - waiting_bytes, waiting_bytes

    def reset(self) -> None:
        """End the connection at once; what the kernel holds for the client goes too."""
        if not self._transport.is_closing():  # its descriptor may already be another connection's
            with suppress(OSError):
                _socket(self._transport).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()


class StallWatch:
    """Looks at a connection every STALL_S, and aborts it when too little was taken since the last look."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: CountedTransport) -> None:
        self._loop, self._transport = loop, transport
        self._taken_bytes, self._waiting_bytes = 0, 0
        self._next = loop.call_later(STALL_S, self._look)

    def stop(self) -> None:
        """Look no more."""
        self._next.cancel()

    def _look(self) -> None:
        taken_bytes, waiting_bytes = self._transport.taken_and_waiting()
        if taken_bytes - self._taken_bytes < min(self._waiting_bytes, SLOWEST_BYTES):
            log_event("stalled_client_dropped", waiting_bytes=waiting_bytes)
            self._transport.reset()
            return
        self._taken_bytes, self._waiting_bytes = taken_bytes, waiting_bytes
        self._next = self._loop.call_later(STALL_S, self._look)


def _socket(transport: asyncio.Transport) -> Any:
    return transport.get_extra_info("socket")


def _in_kernel(transport: asyncio.Transport) -> int:
    """Return how many bytes the kernel holds that the peer has not acknowledged; 0 where it does not tell.

    SIOCOUTQ of tcp(7), which is TIOCOUTQ.
    """
    answer = struct.pack("i", 0)
    with suppress(OSError):
        answer = fcntl.ioctl(_socket(transport).fileno(), termios.TIOCOUTQ, answer)
    return int(struct.unpack("i", answer)[0])
