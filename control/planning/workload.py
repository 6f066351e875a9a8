"""Estimates how long a machine works on outputs, and how many bytes it sends. PURE.

There are two steps. The first gives seconds of work: the time on one core of our reference machine. The
second turns them into real seconds of a machine size by a `Speed`, a line fitted to its finished jobs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from control.domain.effects import SIBLINGS
from control.domain.encoding import STANDARD, Encoding
from runner.contract import AUDIO_KBPS, BUFFER_S, CAP_KBPS, Effects

# Core-seconds for each megapixel (`python -m bench.work`, docs/performance.md). A leader also analyses for
# its siblings.
LEADER_S = 0.019
SIBLING_S = 0.0095
NOISE_SHARE = 0.02  # noise is expensive to encode: the additional share for each step
TRANSCODE_S = 0.0180  # a preset: no warping, nothing shared
OUTPUT_S = 0.3  # fixed time of each output: processes, the check, the upload

SOURCE_S = 0.2  # to probe a source
FETCH_BYTES_PER_S = 50e6
UNKNOWN_S, UNKNOWN_PIXELS, UNKNOWN_BYTES = (
    30.0,
    1920 * 1080,
    30e6,
)  # assumed of a source that has not been probed

BITS_PER_PIXEL = 0.07
HIGH_BITS_FACTOR = 1.6  # of CRF 19 against CRF 23: x264 needs twice the bits for each 6 less
VIDEO_BPS_MAX, AUDIO_BPS = 1e3 * CAP_KBPS, 1e3 * AUDIO_KBPS
VIDEO_BUFFER_BITS = VIDEO_BPS_MAX * BUFFER_S
PRESET_BPS_MAX = 12e6  # assumed: presets set no cap
CAP_MARGIN = 1.25  # the container, one frame too many, and bytes sent again after a broken connection
# Assumed of an output whose source has not been probed: three minutes at the cap.
UNKNOWN_ROOM_BYTES = 64 * 1024**2
POSTER_BYTES = 300_000  # the largest poster: 640 pixels of noise


@dataclass(frozen=True, kw_only=True)
class SourceInfo:
    """The facts of a source that its work depends on; zeros while they are unknown."""

    size_bytes: float
    duration_s: float
    pixels: int
    frame_rate: float | None = None  # pictures per second; None: unknown
    bytes_most: float = 0.0  # the size limit of a source that only the runner fetches

    @property
    def is_known(self) -> bool:
        """False for a source that only the runner fetches."""
        return self.duration_s > 0 and self.pixels > 0

    def guessed(self) -> SourceInfo:
        """Return this, or a typical clip in its place while the facts are unknown."""
        if self.is_known:
            return self
        return SourceInfo(size_bytes=UNKNOWN_BYTES, duration_s=UNKNOWN_S, pixels=UNKNOWN_PIXELS)

    @property
    def fetch_s(self) -> float:
        """Seconds until the source is on the machine and probed."""
        return SOURCE_S + self.size_bytes / FETCH_BYTES_PER_S

    def work_s(self, effects: Effects | None, *, is_leader: bool, encoding: Encoding = STANDARD) -> float:
        """Return the core-seconds of one output; `effects` is None for a preset."""
        megapixels = self.pixels * self.duration_s * encoding.frames_per_s(self.frame_rate) / 1e6
        if effects is None:
            return OUTPUT_S + megapixels * TRANSCODE_S
        each = LEADER_S if is_leader else SIBLING_S
        return OUTPUT_S + megapixels / effects.speed * each * (1 + NOISE_SHARE * effects.noise)

    def likely_bytes(self, encoding: Encoding = STANDARD) -> float:
        """Return the likely size of one output."""
        bits_per_pixel = BITS_PER_PIXEL * (HIGH_BITS_FACTOR if encoding.quality == "high" else 1)
        cap_bps = VIDEO_BPS_MAX * encoding.cap_factor(self.pixels)
        video_bps = min(cap_bps, bits_per_pixel * self.pixels * encoding.frames_per_s(self.frame_rate))
        return (video_bps + AUDIO_BPS) / 8 * self.duration_s

    def bytes_max(self, effects: Effects | None, encoding: Encoding = STANDARD) -> float:
        """Return the most bytes that one output may send. This is reserved for its egress.

        An output of a source of unknown size may be as large as the largest allowed source.
        """
        if not self.is_known:
            return POSTER_BYTES + CAP_MARGIN * max(self.bytes_most, self.size_bytes)
        if effects is None:
            return POSTER_BYTES + max(2 * self.size_bytes, PRESET_BPS_MAX / 8 * self.duration_s)
        factor, duration_s = encoding.cap_factor(self.pixels), self.duration_s / effects.speed
        bits = (VIDEO_BPS_MAX * factor + AUDIO_BPS) * duration_s + VIDEO_BUFFER_BITS * factor
        return POSTER_BYTES + CAP_MARGIN * bits / 8

    def room_bytes(self, effects: Effects | None, encoding: Encoding = STANDARD) -> float:
        """Return the storage that is reserved for one output: its largest size, while the facts are known.

        For a source that only the runner fetches it is what all but long videos need: as much as the largest
        allowed source, for each output, would let four variations of a link fill the usual storage.
        """
        most = self.bytes_max(effects, encoding)
        return most if self.is_known else min(most, UNKNOWN_ROOM_BYTES)


UNKNOWN_SOURCE = SourceInfo(size_bytes=0, duration_s=0, pixels=0)


@dataclass(frozen=True, kw_only=True)
class WorkUnit:
    """Outputs that share decoding and analysis, and so stay on one machine. Times are core-seconds."""

    source: int  # its number
    outputs: Sequence[int]  # their numbers
    work_s: float
    longest_s: float  # the time that more cores cannot shorten
    fetch_s: float
    likely_bytes: float
    bytes_max: float  # sent
    room_bytes: float  # stored


def work_units(
    asked: Sequence[tuple[int, Effects | None]],
    source_info: Sequence[SourceInfo],
    *,
    sends: int = 1,
    encoding: Encoding = STANDARD,
) -> list[WorkUnit]:
    """Return the work units of these outputs in order. Each output is given as a source and its effects.

    Up to SIBLINGS successive outputs of one source with the same noise and speed are one unit. Each output is
    sent to `sends` places.
    """
    runs: list[list[int]] = []
    for index in range(len(asked)):
        if runs and len(runs[-1]) < SIBLINGS and _are_siblings(asked[runs[-1][0]], asked[index]):
            runs[-1].append(index)
        else:
            runs.append([index])
    return [_work_unit(asked, run, source_info[asked[run[0]][0]], sends, encoding) for run in runs]


def _are_siblings(one: tuple[int, Effects | None], other: tuple[int, Effects | None]) -> bool:
    if one[0] != other[0] or one[1] is None or other[1] is None:
        return False
    return (one[1].noise, one[1].speed) == (other[1].noise, other[1].speed)


def _work_unit(
    asked: Sequence[tuple[int, Effects | None]],
    run: Sequence[int],
    seen: SourceInfo,
    sends: int,
    encoding: Encoding,
) -> WorkUnit:
    source_info = seen.guessed()
    each = [
        source_info.work_s(asked[index][1], is_leader=index == run[0], encoding=encoding) for index in run
    ]
    return WorkUnit(
        source=asked[run[0]][0],
        outputs=run,
        work_s=sum(each),
        longest_s=each[0] + max(each[1:], default=0.0),
        fetch_s=source_info.fetch_s,
        likely_bytes=sends * source_info.likely_bytes(encoding) * len(run),
        bytes_max=sends * sum(seen.bytes_max(asked[index][1], encoding) for index in run),
        room_bytes=sum(seen.room_bytes(asked[index][1], encoding) for index in run),
    )


def machine_work_s(work_units: Sequence[WorkUnit], cores: int) -> float:
    """Return the seconds of a machine for these units. It fetches and renders at the same time."""
    fetches = {unit.source: unit.fetch_s for unit in work_units}
    render_s = max(
        sum(unit.work_s for unit in work_units) / cores, max(unit.longest_s for unit in work_units)
    )
    return fetches[work_units[0].source] + max(render_s, sum(fetches.values()))


# --- calibration ------------------------------------------------------------------------------------

_SETUP_S, _PACE = 2.0, 1.0  # before the first job: fixed seconds, and seconds for each second of work
_LAUNCH_S = 5.0  # from the create call to the claim: 5.2 s measured on Fly, of which little is billed
_DOUBT = 0.02  # the weight of that assumption, where one finished job has 1
_KEPT = 0.9  # the share of the old sums that stays when a job is added
_SUMS = ("weight", "work", "work_work", "wall", "work_wall")


@dataclass(frozen=True)
class Speed:
    """The line `seconds = setup_s + pace * work_s`, fitted to the finished jobs of one machine size.

    It has the sums for least squares of relative errors. Older jobs count less.
    """

    jobs: int = 0
    weight: float = 0.0
    work: float = 0.0
    work_work: float = 0.0
    wall: float = 0.0
    work_wall: float = 0.0
    launch_s: float = _LAUNCH_S
    bytes_ratio: float = 1.0  # real size / likely size

    def learn(self, *, work_s: float, wall_s: float, launch_s: float, bytes_ratio: float) -> Speed:
        """Return the speed after one more job."""
        faded = replace(self, **{name: _KEPT * getattr(self, name) for name in _SUMS})
        share = max(1 - _KEPT, 1 / (self.jobs + 1))
        return replace(
            faded._with(work_s, wall_s, 1.0),
            jobs=self.jobs + 1,
            launch_s=self.launch_s + share * (launch_s - self.launch_s),
            bytes_ratio=self.bytes_ratio + share * (bytes_ratio - self.bytes_ratio),
        )

    def seconds(self, work_s: float) -> float:
        """Return the billed seconds of a machine with this much work."""
        setup_s, pace = self.line
        return setup_s + pace * work_s

    @property
    def line(self) -> tuple[float, float]:
        """The fixed seconds, and the seconds for each second of work."""
        known = self
        for work_s in (0.0, 60.0):
            known = known._with(work_s, _SETUP_S + _PACE * work_s, _DOUBT)
        schedule = known.weight * known.work_work - known.work**2
        pace = (known.weight * known.work_wall - known.work * known.wall) / schedule
        setup_s = (known.wall - pace * known.work) / known.weight
        if setup_s < 0:
            return 0.0, known.work_wall / known.work_work
        return (setup_s, pace) if pace > 0 else (known.wall / known.weight, 0.0)

    def _with(self, work_s: float, wall_s: float, weight: float) -> Speed:
        weight /= (_SETUP_S + work_s) ** 2
        return replace(
            self,
            weight=self.weight + weight,
            work=self.work + weight * work_s,
            work_work=self.work_work + weight * work_s**2,
            wall=self.wall + weight * wall_s,
            work_wall=self.work_wall + weight * work_s * wall_s,
        )
