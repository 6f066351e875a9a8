"""How often a password may be tried: per address, and over all addresses. In memory, bounded.

Wrong tries slow their own address down, doubling each time. The rate over all addresses bounds what a swarm
of them can try; addresses that have signed in before have a rate of their own, so a swarm never locks the
team out. Must never hold a password.
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
ADDRESSES_MAX = 10_000
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
    is_known: bool = False  # has signed in since control started


class LoginLimit:
    """Ask `admit` before a password is looked at; tell `succeeded` when it was right.

    `now_s` never goes back.
    """

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._lock = threading.Lock()
        self._by_network: OrderedDict[str, _Tries] = OrderedDict()
        self._together = TokenBuckets()

    def admit(self, address: str) -> None:
        """Count a try, as a wrong one for the time being. Raises TooManyTries."""
        with self._lock:
            now_s, tries = self._now_s(), self._tries(address)
            if now_s < tries.blocked_until_s:
                raise TooManyTries(tries.blocked_until_s - now_s)
            if wait_s := self._together.take(tries.is_known, TOGETHER, now_s):
                raise TooManyTries(wait_s)
            tries.wrong += 1
            if tries.wrong >= FREE_TRIES:
                doublings = min(tries.wrong - FREE_TRIES, 20)
                tries.blocked_until_s = now_s + min(2.0**doublings, PAUSE_S_MAX)

    def succeeded(self, address: str) -> None:
        """Forget the wrong tries of an address that has given the right password."""
        with self._lock:
            tries = self._tries(address)
            tries.wrong, tries.blocked_until_s, tries.is_known = 0, 0.0, True

    def _tries(self, address: str) -> _Tries:
        """Return the tries of the address's network, now the most recent of all."""
        network = network_of(address)
        tries = self._by_network.pop(network, None) or _Tries()
        self._by_network[network] = tries
        if len(self._by_network) > ADDRESSES_MAX:
            self._by_network.popitem(last=False)
        return tries


def network_of(address: str) -> str:
    """Return what counts as one address: of IPv6 the /64, which is what one customer has."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:64]
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Address(int(parsed) >> 64 << 64))
