"""Makes the filters that draw the effects of one output.

Pure: must never touch a file, a process or a clock. The picture equals the plain chain `rotate`, crop +
`scale`, `hflip` (a test compares them); rotation and zoom are one `perspective`, since `rotate` alone costs
twice as much. `hflip` stays: in `perspective` a mirror moves the colour by half a chroma pixel, and it is
nearly free (0.2 ms of some 25 per frame). Colour is `lutyuv`: `eq` is 0.4 ms cheaper, but it rounds
brightness to hundredths and takes 1 off both chroma planes, which is a green cast.

One file, since picture and sound follow from the same probe and effects.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from math import cos, sin

from runner.contract import SOURCE_RATE_MAX, STANDARD_RATE, Effects, FrameRate
from runner.limits import GLOBAL_OPTIONS, INPUT_OPTIONS

PQ, HLG = "smpte2084", "arib-std-b67"
HDR_TRANSFERS = (PQ, HLG)
UNTAGGED = "unknown"
HD_WIDTH, SD_HEIGHT = 1280, 576  # a smaller picture, in either orientation, is BT.601
AAC_RATE_MAX = 96_000
LFE = 0  # the share of the low-frequency channel in stereo sound, as in ITU-R BS.775


@dataclass(frozen=True, kw_only=True)
class Tags:
    """The meaning of a source's colour values, in FFmpeg's words."""

    aspect: str = "0/1"  # of a pixel; 0 if unknown
    matrix: str = UNTAGGED
    primaries: str = UNTAGGED
    transfer: str = UNTAGGED


BT709 = Tags(matrix="bt709", primaries="bt709", transfer="bt709")
BT601_625 = Tags(matrix="bt470bg", primaries="bt470bg", transfer="smpte170m")
BT601_525 = Tags(matrix="smpte170m", primaries="smpte170m", transfer="smpte170m")
BT2020 = Tags(matrix="bt2020nc", primaries="bt2020", transfer="bt2020-10")


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The measured facts of a video, as shown (after autorotation)."""

    width: int
    height: int
    duration_s: float
    has_audio: bool
    is_interlaced: bool = False
    hdr_transfer: str | None = None  # one of HDR_TRANSFERS
    tags: Tags | None = Tags()  # None if frames cannot be tagged with them
    is_rgb: bool = False
    has_alpha: bool = False
    channels: int = 2  # of the sound; more than two are mixed down
    sample_rate: int = 48000
    layout: str = "stereo"  # of the channels, in FFmpeg's words
    gain_db: float = 0.0  # by which two channels of more are as loud as all of them
    picture_s: float | None = None  # when the picture ends; None: at the end of the video
    sound_s: float | None = None  # when the sound ends, if there is one
    held_s: float = 0.0  # added to the time for which FFmpeg shows the last picture; may be negative
    is_uneven: bool = False  # pictures are not equally long: a variable frame rate
    rate: Fraction | None = None  # pictures per second: the constant rate, or the nearest common one
    picture_codec: str = "h264"  # by FFmpeg's name
    sound_codec: str = "aac"  # meaningless without sound


def picture_s(probe: Probe) -> float:
    """Return when the picture ends."""
    return probe.duration_s if probe.picture_s is None else probe.picture_s


def even_size(probe: Probe) -> tuple[int, int]:
    """Return width and height of an encoded output: H.264 in 4:2:0 needs even ones."""
    return _even(probe.width), _even(probe.height)


def reading(source: str) -> list[str]:
    """Return the arguments that open an untrusted file."""
    return [
        *["-hide_banner", *GLOBAL_OPTIONS, "-nostats", "-progress", "pipe:1", "-filter_threads", "1"],
        *also_reading(source),
    ]


def also_reading(source: str) -> list[str]:
    """Return the arguments of a further input."""
    return [
        *[*INPUT_OPTIONS, "-threads", "1", "-i", f"file:{source}"],
    ]


def whole(probe: Probe) -> list[str]:
    """Return the filters that make whole frames from the fields of an interlaced source."""
    return ["bwdif=mode=send_frame"] if probe.is_interlaced else []


def output_rate(probe: Probe, frame_rate: FrameRate) -> Fraction:
    """Return the frame rate of a variation."""
    if frame_rate == "29.97" or probe.rate is None:
        return STANDARD_RATE
    return min(probe.rate, SOURCE_RATE_MAX)


