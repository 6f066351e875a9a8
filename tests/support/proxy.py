"""A fault proxy of our own: HTTP over plain sockets, one request per connection, a thread for each.

The request goes on as it came, `Host` included, so that signatures hold; only `Connection: close` is put
into it. What goes wrong is a queue of faults per method and path pattern, each of which fires once.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto

TIMEOUT_S = 30.0
SLOW_BYTES = 40  # per 0.1 s
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset


class Fault(Enum):
    """What happens to one request."""

    CUT_BEFORE = auto()  # the connection ends, the request is not passed on
    TIMEOUT = auto()  # 408, not done
    THROTTLED = auto()  # 429, not done
    CUT_AFTER = auto()  # the request is done, its answer lost
    ERROR = auto()  # the request is done, the answer is a 503 all the same
    SLOW = auto()  # the answer trickles
    TRUNCATED = auto()  # the body ends half-way: the request's if it has one and is a PUT, else the answer's
    REPEATED = auto()  # the request is done twice, the second answer counts


REFUSALS = {Fault.TIMEOUT: "408 Request Timeout", Fault.THROTTLED: "429 Too Many Requests"}


@dataclass(frozen=True)
class Passed:
    """A request and the status that the server behind really answered."""

    method: str
    path: str
    status: int


class Proxy:
    """Listens on a free loopback port and passes requests on to `port` until `close`."""

    def __init__(self, port: int) -> None:
        self.passed: list[Passed] = []
        self._rules: list[tuple[str, re.Pattern[str], list[Fault]]] = []
        self._guard = threading.Lock()
        self._upstream = ("127.0.0.1", port)
        self._open(0)
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Refuse every connection until the block ends."""
        self.close()
        yield
        self._open(self.port)

    @contextmanager
    def through(self, port: int) -> Iterator[None]:
        """Pass requests on to another port until the block ends."""
        before, self._upstream = self._upstream, ("127.0.0.1", port)
        try:
            yield
        finally:
            self._upstream = before

    def _open(self, port: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def spoil(self, name: str, pattern: str, faults: list[Fault]) -> None:
        """Have the next requests whose `METHOD path` matches struck, one fault each."""
        with self._guard:
            self._rules.append((name, re.compile(pattern), list(faults)))

    def left(self) -> dict[str, list[Fault]]:
        """Return the faults that have not struck yet."""
        with self._guard:
            return {name: list(faults) for name, _, faults in self._rules if faults}

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(TIMEOUT_S)
        with client:
            try:
                head, body = _request(client)
                method, path, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
                self._handle(client, method, path, head, body, self._fault(f"{method} {path}"))
            except (OSError, ValueError):  # one side has gone away, or is made to: the other is to notice
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def _fault(self, request: str) -> Fault | None:
        with self._guard:
            for _, pattern, faults in self._rules:
                if faults and pattern.search(request):
                    return faults.pop(0)
        return None

    def _handle(
        self, client: socket.socket, method: str, path: str, head: bytes, body: bytes, fault: Fault | None
    ) -> None:
        if fault in REFUSALS:
            client.sendall(_empty(REFUSALS[fault]))
            return
        if fault is Fault.CUT_BEFORE:
            raise ConnectionError
        if fault is Fault.TRUNCATED and method == "PUT":
            body = body[: len(body) // 2]
        answer = self._pass(method, path, head, body)
        if fault is Fault.REPEATED:
            answer = self._pass(method, path, head, body)
        if fault is Fault.ERROR:
            answer = _empty("503 Service Unavailable")
        if fault is Fault.TRUNCATED:
            answer = answer[: (answer.find(b"\r\n\r\n") + 4 + len(answer)) // 2]
        step = SLOW_BYTES if fault is Fault.SLOW else len(answer) or 1
        for start in range(0, 0 if fault is Fault.CUT_AFTER else len(answer), step):
            client.sendall(answer[start : start + step])
            time.sleep(0.1 if step < len(answer) and start < 40 * step else 0)  # enough to be felt
        if fault in (Fault.CUT_AFTER, Fault.TRUNCATED):
            raise ConnectionError

    def _pass(self, method: str, path: str, head: bytes, body: bytes) -> bytes:
        with socket.create_connection(self._upstream, timeout=TIMEOUT_S) as server:
            server.sendall(head + body)
            if _length(head) > len(body):
                server.shutdown(socket.SHUT_WR)
            answer = b""
            while chunk := server.recv(1 << 16):
                answer += chunk
        if answer:
            with self._guard:
                self.passed.append(Passed(method, path, int(answer.split(b" ", 2)[1])))
        return answer


CLOSING = b"Connection: close\r\n\r\n"


def _empty(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n".encode() + CLOSING


def _request(client: socket.socket) -> tuple[bytes, bytes]:
    """Return the head, which asks for one answer only, and the body. Raises ValueError when it is cut off."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(client)
    head, _, body = data.partition(b"\r\n\r\n")
    while len(body) < _length(head):
        body += _more(client)
    head = re.sub(rb"(?i)\r\n(connection|expect): [^\r]*", b"", head)
    return head + b"\r\n" + CLOSING, body


def _length(head: bytes) -> int:
    found = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
    return int(found.group(1)) if found else 0


def _more(client: socket.socket) -> bytes:
    if not (chunk := client.recv(1 << 16)):
        raise ValueError("cut off")
    return chunk
