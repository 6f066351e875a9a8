"""The boxes of an MP4 or MOV, read where they lie: by windows, never as a whole.

Must never trust a number in the file. A look has a budget of reads and of boxes, holds two windows at most,
and does nothing by Python for each sample.

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
WINDOW_BYTES = 64 * 1024  # holds most of what is small: one read for many boxes
STEP_BYTES = 8 * 1024**2 // 48 * 48  # of a long read, in whole records of 4, 8, 12 or 16 bytes
SEARCHED_BYTES_MAX = 96 * 1024**2

Read = Callable[[int, int], bytes]


class CutShort(Exception):
    """A read gave less than the file's size promises."""


class Damaged(Exception):
    """A box contradicts itself or the one that it lies in."""


class Scattered(Exception):
    """The file has used up its budget: it is in too many pieces."""


@dataclass(frozen=True)
class Box:
    """A box by its kind, and where its inside is."""

    kind: bytes
    start: int
    stop: int

    @property
    def size_bytes(self) -> int:
        """The length of its inside."""
        return self.stop - self.start


class File:
    """A file whose bytes `read(start, stop)` gives. Raises CutShort, Scattered, and what `read` raises."""

    def __init__(self, read: Read, size_bytes: int) -> None:
        self._read, self.size_bytes = read, size_bytes
        self.reads = self._boxes = 0
        self.head = self._get(0, min(size_bytes, WINDOW_BYTES)) if size_bytes else b""
        self._window_at, self._window = 0, self.head

    def between(self, start: int, stop: int) -> bytes:
        """Return some bytes, fewer at the file's end."""
        stop = min(stop, self.size_bytes)
        if stop <= len(self.head):
            return self.head[start:stop]
        if not self._window_at <= start <= stop <= self._window_at + len(self._window):
            self._window = self._get(start, max(stop, min(start + WINDOW_BYTES, self.size_bytes)))
            self._window_at = start
        return self._window[start - self._window_at : stop - self._window_at]

    def header(self, at: int, room: int) -> tuple[bytes, int, int]:
        """Return kind, header's length and whole length of the box at `at`; `room` is what is left for it.

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
        if size == 0:  # to the end
            size = room
        if size < header:
            raise Damaged
        return kind, header, size

    def children(self, parent: Box, *, skip: int = 0) -> Iterator[Box]:
        """Yield the boxes in a box, whose first `skip` bytes are none. Raises Damaged."""
        at = parent.start + skip
        while parent.stop - at >= 8:  # QuickTime ends some containers with four zeros
            kind, header, size = self.header(at, parent.stop - at)
            if size > parent.stop - at:
                raise Damaged
            yield Box(kind, at + header, at + size)
            at += size

    def find(self, parent: Box, *path: bytes) -> Box | None:
        """Return the first box of these kinds, each in the one before. Raises Damaged."""
        found: Box | None = parent
        for step in path:
            if found is not None:
                found = next((box for box in self.children(found) if box.kind == step), None)
        return found

    def load(self, box: Box) -> bytes:
        """Return the inside of a box, of a long one only the start."""
        return self.between(box.start, min(box.stop, box.start + WINDOW_BYTES))

    def total(self, start: int, stop: int, *, stride: int) -> int:
        """Return the sum of the first number of each record of `stride` bytes: 4, 8, 12 or 16.

        A second of video is some fifty records and a long recording has millions: C adds them up.
        """
        total = 0
        for at in range(start, stop, STEP_BYTES):
            total += sum(self._numbers("I", at, min(at + STEP_BYTES, stop))[:: stride // 4])
        return total

    def products(self, start: int, stop: int) -> int:
        """Return the sum of first times second number over records of two numbers of 32 bits."""
        total = 0
        for at in range(start, stop, STEP_BYTES):
            numbers = self._numbers("I", at, min(at + STEP_BYTES, stop))
            total += sum(map(mul, numbers[::2], numbers[1::2]))
        return total

    def largest(self, start: int, stop: int, *, width: int) -> int:
        """Return the largest of the numbers of 4 or 8 bytes, at least one of them."""
        code = "I" if width == 4 else "Q"
        steps = range(start, stop, STEP_BYTES)
        return max(max(self._numbers(code, at, min(at + STEP_BYTES, stop))) for at in steps)

    def last(self, sign: bytes, *, after: int, before: int) -> int | None:
        """Return where `sign` stands the last time between the two, if that is not too far from the end."""
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
