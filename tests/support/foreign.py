"""A server of somebody else, whom users' URLs name."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TRICKLE_S = 0.05  # between two bytes: who reads notices soon that it has to stop


class Held:
    """A file that comes byte by byte until it is let go: a job of it is at work until then."""

    def __init__(self, server: Server, path: str) -> None:
        self.path, self.url = path, f"http://{server.place}{path}"
        self.is_held = True

    def let_go(self) -> None:
        """Send the rest, also to who asks for it later."""
        self.is_held = False


class Server(ThreadingHTTPServer):
    """Answers each path as `answers` says, and keeps what it was asked."""

    daemon_threads = True

    def __init__(self, host: str, port: int = 0) -> None:
        super().__init__((host, port), Handler)
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.pause_s = 0.0  # before each answer
        self.seen: list[tuple[str, str, str, bytes]] = []
        self.held: dict[str, Held] = {}  # by path

    def hold(self, content: bytes) -> Held:
        """Return a file that arrives once it is let go."""
        held = Held(self, f"/{len(self.held)}/held.mp4")
        self.answers[held.path], self.held[held.path] = (200, {}, content), held
        return held

    @property
    def place(self) -> str:
        return f"{self.server_address[0]}:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """HTTP/1.0: each request has its own connection."""

    server: Server

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, self.path, self.headers["Host"], body))
        time.sleep(self.server.pause_s)
        status, headers, content = self.server.answers.get(self.path, (404, {}, b""))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):  # who asked has gone
            self.wfile.write(self._sent_while_held(content))

    def _sent_while_held(self, content: bytes) -> bytes:
        """Send single bytes while the file is held, and return the rest."""
        held = self.server.held.get(self.path)
        while held and held.is_held and len(content) > 1:
            self.wfile.write(content[:1])
            content = content[1:]
            time.sleep(TRICKLE_S)
        return content

    def do_PUT(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


@contextmanager
def served(host: str = "127.0.0.1", port: int = 0, *, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    with Server(host, port) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
