"""A connection with a limited rate, as between a machine and the bucket."""

from __future__ import annotations

import threading
import time


class Wire:
    """Limits the rate of all transfers together. For FakeControl.passing."""

    def __init__(self, bits_per_s: float) -> None:
        self._bits_per_s = bits_per_s
        self._lock = threading.Lock()
        self._free_at = 0.0

    def __call__(self, size_bytes: int) -> None:
        """Return when this number of bytes has passed."""
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + 8 * size_bytes / self._bits_per_s
            left_s = self._free_at - time.monotonic()
        time.sleep(max(0.0, left_s))