def output_frames(effects: Effects, probe: Probe, frame_rate: FrameRate) -> int:
    """Return the number of frames of a variation; 0 if its picture is shorter than half a frame."""
    return round(picture_s(probe) / effects.speed * output_rate(probe, frame_rate))


def timed(effects: Effects, probe: Probe, frame_rate: FrameRate = "29.97") -> list[str]:
    """Return the filters that set speed and frame rate. They come early: dropped frames are not drawn.

    A picture that starts late is shown from the start, so sound and picture stay together. The last one stays
    as long as in the source, and at least for one frame.
    """
    rate, frames = output_rate(probe, frame_rate), output_frames(effects, probe, frame_rate)
    is_tiny = frames == 0
    return [
        f"setpts=PTS/{number(effects.speed)}",
        f"fps={rate.numerator}/{rate.denominator}:start_time=0{':eof_action=pass' if is_tiny else ''}",
        *([f"tpad=stop_mode=clone:stop=-1,trim=end_frame={max(1, frames)}"] if probe.held_s else []),
    ]


def paced_sound(effects: Effects, probe: Probe) -> str:
    """Return the filters of the sound. Gaps become silence first, since `atempo` would remove them.

    `atempo` drops the first half of its window, which would put the sound 20 ms or more too early. As much
    silence is put before it, and as much is cut from the end, where `atempo` adds it.
    """
    rate = probe.sample_rate
    while rate > AAC_RATE_MAX:
        rate //= 2
    paced = [f"adelay=delays={_atempo_window(rate) // 2}S:all=1", f"atempo={number(effects.speed)}"]
    if probe.sound_s is not None:
        paced.append(f"atrim=end={number(probe.sound_s / effects.speed)}")
    return ",".join(
        [
            *[*_mixed_down(probe), f"aresample={rate}:async=1:first_pts=0"],
            *(paced if effects.speed != 1 else []),
        ]
    )


