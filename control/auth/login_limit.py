"""How often a password may be tried: per address, and over all addresses. In memory, bounded.

Wrong passwords slow down their own network, twice as much each time. A rate over all networks limits what
many of them can try together. Networks that have signed in before have a table and a rate of their own, which
only the right password opens, so attackers never lock the team out. Must never hold a password.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from math import ceil

from infra.ratelimit import Rate, TokenBuckets

FREE_TRIES = 5  # then 1, 2, 4, ... s
PAUSE_S_MAX = 900.0
ADDRESSES_MAX = 10_000  # in each table
TOGETHER = Rate(per_s=5, burst=20)


class TooManyTries(Exception):
    """No try is allowed now. This try was not counted."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"try again in {wait_s:.0f} s")
        self.retry_after_s = ceil(wait_s)


@dataclass
class _Tries:
    wrong: int = 0  # consecutive, those in progress included
    blocked_until_s: float = 0.0


_Table = OrderedDict[str, _Tries]  # by network, the latest at the end


class LoginLimit:
    """Limits the tries. Call `admit` before a password is checked, and `succeeded` if it was right.

    `now_s` must never go back.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._known, self._others = _Table(), _Table()
        self._together = TokenBuckets()

    def admit(self, address: str) -> None:
        """Count a try, as wrong until `succeeded` is called. Raises TooManyTries and then counts nothing."""
        with self._lock:
            now_s, home = self._now_s(), home_of(address)
            is_known = home in self._known
            table, network = (self._known, home) if is_known else (self._others, network_of(address))
            tries = table.get(network) or _Tries()
            if now_s < tries.blocked_until_s:
                raise TooManyTries(tries.blocked_until_s - now_s)
            if wait_s := self._together.take(is_known, TOGETHER, now_s):
                raise TooManyTries(wait_s)
            tries.wrong += 1
            if tries.wrong >= FREE_TRIES:
                doublings = min(tries.wrong - FREE_TRIES, 20)
                tries.blocked_until_s = now_s + min(2.0**doublings, PAUSE_S_MAX)
            _keep(table, network, tries)

    def succeeded(self, address: str) -> None:
        """Clear the wrong tries of a network that gave the right password. It counts as known from now on."""
        with self._lock:
            self._others.pop(network_of(address), None)
            _keep(self._known, home_of(address), _Tries())


def _keep(table: _Table, network: str, tries: _Tries) -> None:
    table[network] = tries
    table.move_to_end(network)
    if len(table) > ADDRESSES_MAX:
        table.popitem(last=False)


def network_of(address: str) -> str:
    """Return the network that counts as one guesser: for IPv6 the /48, the most that a customer can have."""
    return _network(address, bits=48)


def home_of(address: str) -> str:
    """Return the network that counts as known: for IPv6 the /64, so others in the /48 do not slow it down."""
    return _network(address, bits=64)


def _network(address: str, *, bits: int) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:64]
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    host_bits = 128 - bits
    return str(IPv6Address(int(parsed) >> host_bits << host_bits))
