"""When a fragment of a movie starts and ends. Only the first and the last fragment of a file need to be read.

Boxes: ISO/IEC 14496-12 (2022), 8.8.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from runner.media import FRAMES_MAX
from runner.mp4.boxes import Box, Damaged, File


@dataclass(frozen=True)
class Fragment:
    """Start and end of a fragment over all of its tracks, and the samples of the track that has most."""

    start_s: float
    end_s: float
    samples: int


@dataclass(frozen=True)
class _Traf:
    """The header of a track's part of a fragment: the base of its offsets, and its samples' defaults."""

    track_id: int
    base: int
    duration: int
    size: int


def read(
    file: File, moof: Box, mvex: Box, timescales: Mapping[int, int], *, stop: int | None = None
) -> Fragment | None:
    """Return the times of a fragment, or None if it does not name them. Raises Damaged.

    `timescales` has the time scale of each track by its id, none of them 0. With `stop`, only the samples
    that end before this position in the file count: they are what is left of a fragment that was cut off.
    """
    trexes = (file.load(box) for box in file.children(mvex) if box.kind == b"trex")
    defaults = {struct.unpack_from(">4xI", body)[0]: struct.unpack_from(">12xII", body) for body in trexes}
    parts = []
    for traf in file.children(moof):
        if traf.kind == b"traf":
            part = _part(file, traf, moof.start - 8, timescales, defaults, stop)
            parts += [part] if part is not None else []
    if not parts:
        return None
    return Fragment(
        min(part.start_s for part in parts),
        max(part.end_s for part in parts),
        max(part.samples for part in parts),
    )


def _part(
    file: File,
    traf: Box,
    moof_at: int,
    timescales: Mapping[int, int],
    defaults: Mapping[int, tuple[int, int]],
    stop: int | None,
) -> Fragment | None:
    """Return the times of one track's part of a fragment, or None if it does not name them."""
    found = file.find(traf, b"tfhd"), file.find(traf, b"tfdt")
    if found[0] is None or found[1] is None:
        return None
    header, tfdt = _header(file.load(found[0]), moof_at, defaults), file.load(found[1])
    (start,) = struct.unpack_from(">Q" if tfdt[0] else ">I", tfdt, 4)
    if header.track_id not in timescales:
        return None
    timescale, end, samples, at = timescales[header.track_id], start, 0, header.base
    for trun in file.children(traf):
        if trun.kind != b"trun":
            continue
        if stop is None:
            count, ticks = _run(file, trun, header)
        else:
            count, ticks, at = _whole(file, trun, header, at, stop)
        end, samples = end + ticks, samples + count
    return Fragment(start / timescale, end / timescale, samples)


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
