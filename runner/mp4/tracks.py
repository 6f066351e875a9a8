"""A track of a movie box: what it holds, how long it is shown, and where its bytes end in the file.

Must never trust a number in the file; the length comes from the tables of samples, not from the headers.

Boxes: ISO/IEC 14496-12 (2022), 8.4 to 8.7.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from runner.mp4.boxes import Box, Damaged, File

EDITS_MAX = 1_000  # of a track; editors write a few


@dataclass(frozen=True, kw_only=True)
class Track:
    """What the headers and the first sample entry of a track say. Without a sample entry `tag` is empty."""

    id: int
    kind: bytes  # vide, soun, ...
    timescale: int
    tag: str
    entry: bytes  # the content of the sample entry
    width: int
    height: int
    chapters: tuple[int, ...]  # ids of the tracks that hold this track's chapters
    is_elsewhere: bool  # its media lies in another file
    trak: Box


@dataclass(frozen=True)
class Samples:
    """What a track's tables of samples say. `end` is the position in the file after its last sample."""

    count: int
    duration_s: float
    end: int
    media_s: float = 0.0  # of all samples, shown or not


def read(file: File, trak: Box) -> Track:
    """Return a track without its tables of samples. Raises Damaged."""
    tkhd = required(file, trak, b"tkhd")
    timescale, _ = time(required(file, trak, b"mdia", b"mdhd"))
    kind = required(file, trak, b"mdia", b"hdlr")[8:12]
    (track_id,) = struct.unpack_from(">I", tkhd, 20 if tkhd[0] else 12)
    is_used = kind in (b"vide", b"soun")  # damage in other tracks does not matter
    stsd = file.find(trak, b"mdia", b"minf", b"stbl", b"stsd") if is_used else None
    entry = next(file.children(stsd, skip=8), None) if stsd is not None else None
    body = file.load(entry) if entry is not None else b""
    width, height = _size(body, tkhd) if kind == b"vide" and body else (0, 0)
    return Track(
        id=track_id,
        kind=kind,
        timescale=timescale,
        tag=entry.kind.decode("latin-1") if entry is not None else "",
        entry=body,
        width=width,
        height=height,
        chapters=_chapters(file, trak),
        is_elsewhere=is_used and _is_elsewhere(file, trak),
        trak=trak,
    )


def samples(file: File, track: Track, movie_timescale: int, *, has_fragments: bool) -> Samples:
    """Return what the tables of samples say of a track; its file may have fragments too. Raises Damaged."""
    stbl = file.find(track.trak, b"mdia", b"minf", b"stbl")
    if stbl is None:
        return Samples(0, 0.0, 0)
    tables = {box.kind: box for box in file.children(stbl)}
    count, end = _bytes(file, tables, has_exact_sizes=track.kind == b"vide")
    if not track.timescale:
        return Samples(count, 0.0, end)
    media_s = _ticks(file, tables, count) / track.timescale
    first_s = _first_shift(file, tables) / track.timescale
    return Samples(
        count, _shown_s(file, track, media_s, first_s, movie_timescale, has_fragments), end, media_s
    )


def required(file: File, parent: Box, *path: bytes) -> bytes:
    """Return the content of a box that must be there. Raises Damaged."""
    box = file.find(parent, *path)
    if box is None:
        raise Damaged
    return file.load(box)


def time(body: bytes) -> tuple[int, int]:
    """Return (timescale, duration) of an mvhd or mdhd; a duration of all ones means unknown: 0."""
    timescale, duration = struct.unpack_from(">IQ" if body[0] else ">II", body, 20 if body[0] else 12)
    unknown = (1 << (64 if body[0] else 32)) - 1
    return timescale, 0 if duration == unknown else duration


def _size(entry: bytes, tkhd: bytes) -> tuple[int, int]:
    """Return width and height as stored, after the rotation. The track header's own size may be stretched."""
    width, height = struct.unpack_from(">HH", entry, 24)
    matrix = struct.unpack_from(">9i", tkhd, 52 if tkhd[0] else 40)
    if not matrix[0] and not matrix[4] and matrix[1] and matrix[3]:  # turned by 90 or 270 degrees
        return height, width
    return width, height


def _chapters(file: File, trak: Box) -> tuple[int, ...]:
    chap = file.find(trak, b"tref", b"chap")
    if chap is None:
        return ()
    body = file.load(chap)
    return struct.unpack_from(f">{len(body) // 4}I", body)


