"""Reads the boxes of an MP4 or MOV in windows, never the whole file.

Must never trust a number in the file. One look at a file has a budget of reads and of boxes, holds at most
two windows in memory, and runs no Python code for each sample.

Boxes: ISO/IEC 14496-12 (2022), 4.2; QuickTime File Format Specification (2012-08), "Atoms".
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import mul

READS_MAX = 64  # of one look
BOXES_MAX = 20_000  # of one look
WINDOW_BYTES = 64 * 1024  # one read for many small boxes
STEP_BYTES = 8 * 1024**2 // 48 * 48  # of a long read: a multiple of records of 4, 8, 12 and 16 bytes
SEARCHED_BYTES_MAX = 96 * 1024**2  # at the end, for the last fragment

Read = Callable[[int, int], bytes]


class CutShort(Exception):
    """A read returned less than the file's size promises."""


class Damaged(Exception):
    """A box contradicts itself or the box around it."""


class Scattered(Exception):
    """The budget of reads or boxes is used up: the file is in too many pieces."""


@dataclass(frozen=True)
class Box:
    """The kind of a box, and where its content (without the header) starts and stops in the file."""

    kind: bytes
    start: int
    stop: int

    @property
    def size_bytes(self) -> int:
        """The length of its content."""
        return self.stop - self.start


class File:
    """A file whose bytes `read(start, stop)` returns.

    Its methods raise CutShort, Scattered, and whatever `read` raises.
    """

    def __init__(self, read: Read, size_bytes: int) -> None:
        self._read, self.size_bytes = read, size_bytes
        self.reads = self._boxes = 0
        self.head = self._get(0, min(size_bytes, WINDOW_BYTES)) if size_bytes else b""
        self._window_at, self._window = 0, self.head

    def between(self, start: int, stop: int) -> bytes:
        """Return the bytes from `start` to `stop`, fewer at the file's end."""
        stop = min(stop, self.size_bytes)
        if stop <= len(self.head):
            return self.head[start:stop]
        if not self._window_at <= start <= stop <= self._window_at + len(self._window):
            self._window = self._get(start, max(stop, min(start + WINDOW_BYTES, self.size_bytes)))
            self._window_at = start
        return self._window[start - self._window_at : stop - self._window_at]

    def header(self, at: int, room: int) -> tuple[bytes, int, int]:
        """Return kind, length of the header and whole length of the box at `at`; it has `room` bytes at most.

        Raises Damaged.
        """
        self._boxes += 1
        if self._boxes > BOXES_MAX:
            raise Scattered
        raw = self.between(at, at + min(room, 16))
        try:
            size, kind = struct.unpack_from(">I4s", raw)
            header = 8
            if size == 1:
                (size,), header = struct.unpack_from(">Q", raw, 8), 16
        except struct.error:
            raise Damaged from None
        if size == 0:  # the box reaches to the end
            size = room
        if size < header:
            raise Damaged
        return kind, header, size

    def children(self, parent: Box, *, skip: int = 0) -> Iterator[Box]:
        """Yield the boxes in a box, after its first `skip` bytes. Raises Damaged."""
        at = parent.start + skip
        while parent.stop - at >= 8:  # QuickTime ends some containers with four zeros
            kind, header, size = self.header(at, parent.stop - at)
            if size > parent.stop - at:
                raise Damaged
            yield Box(kind, at + header, at + size)
            at += size

    def find(self, parent: Box, *path: bytes) -> Box | None:
        """Return the first box at a path of kinds, each inside the one before. Raises Damaged."""
        found: Box | None = parent
        for step in path:
            if found is not None:
                found = next((box for box in self.children(found) if box.kind == step), None)
        return found

    def load(self, box: Box) -> bytes:
        """Return the content of a box; of a long one, only its first WINDOW_BYTES."""
        return self.between(box.start, min(box.stop, box.start + WINDOW_BYTES))

    def total(self, start: int, stop: int, *, stride: int) -> int:
        """Return the sum of the first 32-bit number of each record of `stride` bytes: 4, 8, 12 or 16.

        A long recording has millions of records, so no Python code runs for each of them.
        """
        total = 0
        for at in range(start, stop, STEP_BYTES):
            total += sum(self._numbers("I", at, min(at + STEP_BYTES, stop))[:: stride // 4])
        return total

    def products(self, start: int, stop: int) -> int:
        """Return the sum of the products of records of two 32-bit numbers, such as count and duration."""
        total = 0
        for at in range(start, stop, STEP_BYTES):
            numbers = self._numbers("I", at, min(at + STEP_BYTES, stop))
            total += sum(map(mul, numbers[::2], numbers[1::2]))
        return total

    def largest(self, start: int, stop: int, *, width: int) -> int:
        """Return the largest of the numbers of `width` bytes (4 or 8). There must be at least one."""
        code = "I" if width == 4 else "Q"
        steps = range(start, stop, STEP_BYTES)
        return max(max(self._numbers(code, at, min(at + STEP_BYTES, stop))) for at in steps)

    def last(self, sign: bytes, *, after: int, before: int) -> int | None:
        """Return the last place of `sign` between the two, or None.

        Only the last SEARCHED_BYTES_MAX of the file are searched.
        """
        stop, step = before, WINDOW_BYTES
        floor = max(after, self.size_bytes - SEARCHED_BYTES_MAX)
        while stop - len(sign) >= floor:
            start = max(floor, stop - step)
            at = self.between(start, stop).rfind(sign)
            if at >= 0:
                return start + at
            if start == floor:
                return None
            stop, step = start + len(sign) - 1, min(step * 8, STEP_BYTES)
        return None

    def _numbers(self, code: str, start: int, stop: int) -> array[int]:
        numbers = array(code, self.between(start, stop))
        if sys.byteorder == "little":
            numbers.byteswap()
        return numbers

    def _get(self, start: int, stop: int) -> bytes:
        self.reads += 1
        if self.reads > READS_MAX:
            raise Scattered
        found = self._read(start, stop)
        if len(found) < stop - start:
            raise CutShort
        return found
