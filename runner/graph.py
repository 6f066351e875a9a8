"""From the effects of one output to the filters that draw it.

Pure: must never touch a file, a process or a clock. The picture equals the plain chain `rotate`, crop +
`scale`, `hflip` (a test compares them); rotation and zoom are one `perspective`, since `rotate` alone costs
twice as much. `hflip` stays: in `perspective` a mirror moves the colour by half a chroma pixel, and it is
nearly free (0.2 ms of some 25 per frame). Colour is `lutyuv`: `eq` is 0.4 ms cheaper, but it rounds
brightness to hundredths and takes 1 off both chroma planes, which is a green cast.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import cos, sin

from runner.contract import Effects
from runner.limits import GLOBAL_OPTIONS, INPUT_OPTIONS

FRAME_RATE = "30000/1001"
HDR_TRANSFERS = ("smpte2084", "arib-std-b67")  # PQ and HLG
UNTAGGED = "unknown"


@dataclass(frozen=True, kw_only=True)
class Tags:
    """How a source's numbers are meant, in FFmpeg's words."""

    aspect: str = "0/1"  # of a pixel; 0 where nothing is said
    matrix: str = UNTAGGED
    primaries: str = UNTAGGED
    transfer: str = UNTAGGED


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a video really is, as shown (after autorotation)."""

    width: int
    height: int
    duration_s: float
    has_audio: bool
    is_interlaced: bool = False
    hdr_transfer: str | None = None  # one of HDR_TRANSFERS
    tags: Tags | None = Tags()  # None if they are none that raw frames can be given anew


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
    """Return the filters that make whole frames of an interlaced source's fields."""
    return ["bwdif=mode=send_frame"] if probe.is_interlaced else []


def timed(effects: Effects) -> list[str]:
    """Return the filters that set the pace. They come early: frames to be dropped are not drawn.

    A picture that starts late is shown from the start, so that sound and picture stay together.
    """
    return [f"setpts=PTS/{number(effects.speed)}", f"fps={FRAME_RATE}:start_time=0"]


def paced_sound(effects: Effects) -> str:
    """Return the sound's filters. Gaps become silence first, since `atempo` would close them."""
    return f"aresample=async=1:first_pts=0,atempo={number(effects.speed)}"


def standard(probe: Probe) -> list[str]:
    """Return the filters that make whole frames 8 bit, 4:2:0, video range, even, and SDR."""
    width, height = even_size(probe)
    return [
        *(_tone_mapped(probe.hdr_transfer) if probe.hdr_transfer else []),
        *([f"scale={width}:{height}"] if (width, height) != (probe.width, probe.height) else []),
        "format=pix_fmts=yuv420p:color_ranges=tv",
    ]


def tagged(probe: Probe) -> list[str]:
    """Return the filters that give frames the tags which `standard` would have left them."""
    assert probe.tags, "frames without these tags are not to be sent raw"
    width, height = even_size(probe)
    aspect = Fraction(probe.tags.aspect) * Fraction(height * probe.width, width * probe.height)
    bt709 = Tags(matrix="bt709", primaries="bt709", transfer="bt709")
    tags = bt709 if probe.hdr_transfer else probe.tags
    colour = f"color_primaries={tags.primaries}:color_trc={tags.transfer}:colorspace={tags.matrix}"
    return [
        f"setparams=range=tv:{colour}",
        f"setsar=sar={aspect.numerator}/{aspect.denominator}:max=10000000",
    ]


def drawn(effects: Effects, probe: Probe) -> list[str]:
    """Return the filters that make one variation of standard frames."""
    width, height = even_size(probe)
    return [
        _perspective(effects, width=width, height=height),
        *(["hflip"] if effects.mirror else []),
        _colour(effects),
        *([f"noise=alls={effects.noise}:allf=t"] if effects.noise else []),
    ]


def _tone_mapped(transfer: str) -> list[str]:
    """Return the filters from HDR to SDR. They assume BT.2020, as all HDR footage is."""
    return [
        f"zscale=tin={transfer}:pin=bt2020:min=bt2020nc:t=linear:npl=100",
        "format=gbrpf32le",
        "zscale=p=bt709",
        "tonemap=hable:desat=0",
        "zscale=t=bt709:m=bt709:r=tv",
    ]


def _colour(effects: Effects) -> str:
    """Return contrast and brightness around middle grey, saturation around no colour, rounded."""
    light = f"(val-128)*{number(effects.contrast)}+128+255*{number(effects.brightness)}"
    chroma = f"round((val-128)*{number(effects.saturation)}+128)"
    return f"lutyuv=y=round({light}):u={chroma}:v={chroma}"


def _perspective(effects: Effects, *, width: int, height: int) -> str:
    corners = [(0, 0), (width, 0), (0, height), (width, height)]
    points = [_origin(effects, x, y, width=width, height=height) for x, y in corners]
    named = [f"x{n}={number(u)}:y{n}={number(v)}" for n, (u, v) in enumerate(points)]
    return f"perspective={':'.join(named)}:interpolation=linear"


def _origin(effects: Effects, x: float, y: float, *, width: int, height: int) -> tuple[float, float]:
    """Return where in the source the output's point lies, before the mirror: undo zoom, then rotation.

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
    """Return how far the picture can be moved along a side before its edge shows: 0 without zoom."""
    needed = side * cos(effects.rotation_rad) + other * abs(sin(effects.rotation_rad))
    return max(0.0, side / 2 - needed / (2 * effects.zoom))


def _even(length: int) -> int:
    return max(2, length - length % 2)


def number(value: float) -> str:
    """Return a decimal that FFmpeg's expressions read: never an exponent."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
