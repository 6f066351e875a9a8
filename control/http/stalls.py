"""Drops a client that stops reading its answer, and limits the memory of all answers that are not read yet.

Neither uvicorn nor the event loop limits how long a send may wait, and a closed transport stays open until
its last byte is read. This works for all answers alike: downloads, event streams, pages.
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
SLOWEST_BYTES = 16 * 1024  # a client must read at least so much of its waiting bytes in STALL_S
UNREAD_BYTES_MAX = 32 * 1024**2  # of all answers in our memory; a batch of 10,000 outputs has 5 MB

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of socket(7): close at once and discard unsent bytes


class Unread:
    """The connections of one server with bytes in our memory that their clients have not taken yet.

    When these are more than UNREAD_BYTES_MAX, the connection that has been here longest is reset.
    """

    def __init__(self) -> None:
        self._transports: dict[CountedTransport, None] = {}  # the oldest first

    def look(self, written: CountedTransport) -> None:
        """Note that bytes were written to a connection."""
        if not written.unread_bytes:
            return
        self._transports.setdefault(written)
        self._transports = {each: None for each in self._transports if each.unread_bytes}
        unread_bytes = sum(each.unread_bytes for each in self._transports)
        while unread_bytes > UNREAD_BYTES_MAX and len(self._transports) > 1:
            oldest = next(iter(self._transports))
            del self._transports[oldest]
            unread_bytes -= oldest.unread_bytes
            log_event("unread_answer_dropped", waiting_bytes=oldest.unread_bytes)
            oldest.reset()


class CountedTransport:
    """A transport that knows how many of the written bytes its client has acknowledged."""

    def __init__(self, transport: asyncio.Transport, unread: Unread) -> None:
        self._transport, self._unread = transport, unread
        self._written_bytes = 0

    def __getattr__(self, name: str) -> Any:
        """Return every other attribute of the transport."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send and count bytes."""
        self._written_bytes += len(data)
        self._transport.write(data)
        self._unread.look(self)

    @property
    def unread_bytes(self) -> int:
        """The written bytes that are still in our memory."""
        return self._transport.get_write_buffer_size()

    def taken_and_waiting(self) -> tuple[int, int]:
        """Return how many bytes the client has acknowledged so far, and how many wait for it."""
        waiting_bytes = self._transport.get_write_buffer_size()
        if not self._transport.is_closing():  # its descriptor may belong to another connection
            waiting_bytes += _in_kernel(self._transport)
        return self._written_bytes - waiting_bytes, waiting_bytes

    def reset(self) -> None:
        """Close the connection at once and discard the unsent bytes, also those in the kernel."""
        if not self._transport.is_closing():  # after that, its descriptor may belong to another connection
            with suppress(OSError):
                _socket(self._transport).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()


class StallWatch:
    """Checks a connection every STALL_S and resets it if its client has read too little since then."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: CountedTransport) -> None:
        self._loop, self._transport = loop, transport
        self._taken_bytes, self._waiting_bytes = 0, 0
        self._next = loop.call_later(STALL_S, self._look)

    def stop(self) -> None:
        """End the checks."""
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
    """Return how many bytes the kernel holds that the peer has not acknowledged; 0 if that is unknown.

    tcp(7) calls this SIOCOUTQ, which equals TIOCOUTQ.
    """
    answer = struct.pack("i", 0)
    with suppress(OSError):
        answer = fcntl.ioctl(_socket(transport).fileno(), termios.TIOCOUTQ, answer)
    return int(struct.unpack("i", answer)[0])
