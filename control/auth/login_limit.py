"""How often a password may be tried: per address, and over all addresses. In memory, bounded.

Wrong tries slow their own network down, doubling each time. The rate over all networks bounds what a swarm
of them can try. Who has signed in before has a table and a rate of its own, which only the right password
opens, so a swarm never locks the team out. Must never hold a password.
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
    """No try is allowed now. Nothing was counted."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"try again in {wait_s:.0f} s")
        self.retry_after_s = ceil(wait_s)


@dataclass
class _Tries:
    wrong: int = 0  # in a row, those under way included
    blocked_until_s: float = 0.0


_Table = OrderedDict[str, _Tries]  # by network, the one that tried last at the end


class LoginLimit:
    """Ask `admit` before a password is looked at; tell `succeeded` when it was right.

    `now_s` never goes back.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._known, self._others = _Table(), _Table()
        self._together = TokenBuckets()

    def admit(self, address: str) -> None:
        """Count a try, as a wrong one for the time being. Raises TooManyTries: then nothing is remembered."""
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
        """Forget the wrong tries of who has given the right password, and know it from now on."""
        with self._lock:
            self._others.pop(network_of(address), None)
            _keep(self._known, home_of(address), _Tries())


def _keep(table: _Table, network: str, tries: _Tries) -> None:
    table[network] = tries
    table.move_to_end(network)
    if len(table) > ADDRESSES_MAX:
        table.popitem(last=False)


def network_of(address: str) -> str:
    """Return what counts as one guesser: of IPv6 the /48, the most that one customer is usually given."""
    return _network(address, bits=48)


def home_of(address: str) -> str:
    """Return what counts as one who is known: of IPv6 the /64, so that no other in the /48 slows it down."""
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
