"""Who may be called now: so many at once, and few of one host, so that none keeps the others waiting."""

from __future__ import annotations

import threading


class Turns:
    """The calls under way. In memory: a call ends with its process. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hosts: dict[str, str] = {}  # by what the call is for

    def take(self, id_: str, host: str, *, at_once_max: int, per_host_max: int) -> bool:
        """Begin a call of `host` for `id_` if its turn has come: return whether. Then `give_back` is due."""
        with self._lock:
            of_host = sum(other == host for other in self._hosts.values())
            if id_ in self._hosts or len(self._hosts) >= at_once_max or of_host >= per_host_max:
                return False
            self._hosts[id_] = host
            return True

    def give_back(self, id_: str) -> None:
        """The call for `id_` has ended."""
        with self._lock:
            del self._hosts[id_]