def _is_elsewhere(file: File, trak: Box) -> bool:
    dref = file.find(trak, b"mdia", b"minf", b"dinf", b"dref")
    first = next(file.children(dref, skip=8), None) if dref is not None else None
    # Only an alias names another file for FFmpeg, unless its flag says that the media is in this one.
    return first is not None and first.kind == b"alis" and not file.load(first)[3] & 1


def _bytes(file: File, tables: dict[bytes, Box], *, has_exact_sizes: bool) -> tuple[int, int]:
    """Return the number of samples, and where the last one ends in the file; zeros if the tables are missing.

    Sound with a fixed size often counts frames, not bytes: there only the start of the last chunk counts.
    """
    sizes = tables.get(b"stsz") or tables.get(b"stz2")
    offsets, each = tables.get(b"stco"), 4
    if offsets is None:
        offsets, each = tables.get(b"co64"), 8
    if sizes is None or offsets is None:
        return 0, 0
    fixed, count = struct.unpack(">II", file.between(sizes.start + 4, sizes.start + 12))
    (chunks,) = struct.unpack(">I", file.between(offsets.start + 4, offsets.start + 8))
    first = offsets.start + 8
    if not count or not chunks:
        return 0, 0
    if first + each * chunks > offsets.stop:
        raise Damaged
    end = file.largest(first, first + each * chunks, width=each) + 1
    last_chunk = int.from_bytes(file.between(first + each * (chunks - 1), first + each * chunks), "big")
    in_last = min(_samples_of_last_chunk(file, tables), count)
    if sizes.kind == b"stsz" and not fixed:
        stop = sizes.start + 12 + 4 * count
        if stop > sizes.stop:
            raise Damaged
        end = max(end, last_chunk + file.total(stop - 4 * in_last, stop, stride=4))
    elif sizes.kind == b"stsz" and has_exact_sizes:
        end = max(end, last_chunk + in_last * fixed)
    return count, end


def _samples_of_last_chunk(file: File, tables: dict[bytes, Box]) -> int:
    stsc = tables.get(b"stsc")
    if stsc is None:
        return 0
    (rows,) = struct.unpack(">I", file.between(stsc.start + 4, stsc.start + 8))
    last = stsc.start + 8 + 12 * (rows - 1)
    if not rows or last + 12 > stsc.stop:
        return 0
    (per_chunk,) = struct.unpack(">I", file.between(last + 4, last + 8))
    return int(per_chunk)


def _ticks(file: File, tables: dict[bytes, Box], count: int) -> int:
    """Return the duration of all samples in units of the track's time scale, the last one included."""
    stts = tables.get(b"stts")
    if stts is None:
        return 0
    (rows,) = struct.unpack(">I", file.between(stts.start + 4, stts.start + 8))
    start, stop = stts.start + 8, stts.start + 8 + 8 * rows
    if stop > stts.stop:
        raise Damaged
    timed = file.total(start, stop, stride=8)
    ticks = file.products(start, stop)
    return ticks * count // timed if timed > count else ticks


def _first_shift(file: File, tables: dict[bytes, Box]) -> int:
    """Return how long after its decoding time the first picture is shown: with B-frames more than 0."""
    ctts = tables.get(b"ctts")
    if ctts is None or ctts.size_bytes < 16:
        return 0
    (shift,) = struct.unpack(">i", file.between(ctts.start + 12, ctts.start + 16))
    return int(shift)


def _shown_s(
    file: File, track: Track, media_s: float, first_s: float, movie_timescale: int, has_fragments: bool
) -> float:
    """Return how long a track is shown: what its edit list shows, or all of it without one.

    The media starts at `first_s` and lasts `media_s`. An edit of length 0 shows nothing, but in a file with
    fragments all that is left.
    """
    elst = file.find(track.trak, b"edts", b"elst")
    if elst is None or not movie_timescale:
        return media_s
    body = file.load(elst)
    row, (rows,) = ">QqI" if body[0] else ">IiI", struct.unpack_from(">I", body, 4)
    shown_s = 0.0
    for number in range(min(rows, EDITS_MAX)):
        duration, media_time, _ = struct.unpack_from(row, body, 8 + number * struct.calcsize(row))
        rest_s = first_s + media_s - media_time / track.timescale
        if media_time < 0:
            shown_s += duration / movie_timescale
        elif rest_s > 0:
            is_open = has_fragments and not duration
            shown_s += rest_s if is_open else min(duration / movie_timescale, rest_s)
    return shown_s
