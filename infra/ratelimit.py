"""Token buckets, as Fly describes its limits: calls per second, with a burst. Pure.

The package `limits` 5.8 has windows, not buckets, on the wall clock; here any clock must work. Must never
wait.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

KEPT_MAX = 1000


@dataclass(frozen=True, kw_only=True)
class Rate:
    """The size of a bucket in tokens, and how quickly it fills."""

    per_s: float
    burst: int


# https://fly.io/docs/machines/api/working-with-machines-api/ (2026-08): one per action and machine or app
ORDINARY = Rate(per_s=1, burst=3)
GET_MACHINE = Rate(per_s=5, burst=10)


class TokenBuckets:
    """One bucket per key, full at first; `now_s` comes from any clock that does not go back."""

    def __init__(self) -> None:
        self._full_at_s: dict[Hashable, float] = {}

    def room(self, key: Hashable, rate: Rate, now_s: float) -> int:
        """Return how many tokens can be taken right now."""
        return int(self._tokens(key, rate, now_s) + 1e-6)

    def take(self, key: Hashable, rate: Rate, now_s: float) -> float:
        """Take a token and return 0, or take none and return the seconds until there is one."""
        missing = 1 - self._tokens(key, rate, now_s)
        if missing > 1e-6:
            return missing / rate.per_s
        self._forget_full(now_s)
        self._full_at_s[key] = max(self._full_at_s.get(key, now_s), now_s) + 1 / rate.per_s
        return 0.0

    def _tokens(self, key: Hashable, rate: Rate, now_s: float) -> float:
        return rate.burst - max(0.0, self._full_at_s.get(key, now_s) - now_s) * rate.per_s

    def _forget_full(self, now_s: float) -> None:
        if len(self._full_at_s) > KEPT_MAX:
            self._full_at_s = {key: at_s for key, at_s in self._full_at_s.items() if at_s > now_s}