def _atempo_window(rate: int) -> int:
    """Return the samples in a window of FFmpeg's `atempo`: the first power of two above 1/24 of a second."""
    return 1 << max(1, (rate // 24 - 1).bit_length())


def plain_sound(probe: Probe) -> list[str]:
    """Return the filters of the sound at an unchanged speed."""
    return _mixed_down(probe)


def _mixed_down(probe: Probe) -> list[str]:
    """Return the filters that mix more than two channels to two, equally loud. A limiter cuts the peaks."""
    if probe.channels <= 2:
        return []
    gain = [f"volume={number(probe.gain_db)}dB"] if probe.gain_db else []
    return [*two_of(probe), *gain, "alimiter=limit=0.89:level=0:latency=1"]


def has_named_channels(probe: Probe) -> bool:
    """Return whether the positions of the channels are known."""
    return not re.fullmatch(r"\d+ channels", probe.layout)


def two_of(probe: Probe) -> list[str]:
    """Return the filters that mix channels to two by ITU-R BS.775, or keep the first two of unnamed ones.

    Side data is dropped: AC-3 names other shares there, by which the middle would be too faint.
    """
    mixed = f"aresample=isf=fltp:osf=fltp:ochl=stereo:lfe_mix_level={LFE}:rematrix_maxval=100"
    if not has_named_channels(probe):
        mixed = "pan=stereo|c0=c0|c1=c1"
    return ["asidedata=mode=delete", "aformat=sample_fmts=fltp", mixed]


def standard(probe: Probe) -> list[str]:
    """Return the filters that make frames 8 bit, 4:2:0, video range, even in size, SDR, opaque and tagged."""
    width, height = even_size(probe)
    scaled = [str(width), str(height)] if (width, height) != (probe.width, probe.height) else []
    if probe.is_rgb and not probe.hdr_transfer:
        scaled.append(f"out_color_matrix={_shown(probe).matrix}")
    return [
        *(["premultiply=inplace=1"] if probe.has_alpha else []),  # over black
        *(_tone_mapped(probe.hdr_transfer) if probe.hdr_transfer else []),
        *([f"scale={':'.join(scaled)}"] if scaled else []),
        "format=pix_fmts=yuv420p:color_ranges=tv",
        "sidedata=mode=delete",
        *(tagged(probe) if probe.tags else []),
    ]


def tagged(probe: Probe) -> list[str]:
    """Return the filters that tag standard frames: like the source, or as players guess from its size."""
    assert probe.tags, "frames without these tags must not be sent raw"
    width, height = even_size(probe)
    aspect = Fraction(probe.tags.aspect) * Fraction(height * probe.width, width * probe.height)
    tags = _shown(probe)
    colour = f"color_primaries={tags.primaries}:color_trc={tags.transfer}:colorspace={tags.matrix}"
    return [
        f"setparams=range=tv:{colour}",
        f"setsar=sar={aspect.numerator}/{aspect.denominator}:max=10000000",
    ]


def _shown(probe: Probe) -> Tags:
    """Return the tags of standard frames, none of them unknown."""
    if probe.hdr_transfer:
        return BT709
    tags = probe.tags or Tags()
    usual = _usual(probe, tags)
    is_open = tags.matrix == UNTAGGED or probe.is_rgb
    return Tags(
        matrix=usual.matrix if is_open else tags.matrix,
        primaries=usual.primaries if tags.primaries == UNTAGGED else tags.primaries,
        transfer=usual.transfer if tags.transfer == UNTAGGED else tags.transfer,
    )


def _usual(probe: Probe, tags: Tags) -> Tags:
    """Return the standard that fits the known tags, or, without any, the size of the frame."""
    for standard in (BT709, BT601_625, BT601_525, BT2020):
        if tags.matrix == standard.matrix:
            return standard
    short, long = sorted((probe.width, probe.height))
    if long >= HD_WIDTH or short > SD_HEIGHT:
        return BT709
    return BT601_625 if short in (SD_HEIGHT, SD_HEIGHT // 2) else BT601_525


def drawn(effects: Effects, probe: Probe) -> list[str]:
    """Return the filters that make one variation from standard frames."""
    width, height = even_size(probe)
    return [
        _perspective(effects, width=width, height=height),
        *(["hflip"] if effects.mirror else []),
        _colour(effects),
        *([f"noise=alls={effects.noise}:allf=t"] if effects.noise else []),
    ]


def _tone_mapped(transfer: str) -> list[str]:
    """Return the filters from HDR to SDR. They assume BT.2020, as all HDR footage is.

    HLG is made light exactly (`agamma`): the usual approximation takes each colour by itself, not by the
    light of all three as BT.2100 says, and so makes colours too strong. That costs 38 ms per 1080p frame.
    """
    exactly = ":agamma=false" if transfer == HLG else ""
    return [
        f"zscale=tin={transfer}:pin=bt2020:min=bt2020nc:t=linear:npl=100{exactly}",
        "format=gbrpf32le",
        "zscale=p=bt709",
        "tonemap=hable:desat=0",
        "zscale=t=bt709:m=bt709:r=tv",
    ]


def _colour(effects: Effects) -> str:
    """Return the filter of contrast and brightness (around middle grey) and saturation, rounded."""
    light = f"(val-128)*{number(effects.contrast)}+128+255*{number(effects.brightness)}"
    chroma = f"round((val-128)*{number(effects.saturation)}+128)"
    return f"lutyuv=y=round({light}):u={chroma}:v={chroma}"


def _perspective(effects: Effects, *, width: int, height: int) -> str:
    corners = [(0, 0), (width, 0), (0, height), (width, height)]
    points = [_origin(effects, x, y, width=width, height=height) for x, y in corners]
    named = [f"x{n}={number(u)}:y{n}={number(v)}" for n, (u, v) in enumerate(points)]
    return f"perspective={':'.join(named)}:interpolation=linear"


def _origin(effects: Effects, x: float, y: float, *, width: int, height: int) -> tuple[float, float]:
    """Return the point of the source that is shown at a point of the output, before the mirror.

    `perspective` repeats the pixels of the edge for points outside, so no corner turns black.
    """
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    dx = middle_x + (x - middle_x) / effects.zoom - width / 2
    dy = middle_y + (y - middle_y) / effects.zoom - height / 2
    turn_cos, turn_sin = cos(effects.rotation_rad), sin(effects.rotation_rad)
    u = turn_cos * dx + turn_sin * dy + width / 2
    v = -turn_sin * dx + turn_cos * dy + height / 2
    return (
        u + effects.shift_x * _room(width - 1, height - 1, effects),
        v + effects.shift_y * _room(height - 1, width - 1, effects),
    )


def _room(side: int, other: int, effects: Effects) -> float:
    """Return how far the picture can be moved along a side until its edge shows: 0 without zoom."""
    needed = side * cos(effects.rotation_rad) + other * abs(sin(effects.rotation_rad))
    return max(0.0, side / 2 - needed / (2 * effects.zoom))


def _even(length: int) -> int:
    return max(2, length - length % 2)


def number(value: float) -> str:
    """Return a decimal that FFmpeg's expressions read: never an exponent."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
