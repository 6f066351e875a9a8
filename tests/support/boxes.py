"""MP4 files taken apart and put together wrong: the boxes of ISO/IEC 14496-12, without meaning."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping

HOLDS_BOXES = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"dinf", b"edts"}


def replaced(file: bytes, contents: Mapping[bytes, bytes]) -> bytes:
    """Return the file with other contents of the named boxes. Whatever moves must lie behind the media."""
    made = b""
    for kind, body in boxes(file):
        if kind in contents:
            body = contents[kind]
        elif kind in HOLDS_BOXES:
            body = replaced(body, contents)
        made += struct.pack(">I4s", len(body) + 8, kind) + body
    return made


def boxes(file: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at < len(file):
        size, kind = struct.unpack_from(">I4s", file, at)
        yield kind, file[at + 8 : at + size]
        at += size


def found(file: bytes, *path: bytes) -> bytes:
    """Return the contents of the first box at a path such as moov, trak, mdia."""
    for name in path:
        file = next(body for kind, body in boxes(file) if kind == name)
    return file


def headers(file: bytes, start: int = 0, end: int | None = None) -> Iterator[int]:
    """Yield where each box begins, those inside others too."""
    at, end = start, len(file) if end is None else end
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", file, at)
        yield at
        if kind in HOLDS_BOXES:
            yield from headers(file, at + 8, at + size)
        at += max(8, size)


def table(*rows: tuple[int, ...]) -> bytes:
    """Return the contents of a full box that counts its rows: stts, stsc, stco, stss."""
    return struct.pack(">II", 0, len(rows)) + b"".join(struct.pack(f">{len(row)}I", *row) for row in rows)


def of_many_frames(one_frame: bytes, count: int, *, per_second: int) -> bytes:
    """Return a file of so many frames, all of them the bytes of the one that `one_frame` has."""
    stbl = (b"moov", b"trak", b"mdia", b"minf", b"stbl")
    (size,) = struct.unpack_from(">I", found(one_frame, *stbl, b"stsz"), 4) or (0,)
    size = size or struct.unpack_from(">I", found(one_frame, *stbl, b"stsz"), 12)[0]
    (offset,) = struct.unpack_from(">I", found(one_frame, *stbl, b"stco"), 8)
    return replaced(
        one_frame,
        {
            b"edts": b"",  # or what goes beyond the list of edits would not be shown
            b"mdhd": timed(found(one_frame, *stbl[:3], b"mdhd"), per_second),
            b"stts": table((count, 1)),
            b"stsc": table((1, 1, 1)),
            b"stsz": struct.pack(">III", 0, size, count),
            b"stco": struct.pack(">II", 0, count) + struct.pack(">I", offset) * count,
            b"stss": table((1,)),
        },
    )


def timed(mdhd: bytes, per_second: int) -> bytes:
    """Return the contents of a version 0 mdhd with another time scale."""
    return mdhd[:12] + struct.pack(">I", per_second) + mdhd[16:]


def named_elsewhere(path: str) -> bytes:
    """Return the contents of a dref whose media lies in another file: an alias with an absolute path."""
    name = path.rpartition("/")[2].encode()[:63]
    alias = bytes(10) + bytes(28) + bytes(12)
    alias += bytes([len(name)]) + name.ljust(63, b"\0") + bytes(16) + bytes(4) + bytes(16)
    alias += struct.pack(">HH", 2, len(path)) + path.encode() + bytes(len(path) % 2)
    alias += struct.pack(">HH", 18, 1) + b"/\0" + struct.pack(">HH", 0xFFFF, 0)
    alias = alias.ljust(200, b"\0")
    return struct.pack(">II", 0, 1) + struct.pack(">I4sI", len(alias) + 12, b"alis", 0) + alias
