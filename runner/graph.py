"""From the effects of one output to the FFmpeg arguments that render it.

Pure: must never touch a file, a process or a clock. The picture equals the plain chain `rotate`, crop +
`scale`, `hflip` (a test compares them); rotation and zoom are one `perspective`, since `rotate` alone costs
twice as much. `hflip` stays: in `perspective` a mirror moves the colour by half a chroma pixel, and it is
nearly free (0.2 ms of some 25 per frame).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, sin

from runner.contract import Effects
from runner.intake import GLOBAL_OPTIONS, INPUT_OPTIONS

FRAME_RATE = "30000/1001"

# About 2.4 times cheaper than preset medium at the same VMAF and size, measured on ad-like 1080p footage:
# partitions, references and sub-pel search go, the full look-ahead, mbtree and trellis stay.
X264 = "partitions=i8x8,i4x4:ref=1:me=dia:weightp=1:aq-mode=2:subme=2:aq-strength=0.8"


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a video really is, as shown (after autorotation)."""

    width: int
    height: int
    duration_s: float
    has_audio: bool


def expected(effects: Effects, probe: Probe) -> Probe:
    """Return what the output of these effects has to look like: even dimensions, changed duration."""
    return Probe(
        width=_even(probe.width),
        height=_even(probe.height),
        duration_s=probe.duration_s / effects.speed,
        has_audio=probe.has_audio,
    )


def reading(source: str) -> list[str]:
    """Return the arguments that open an untrusted file."""
    return [
        *["-hide_banner", *GLOBAL_OPTIONS, "-nostats", "-progress", "pipe:1", "-filter_threads", "1"],
        *[*INPUT_OPTIONS, "-threads", "1", "-i", f"file:{source}"],
    ]


def variation_args(effects: Effects, probe: Probe, *, source: str, output: str) -> list[str]:
    """Return the arguments of one output, without the program. One thread: a process per core runs."""
    return [
        *["-loglevel", "error", *reading(source)],
        *["-map", "0:V:0", "-vf", video_filters(effects, probe)],
        *(["-map", "0:a:0", "-af", f"atempo={_number(effects.speed)}"] if probe.has_audio else []),
        *["-c:v", "libx264", "-preset", "medium", "-x264-params", X264, "-threads:v", "1"],
        *["-crf", "22.5", "-maxrate", "2500k", "-bufsize", "4000k"],
        *(["-c:a", "aac", "-b:a", "128k", "-threads:a", "1"] if probe.has_audio else []),
        *_WITHOUT_METADATA,
        *["-movflags", "+faststart", "-f", "mp4", f"file:{output}"],
    ]


def video_filters(effects: Effects, probe: Probe) -> str:
    """Return the filter chain. The frame rate comes first, so that frames to be dropped are not drawn."""
    width, height = _even(probe.width), _even(probe.height)
    scale = [f"scale={width}:{height}"] if (width, height) != (probe.width, probe.height) else []
    noise = [f"noise=alls={effects.noise}:allf=t"] if effects.noise else []
    steps = [
        f"setpts=PTS/{_number(effects.speed)}",
        f"fps={FRAME_RATE}",
        *scale,
        "format=pix_fmts=yuv420p:color_ranges=tv",
        _perspective(effects, width=width, height=height),
        *(["hflip"] if effects.mirror else []),
        _eq(effects),
        *noise,
    ]
    return ",".join(steps)


def _eq(effects: Effects) -> str:
    brightness, contrast = _number(effects.brightness), _number(effects.contrast)
    return f"eq=brightness={brightness}:contrast={contrast}:saturation={_number(effects.saturation)}"


def _perspective(effects: Effects, *, width: int, height: int) -> str:
    corners = [(0, 0), (width, 0), (0, height), (width, height)]
    points = [_origin(effects, x, y, width=width, height=height) for x, y in corners]
    named = [f"x{n}={_number(u)}:y{n}={_number(v)}" for n, (u, v) in enumerate(points)]
    return f"perspective={':'.join(named)}:interpolation=linear"


def _origin(effects: Effects, x: float, y: float, *, width: int, height: int) -> tuple[float, float]:
    """Return where in the source the output's point lies, before the mirror: undo zoom, then rotation.

    `perspective` repeats the pixels of the edge for points outside, so no corner turns black.
    """
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    dx = middle_x + (x - middle_x) / effects.zoom - width / 2
    dy = middle_y + (y - middle_y) / effects.zoom - height / 2
    turn_cos, turn_sin = cos(effects.rotation_rad), sin(effects.rotation_rad)
    return turn_cos * dx + turn_sin * dy + width / 2, -turn_sin * dx + turn_cos * dy + height / 2


_WITHOUT_METADATA = [
    *["-map_metadata", "-1", "-map_chapters", "-1", "-metadata:s:v:0", "encoder=", "-empty_hdlr_name", "1"],
    *["-fflags", "+bitexact", "-flags:v", "+bitexact", "-flags:a", "+bitexact"],
    *["-bsf:v", "filter_units=remove_types=6"],  # the SEI in which x264 writes its name and settings
]


def _even(length: int) -> int:
    return max(2, length - length % 2)


def _number(value: float) -> str:
    """Return a decimal that FFmpeg's expressions read: never an exponent."""
    return f"{value:.6f}".rstrip("0").rstrip(".")
