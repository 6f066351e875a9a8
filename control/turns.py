"""Limits outgoing calls: how many run at once, and how many to one host, so no host delays the others."""

from __future__ import annotations

import threading


class Turns:
    """The calls in progress. In memory: a call ends with its process. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hosts: dict[str, str] = {}  # by the id of the subject of the call

    def take(self, id_: str, host: str, *, at_once_max: int, per_host_max: int) -> bool:
        """Begin a call to `host` for `id_` if the limits allow it. Return whether; then call `give_back`."""
        with self._lock:
            of_host = sum(other == host for other in self._hosts.values())
            if id_ in self._hosts or len(self._hosts) >= at_once_max or of_host >= per_host_max:
                return False
            self._hosts[id_] = host
            return True

    def give_back(self, id_: str) -> None:
        """End the call for `id_`."""
        with self._lock:
            del self._hosts[id_]
