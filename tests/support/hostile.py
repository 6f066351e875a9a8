"""What a hostile client does with a connection, and what it costs control."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

STATM = Path("/proc/self/statm")
needs_proc = pytest.mark.skipif(not STATM.exists(), reason="needs /proc")


def rss_bytes() -> int:
    """Return how much memory this process holds."""
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def connected(url: str, sent: bytes = b"", *, receive_bytes: int | None = None) -> Iterator[socket.socket]:
    """Yield a connection on which `sent` was sent."""
    with socket.socket() as connection:
        if receive_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        connection.settimeout(30)
        connection.connect((urlsplit(url).hostname, urlsplit(url).port))
        connection.sendall(sent)
        yield connection


def is_ended_by(connection: socket.socket, drip: bytes) -> bool:
    """Return whether the connection ends although a little more is sent again and again."""
    connection.settimeout(0.05)
    for _ in range(600):
        try:
            connection.sendall(drip)
            if not connection.recv(65536):
                return True
        except TimeoutError:
            continue
        except ConnectionError:
            return True
    return False


def rest(connection: socket.socket, *, pause_s: float = 0.0) -> bytes:
    """Return what comes until the connection ends."""
    heard = b""
    with suppress(ConnectionError):
        while more := connection.recv(32768):
            heard += more
            time.sleep(pause_s)
    return heard
