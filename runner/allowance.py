"""How many bytes this run may send, and how many it has sent: control reserves money for no more.

Every byte of a file that is sent must be counted. The bytes of TLS and of request headers are not counted.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator


class SendLimit(Exception):
    """A file is larger than what may still be sent. The message may be shown."""


class Allowance:
    """Shared by all threads of the run. `most_bytes` is None where control names no limit."""

    def __init__(self, most_bytes: int | None) -> None:
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._sent_bytes = 0

    @property
    def sent_bytes(self) -> int:
        """The bytes sent so far. A file that is being sent counts in full."""
        with self._lock:
            return self._sent_bytes

    def half(self) -> Allowance:
        """Return an allowance of its own, half as large. What is sent has to be counted in both."""
        return Allowance(None if self._most_bytes is None else self._most_bytes // 2)

    def counted(self, chunks: Iterator[bytes], size_bytes: int) -> Counted:
        """Return the `chunks` of a file of this size, which counts as sent from now on.

        The caller closes it after the try, successful or not. Raises SendLimit, before a byte is read, if the
        file is larger than the rest of the allowance.
        """
        with self._lock:
            if self._most_bytes is not None and self._sent_bytes + size_bytes > self._most_bytes:
                left_bytes = self._most_bytes - self._sent_bytes
                raise SendLimit(f"{size_bytes} bytes are to be sent, and only {left_bytes} more may be")
            self._sent_bytes += size_bytes
        return Counted(chunks, size_bytes, self)

    def give_back(self, unsent_bytes: int) -> None:
        """Reduce the count by bytes that were counted but not sent."""
        with self._lock:
            self._sent_bytes -= unsent_bytes


class Counted(Iterator[bytes]):
    """The body of one request."""

    def __init__(self, chunks: Iterator[bytes], size_bytes: int, allowance: Allowance) -> None:
        self._chunks, self._unsent_bytes, self._allowance = chunks, size_bytes, allowance

    def __next__(self) -> bytes:
        """Return the next bytes. They count as sent, whatever happens to them."""
        chunk = next(self._chunks)
        self._unsent_bytes -= len(chunk)
        return chunk

    def close(self) -> None:
        """Give back the bytes that were not read. A second call does nothing."""
        self._allowance.give_back(self._unsent_bytes)
        self._unsent_bytes = 0
        self._chunks = iter(())
