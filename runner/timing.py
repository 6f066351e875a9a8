"""Reads from the packets of a file how long its streams last, and how many pictures a second has.

Pure. A stream ends when its last packet has been shown: a picture that stays for three seconds lasts three
seconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from math import ceil

from runner.contract import RATE_MIN

DISCARDED = 0x4  # the flag of a packet that an edit list cuts away: it is decoded, and not shown
EVEN = 0.05  # durations of a constant rate differ by no more than this share, or one unit of time

COMMON_RATES = tuple(
    Fraction(*rate)
    for rate in [(24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1), (50, 1), (60000, 1001), (60, 1)]
)
LINES_MAX = 4_000_000  # 128 MiB of the shortest lines
STREAMS_MAX = 2  # one of picture and one of sound are listed
NEAR = Fraction(4, 10_000)  # units of time are coarse; 24 and 23.976 are 10 apart


@dataclass
class StreamTimes:
    """The packets of one stream, in seconds of the file's own timeline."""

    kind: str = ""  # `video` or `audio`
    unit_s: Fraction = Fraction(1)
    packets: int = 0  # all of them, those that are not shown included
    shown: int = 0
    last_s: Fraction = Fraction(0)  # when the packet begins that is shown last
    ends_s: Fraction = Fraction(0)  # and when it ends
    is_reordered: bool = False  # pictures are stored in another order than they are shown
    shortest: int = 0  # of the packets that are shown, in units
    longest: int = 0
    total: int = 0

    def add(self, decoded_at: int, shown_at: int, duration: int, flags: int) -> None:
        """Count one packet; times are in units."""
        self.packets += 1
        if flags & DISCARDED:
            return
        starts_s, lasts_s = shown_at * self.unit_s, duration * self.unit_s
        is_first = self.shown == 0
        self.shown += 1
        self.shortest = duration if is_first else min(self.shortest, duration)
        self.longest = max(self.longest, duration)
        self.total += duration
        self.is_reordered = self.is_reordered or decoded_at != shown_at
        if is_first or starts_s >= self.last_s:
            self.last_s, self.ends_s = starts_s, starts_s + lasts_s

    @property
    def is_constant(self) -> bool:
        """Whether all pictures stay equally long, within one unit of time."""
        return self.longest - self.shortest <= max(1, self.longest * EVEN)

    @property
    def rate(self) -> Fraction | None:
        """Pictures per second on average; None for a single picture, or without a duration."""
        return self.shown / (self.total * self.unit_s) if self.total and self.shown > 1 else None


def stream_times(lines: Iterable[str]) -> list[StreamTimes]:
    """Return the streams that FFmpeg's `framecrc` lists, in its order. Other lines are ignored.

    At most LINES_MAX lines are read and STREAMS_MAX streams found.
    """
    found: dict[str, StreamTimes] = {}
    for line in islice(lines, LINES_MAX):
        if line.startswith("#"):
            _read_header(line, found)
            continue
        packet = re.match(r"(\d+), *(-?\d{1,18}), *(-?\d{1,18}), *(\d{1,18}),", line)
        stream = packet and found.get(packet[1])
        if packet and stream:
            flags = re.search(r", F=0x([0-9A-Fa-f]{1,8})", line)
            times = int(packet[2]), int(packet[3]), int(packet[4])
            stream.add(*times, int(flags[1], 16) if flags else 0)
    return list(found.values())


def held_s(video: StreamTimes, stated_s: float) -> float:
    """Return how much longer (or, if negative, shorter) the last picture stays than its packet says.

    If pictures are reordered and not equally long, the duration of a packet is the time until the packet that
    is decoded next, not the one that is shown next. Then the length that the file states is right, unless the
    last picture would stay longer than any packet, or not at all.
    """
    if video.is_constant or not video.is_reordered or stated_s <= video.last_s:
        return 0.0
    longest_s = video.longest * video.unit_s
    return float(min(Fraction(stated_s), video.last_s + longest_s) - video.ends_s)


def output_rate_of(video: StreamTimes) -> Fraction | None:
    """Return the frame rate of outputs that keep the rate of the source; None if the source shows none.

    It is the constant rate, or the common one that is nearest to the average. Below RATE_MIN each
    picture becomes several frames, so that an output can end within a tenth of a second of the source's end.
    """
    rate = video.rate
    if rate is None:
        return None
    nearest = min(COMMON_RATES, key=lambda common: abs(common - rate))
    if not video.is_constant or abs(nearest - rate) < NEAR * nearest:
        return nearest
    return (rate * max(1, ceil(RATE_MIN / rate))).limit_denominator(1001)


def _read_header(line: str, found: dict[str, StreamTimes]) -> None:
    if len(found) >= STREAMS_MAX and not re.match(rf"#\w+ ({'|'.join(found)}):", line):
        return
    if unit := re.match(r"#tb (\d+): (\d{1,9})/(\d{1,9})$", line.strip()):
        found.setdefault(unit[1], StreamTimes()).unit_s = Fraction(int(unit[2]), max(1, int(unit[3])))
    elif kind := re.match(r"#media_type (\d+): (\w+)", line):
        found.setdefault(kind[1], StreamTimes()).kind = kind[2]
