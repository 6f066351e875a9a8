"""Serving in a thread of this process."""

from __future__ import annotations

import socket

from infra.local.serve import listen


def test_connections_do_not_hold_back_small_answers() -> None:
    with listen() as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
