"""Computes the layout of a ZIP: any range of its bytes, without reading the bytes before it.

The size and CRC-32 of each member are known in advance, so all headers are known too. Only the bytes of the
members are fetched. Nothing is compressed, since videos do not get smaller. Must never do I/O.

Layout: APPNOTE.TXT 6.3.10, https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from zlib import crc32

FULL_32 = 0xFFFF_FFFF  # a size or offset of at least this is stored in the Zip64 field instead
FULL_16 = 0xFFFF
NAMES_ARE_UTF8 = 1 << 11
MADE_ON_UNIX = 3 << 8
PLAIN_FILE_0644 = 0o100644 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One file of the archive. `source` is its content, or a name with which the caller fetches it."""

    name: str
    size_bytes: int
    crc32: int
    source: bytes | str


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """The bytes `start <= i < stop` of a member, for the caller to fetch."""

    member: Member
    start: int
    stop: int


Segment = bytes | Slice


def literal(name: str, content: bytes) -> Member:
    """Return a member with the given content."""
    return Member(name=name, size_bytes=len(content), crc32=crc32(content), source=content)


class Archive:
    """A ZIP of `members` in their order. The same arguments always give the same bytes."""

    def __init__(self, members: Sequence[Member], *, modified_at: datetime) -> None:
        """Compute the layout. All members get the time `modified_at` without its zone: ZIP has no time zones.

        Raises ValueError for a name that is empty, too long, used twice, or leads out of its folder.
        """
        _check_names([member.name for member in members])
        self._members, self._stamp = members, _dos_stamp(modified_at)
        lengths = (len(self._local_header(member)) + member.size_bytes for member in members)
        self._offsets = list(accumulate(lengths, initial=0))  # the last is the start of the directory
        self.directory = self._central_directory()  # names, sizes, CRCs, offsets: it identifies the ZIP
        self.size_bytes = self._offsets[-1] + len(self.directory)

    def segments(self, start: int = 0, stop: int | None = None) -> Iterator[Segment]:
        """Yield the bytes `start <= i < stop` of the archive in order. No segment is empty."""
        stop = self.size_bytes if stop is None else min(stop, self.size_bytes)
        first = max(bisect_right(self._offsets, start) - 1, 0)
        for offset, piece in self._pieces(first):
            if offset >= stop:
                return
            length = piece.size_bytes if isinstance(piece, Member) else len(piece)
            begin, end = max(start - offset, 0), min(stop - offset, length)
            if begin < end:
                yield _cut(piece, begin, end)

    def _pieces(self, first: int) -> Iterator[tuple[int, bytes | Member]]:
        """Yield each header, each member and the directory with its offset, starting at member `first`."""
        for member, offset in zip(self._members[first:], self._offsets[first:], strict=False):
            header = self._local_header(member)
            yield offset, header
            yield offset + len(header), member
        yield self._offsets[-1], self.directory

    def _local_header(self, member: Member) -> bytes:
        name, size = member.name.encode(), member.size_bytes
        extra = _zip64(size, size) if size >= FULL_32 else b""
        return (
            struct.pack("<I", 0x0403_4B50)
            + self._common(member, version=45 if extra else 20, extra=extra)
            + name
            + extra
        )

    def _common(self, member: Member, *, version: int, extra: bytes) -> bytes:
        """Return the fields that a local header and a directory entry share."""
        size, method_store = min(member.size_bytes, FULL_32), 0
        lengths = (len(member.name.encode()), len(extra))
        fields = (version, NAMES_ARE_UTF8, method_store, *self._stamp, member.crc32, size, size, *lengths)
        return struct.pack("<5H3I2H", *fields)

    def _directory_entry(self, member: Member, offset: int) -> bytes:
        sizes = (member.size_bytes, member.size_bytes) if member.size_bytes >= FULL_32 else ()
        offsets = (offset,) if offset >= FULL_32 else ()
        extra = _zip64(*sizes, *offsets)
        version = 45 if extra else 20
        return (
            struct.pack("<IH", 0x0201_4B50, MADE_ON_UNIX | version)
            + self._common(member, version=version, extra=extra)
            + struct.pack("<3H2I", 0, 0, 0, PLAIN_FILE_0644, min(offset, FULL_32))
            + member.name.encode()
            + extra
        )

    def _central_directory(self) -> bytes:
        places = zip(self._members, self._offsets, strict=False)
        entries = b"".join(self._directory_entry(member, offset) for member, offset in places)
        return entries + _end(count=len(self._members), size=len(entries), offset=self._offsets[-1])


def _end(*, count: int, size: int, offset: int) -> bytes:
    """Return what follows the directory entries, with the Zip64 records if a number does not fit."""
    large = b""
    if count >= FULL_16 or size >= FULL_32 or offset >= FULL_32:
        made_by = MADE_ON_UNIX | 45
        large = struct.pack("<IQ2H2I4Q", 0x0606_4B50, 44, made_by, 45, 0, 0, count, count, size, offset)
        large += struct.pack("<IIQI", 0x0706_4B50, 0, offset + size, 1)
    counts = (min(count, FULL_16),) * 2
    return large + struct.pack(
        "<I4H2IH", 0x0605_4B50, 0, 0, *counts, min(size, FULL_32), min(offset, FULL_32), 0
    )


def _zip64(*values: int) -> bytes:
    return struct.pack(f"<2H{len(values)}Q", 1, 8 * len(values), *values) if values else b""


def _cut(piece: bytes | Member, start: int, stop: int) -> Segment:
    if isinstance(piece, bytes):
        return piece[start:stop]
    if isinstance(piece.source, bytes):
        return piece.source[start:stop]
    return Slice(member=piece, start=start, stop=stop)


def _dos_stamp(at: datetime) -> tuple[int, int]:
    """Return the time and date fields of MS-DOS: the years 1980 to 2107, in steps of 2 seconds."""
    year = min(max(at.year, 1980), 2107) - 1980
    return at.hour << 11 | at.minute << 5 | at.second // 2, year << 9 | at.month << 5 | at.day


def _check_names(names: Sequence[str]) -> None:
    """Raise ValueError for a name that could be unpacked outside of its folder, or that ZIP cannot store."""
    for name, times in Counter(names).items():
        steps = name.split("/")
        if "" in steps or "." in steps or ".." in steps or any(c in name for c in "\\\0:"):
            raise ValueError(f"not a safe file name in a ZIP: {name!r}")
        if len(name.encode()) > FULL_16 or times > 1:
            raise ValueError(f"a file name in a ZIP that is too long or used twice: {name[:80]!r}")
