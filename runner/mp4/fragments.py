"""When a fragment of a movie starts and ends. Only the first and the last fragment of a file need to be read.

But where fragments do not say when they start (no `tfdt`: Smooth Streaming, old recorders), all are.

Boxes: ISO/IEC 14496-12 (2022), 8.8.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from runner.media import FRAMES_MAX
from runner.mp4.boxes import Box, Damaged, File


@dataclass(frozen=True)
class Fragment:
    """Start and end of a fragment over all of its tracks; number and duration of the pictures in it."""

    start_s: float
    end_s: float
    pictures: int
    pictures_s: float


@dataclass(frozen=True)
class _Traf:
    """The header of a track's part of a fragment: the base of its offsets, and its samples' defaults."""

    track_id: int
    base: int
    duration: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Tracks:
    """What the movie box says of the tracks of all fragments."""

    mvex: Box
    timescales: Mapping[int, int]  # by the id of the track; none is 0
    picture: int  # the id of the track of pictures


def read(file: File, moof: Box, tracks: Tracks, *, stop: int | None = None) -> Fragment | None:
    """Return the times of a fragment, or None if it does not name them. Raises Damaged.

    With `stop`, only the samples that end before this position in the file count: they are what is left of a
    fragment that was cut off.
    """
    parts = [part for part in _parts(file, moof, tracks, stop) if part.start is not None]
    if not parts:
        return None
    pictures = [part for part in parts if part.track_id == tracks.picture]
    return Fragment(
        min(part.start_s for part in parts),
        max(part.start_s + part.length_s for part in parts),
        sum(part.samples for part in pictures),
        sum(part.length_s for part in pictures),
    )


def read_all(file: File, first: Box, tracks: Tracks) -> Fragment:
    """Return the times of all fragments from the first one on, by adding their lengths. Raises Damaged."""
    lengths_s: dict[int, float] = {}
    pictures = 0
    for moof in file.children(Box(b"", first.start - 8, file.size_bytes)):
        for part in _parts(file, moof, tracks, None) if moof.kind == b"moof" else ():
            lengths_s[part.track_id] = lengths_s.get(part.track_id, 0.0) + part.length_s
            pictures += part.samples if part.track_id == tracks.picture else 0
    return Fragment(0.0, max(lengths_s.values(), default=0.0), pictures, lengths_s.get(tracks.picture, 0.0))


@dataclass(frozen=True)
class _Part:
    """One track's part of a fragment. `start` and `ticks` are in its time scale; None: it has no `tfdt`."""

    track_id: int
    start: int | None
    ticks: int
    samples: int
    timescale: int

    @property
    def start_s(self) -> float:
        return (self.start or 0) / self.timescale

    @property
    def length_s(self) -> float:
        return self.ticks / self.timescale


def _parts(file: File, moof: Box, tracks: Tracks, stop: int | None) -> Iterator[_Part]:
    trexes = (file.load(box) for box in file.children(tracks.mvex) if box.kind == b"trex")
    defaults = {struct.unpack_from(">4xI", body)[0]: struct.unpack_from(">12xII", body) for body in trexes}
    for traf in file.children(moof):
        tfhd = file.find(traf, b"tfhd") if traf.kind == b"traf" else None
        header = _header(file.load(tfhd), moof.start - 8, defaults) if tfhd is not None else None
        if header is not None and header.track_id in tracks.timescales:
            yield _part(file, traf, header, tracks.timescales[header.track_id], stop)


def _part(file: File, traf: Box, header: _Traf, timescale: int, stop: int | None) -> _Part:
    tfdt = file.find(traf, b"tfdt")
    start = None
    if tfdt is not None:
        body = file.load(tfdt)
        (start,) = struct.unpack_from(">Q" if body[0] else ">I", body, 4)
    ticks, samples, at = 0, 0, header.base
    for trun in file.children(traf):
        if trun.kind != b"trun":
            continue
        if stop is None:
            count, lasts = _run(file, trun, header)
        else:
            count, lasts, at = _whole(file, trun, header, at, stop)
        ticks, samples = ticks + lasts, samples + count
    return _Part(header.track_id, start, ticks, samples, timescale)


def _header(tfhd: bytes, moof_at: int, defaults: Mapping[int, tuple[int, int]]) -> _Traf:
    """Read a tfhd. Its optional fields are in the order of their flags."""
    flags, track_id = struct.unpack_from(">II", tfhd)
    duration, size = defaults.get(track_id, (0, 0))
    at, base = 8, moof_at
    if flags & 0x1:
        (base,) = struct.unpack_from(">Q", tfhd, at)
        at += 8
    at += 4 if flags & 0x2 else 0
    if flags & 0x8:
        (duration,) = struct.unpack_from(">I", tfhd, at)
        at += 4
    if flags & 0x10:
        (size,) = struct.unpack_from(">I", tfhd, at)
    return _Traf(track_id, base, duration, size)


def _run(file: File, trun: Box, header: _Traf) -> tuple[int, int]:
    """Return the number of samples in a run, and the sum of their durations."""
    flags, count, first, stride = _table(file, trun)
    if not flags & 0x100:  # all samples have the default duration
        return count, count * header.duration
    return count, file.total(first, first + count * stride, stride=stride)


def _whole(file: File, trun: Box, header: _Traf, at: int, stop: int) -> tuple[int, int, int]:
    """Return number and duration of the samples of a run that end before `stop`, and where the run ends."""
    flags, count, first, stride = _table(file, trun)
    if count > FRAMES_MAX:
        raise Damaged
    if flags & 0x1:
        (offset,) = struct.unpack(">i", file.between(trun.start + 8, trun.start + 12))
        at = header.base + offset
    fields = array("I", file.between(first, first + count * stride))
    if sys.byteorder == "little":
        fields.byteswap()
    each, has_duration = max(1, stride // 4), bool(flags & 0x100)
    durations = fields[::each] if has_duration else array("I", [header.duration]) * count
    sizes = fields[has_duration::each] if flags & 0x200 else array("I", [header.size]) * count
    ends = list(accumulate(sizes, initial=at))[1:]
    whole = bisect_right(ends, stop)
    return whole, sum(durations[:whole]), ends[-1] if ends else at


def _table(file: File, trun: Box) -> tuple[int, int, int, int]:
    """Return flags, number of samples, and position and length of the records of a run. Raises Damaged."""
    flags, count = struct.unpack(">II", file.between(trun.start, trun.start + 8))
    first = trun.start + 8 + (4 if flags & 0x1 else 0) + (4 if flags & 0x4 else 0)
    stride = 4 * (flags >> 8 & 0xF).bit_count()  # a sample's duration comes first, then its size
    if first + count * stride > trun.stop:
        raise Damaged
    return flags, count, first, stride
