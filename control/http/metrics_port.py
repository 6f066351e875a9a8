"""METRICS_PORT: a server for scrapes on the private network, which need no token there.

It listens on all addresses, since the address on the private network is not known at the start. It answers
only clients with a private address. Must never be configured as a service of Fly's proxy.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv6Address, ip_address
from typing import Any

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from control.http.metrics import Metrics
from control.telemetry.log import log_failure

PATIENCE_S = 10.0  # the longest time of a scrape, from its connection to its end
SCRAPES_MAX = 8  # at once; each has a thread


@contextmanager
def serving(port: int | None, metrics: Metrics) -> Iterator[None]:
    """Serve the metrics while the block runs; do nothing without a port. Raises OSError if it is in use."""
    if port is None:
        yield
        return
    try:
        server = _Server(port, metrics)
    except OSError as error:
        raise OSError(f"METRICS_PORT: {port} cannot be listened on: {error.strerror}") from None
    with server:
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port: int, metrics: Metrics) -> None:
        self.metrics = metrics
        self._open: dict[Any, float] = {}  # connections, and when each must be over
        has_both = socket.has_dualstack_ipv6()
        self.address_family = socket.AF_INET6 if has_both else socket.AF_INET
        super().__init__(("", port), _Handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - the base's
        return is_private(client_address[0]) and len(self._open) < SCRAPES_MAX

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open[request] = time.monotonic() + PATIENCE_S
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Close connections that take longer than PATIENCE_S, also active ones. Called twice a second."""
        for request, until_s in self._open.copy().items():
            if time.monotonic() > until_s:
                with suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: the client has disconnected or sent no HTTP."""


class _Handler(BaseHTTPRequestHandler):
    timeout = PATIENCE_S
    server: _Server

    def do_GET(self) -> None:
        """Answer a scrape."""
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404)
            return
        try:
            text = self.server.metrics.text()
        except Exception as error:  # noqa: BLE001 - any failure is answered with 500
            log_failure("scrape_failed", error)
            self.send_error(500)
            return
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Log no scrape."""


def is_private(address: str) -> bool:
    """Return whether an address is not public: of this machine, a local network or a private network."""
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return not parsed.is_global
