"""Clients that stop reading are dropped, whatever the answer is; slow clients are not."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest

from control.http import stalls
from control.http.server import HTTP_LIMITS
from infra.local.serve import serving

pytestmark = pytest.mark.peer

CHUNK = bytes(64 * 1024)
LARGE = 64 * 1024**2  # more than the kernel takes for a client
WHOLE_BYTES = 8 * 1024**2  # an answer in one piece


class Answers:
    """An app whose answers are as large as their address says, and which knows what is under way."""

    def __init__(self) -> None:
        self.under_way = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        self.under_way += 1
        try:
            await self._answer(int(scope["path"].strip("/")), receive, send)
        finally:
            self.under_way -= 1

    async def _live(self, receive: Any, send: Any) -> None:
        for done in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{done}.complete"})

    async def _answer(self, left: int, receive: Any, send: Any) -> None:
        gone = asyncio.create_task(self._gone(receive))
        length = (b"content-length", str(left).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        while left and not gone.done():
            chunk = bytes(left) if left == WHOLE_BYTES else CHUNK[:left]
            left -= len(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": bool(left)})
        gone.cancel()

    async def _gone(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def port(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(stalls, "STALL_S", 0.5)
    with serving(answers, **HTTP_LIMITS) as url:
        yield urlsplit(url).port or 0


@contextmanager
def connected(port: int, size_bytes: int) -> Iterator[socket.socket]:
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.settimeout(30)
        client.connect(("127.0.0.1", port))
        client.sendall(f"GET /{size_bytes} HTTP/1.1\r\nHost: c\r\n\r\n".encode())
        yield client


def dropped(client: socket.socket) -> bool:
    """Return whether the server has reset the connection, reading nothing meanwhile."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return True
        time.sleep(0.05)
    return False


def test_clients_that_read_nothing_are_dropped_and_their_answers_end(port: int, answers: Answers) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(port, LARGE)) for _ in range(30)]
        assert all(map(dropped, clients))
    until = time.monotonic() + 30
    while answers.under_way and time.monotonic() < until:
        time.sleep(0.05)
    assert answers.under_way == 0


def test_a_client_that_stops_in_the_middle_is_dropped(port: int) -> None:
    with connected(port, LARGE) as client:
        for _ in range(100):
            client.recv(65536)
        assert dropped(client)


def test_a_complete_answer_that_is_not_read_does_not_keep_its_connection(port: int) -> None:
    """It fits into the server's own buffers, so that nothing waits to send; a close would wait for ever."""
    with connected(port, 3 * 1024**2) as client:
        assert dropped(client)


def test_a_slow_client_gets_the_whole_answer(port: int) -> None:
    with connected(port, 4 * 1024**2) as client:
        seen, begun = 0, time.monotonic()
        while chunk := client.recv(16384):
            seen += len(chunk)
            if seen >= 4 * 1024**2:
                break
            time.sleep(0.008)
        assert seen >= 4 * 1024**2
        assert time.monotonic() - begun > 3 * stalls.STALL_S, "it took many looks"


def test_a_connection_that_waits_for_its_next_request_is_not_stalled(port: int) -> None:
    with connected(port, 10) as client:
        client.recv(65536)
        time.sleep(3 * stalls.STALL_S)
        client.sendall(b"GET /10 HTTP/1.1\r\nHost: c\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")


def test_answers_that_nobody_reads_hold_bounded_memory_and_the_oldest_gives_way(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is one piece, as a page of JSON is: it lies in memory as soon as it is made."""
    monkeypatch.setattr(stalls, "STALL_S", 30.0)
    monkeypatch.setattr(stalls, "UNREAD_BYTES_MAX", 3 * WHOLE_BYTES)
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(port, WHOLE_BYTES)) for _ in range(4)]
        assert dropped(clients[0])
        assert not any(client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for client in clients[1:])
        seen = 0
        while seen < WHOLE_BYTES:
            seen += len(clients[3].recv(1 << 20))
