"""The FFmpeg arguments of everything that is made: variations, presets and posters.

Pure: must never touch a file, a process or a clock, and must not depend on the machine. The same source,
effects and image give the same arguments.

One file, since it is the one place that knows FFmpeg's options; its filters are in `graph`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from runner.contract import (
    AUDIO_KBPS,
    BUFFER_S,
    CRF,
    SOURCE_RATE_MAX,
    STANDARD,
    Effects,
    FrameRate,
    Preset,
    Quality,
    Style,
    cap_kbps,
)
from runner.graph import (
    Probe,
    also_reading,
    drawn,
    even_size,
    output_frames,
    output_rate,
    paced_sound,
    plain_sound,
    reading,
    standard,
    tagged,
    timed,
    whole,
)
from runner.limits import GLOBAL_OPTIONS
from runner.media import Container, copied_into
from runner.recipe import OTHERS_MAX, is_drawable, recipe_of

SEGMENT_S = 4
POSTER_SIDE_MAX = 640  # pixels
COMPARED = "compared"  # as in effects.c: begins the arguments that change no frame
COMPARED_FRAMES = 8  # at least so many, unless the video is shorter
PACKET_SUM = "murmur3"  # as FFmpeg names it: 128 bits, against damage

# Less than half of preset medium's CPU at the same VMAF and size (docs/performance.md): partitions,
# references, the finest search and half of the look-ahead go; mbtree and trellis stay.
X264 = "partitions=i8x8,i4x4:ref=1:me=dia:weightp=1:rc-lookahead=20"
SMOOTH = "aq-mode=2:aq-strength=0.4"
# Grain is predicted from the last frame alone, without smoothing; the mode of quantisation keeps the size.
GRAIN = "bframes=0:deblock=-1,-1:aq-mode=1:aq-strength=0.8"
GRAIN_FROM = 3  # of the effect `noise`
FINE, COARSE = "subme=4", "subme=2"
UNEVEN = 8.0  # quantiser steps between the finest and the coarsest frames, without a twentieth at each end
SMALL_PIXELS = 1280 * 720
SHARED_RATE_LARGE = 0.89  # of the first one's bit rate: others of larger frames with grain look better


@dataclass(frozen=True, kw_only=True)
class Lead:
    """What the others of a group follow of their first output."""

    kbps: int  # of the picture; above the cap if the clip is short, since the buffer is full at the start
    is_uneven: bool  # whether the cap made some of its frames much coarser than others


@dataclass(frozen=True)
class Other:
    """One of the outputs that use the analysis of another output."""

    effects: Effects
    path: str


@dataclass(frozen=True, kw_only=True)
class Target:
    """The files of an output that the kernel draws: the output itself and the reports about it."""

    effects: Effects
    path: str
    packets: str  # receives the sum of each packet as it was encoded
    poster: str | None = None


def variation_args(
    effects: Effects,
    probe: Probe,
    *,
    source: str,
    output: str,
    stats: str | None = None,
    style: Style = STANDARD,
) -> list[str]:
    """Return the arguments of one output alone. It has one thread, since one process runs per core.

    With `stats` its analysis is written there, and to `stats` + ".mbtree", for `others_args`.
    """
    return [
        *["-loglevel", "error", *_reading(source, probe)],
        *_picture(effects, probe, style),
        *(_sound(effects, probe) if probe.has_audio else []),
        *_first_picture(effects, probe, style, stats),
        *NAMELESS,
        *mp4(output),
    ]


def others_args(
    others: Sequence[Other],
    probe: Probe,
    *,
    source: str,
    first: str,
    stats: Mapping[bool, str],
    lead: Lead,
    style: Style = STANDARD,
) -> list[str]:
    """Return the arguments that make several outputs of equal speed and noise from one decoding.

    The bits of the picture are distributed by the analysis of the `first` output, the `lead`; `stats` has it
    for outputs that are mirrored (True) and that are not. The sound of the `first` is copied.
    """
    sound = ["-map", "1:a:0", "-c:a", "copy"] if probe.has_audio else []
    coded = {
        mirror: [*sound, *_led_picture(others[0].effects, probe, style, stats=file, lead=lead)]
        for mirror, file in stats.items()
    }
    ends = [
        [*_picture(each.effects, probe, style), *coded[each.effects.mirror], *NAMELESS, *mp4(each.path)]
        for each in others
    ]
    return [
        *["-loglevel", "error", *reading(source), *also_reading(first)],
        *(arg for end in ends for arg in end),
    ]


# --- by the kernel: one FFmpeg decodes, the kernel draws, another FFmpeg codes; `runner.jail.Line` joins them


def decoding_args(effects: Effects, probe: Probe, *, source: str, style: Style = STANDARD) -> list[str]:
    """Return the arguments that write standard frames, at the speed of these effects, raw to descriptor 3."""
    filters = [*whole(probe), *timed(effects, probe, style.frame_rate), *standard(probe)]
    return [
        *["-loglevel", "error", "-hide_banner", *GLOBAL_OPTIONS, "-nostats", "-filter_threads", "1"],
        *[*also_reading(source), "-map", "0:V:0", "-vf", ",".join(filters)],
        *["-c:v", "rawvideo", "-f", "rawvideo", "pipe:3"],
    ]


def drawing_args(each: Sequence[Effects], probe: Probe) -> list[str]:
    """Return the kernel's arguments: it reads descriptor 3 and writes these effects to 4 and on."""
    return [*map(str, even_size(probe)), *map(recipe_of, each)]


def compared_args(
    each: Sequence[Effects], variations: Sequence[Effects], probe: Probe, frame_rate: FrameRate
) -> list[str]:
    """Return the kernel's further arguments: it compares the drawn effects with all others of the source.

    The frames depend on the speed alone, so whatever is drawn beside an output, its numbers are the same.
    """
    others = list(variations)
    for effects in each:
        if effects in others:
            others.remove(effects)
    width, height = even_size(probe)
    comparable = [effects for effects in others if is_drawable(effects, width=width, height=height)]
    step = max(1, output_frames(each[0], probe, frame_rate) // COMPARED_FRAMES)
    return [COMPARED, str(step), *map(recipe_of, comparable[:OTHERS_MAX])]


def first_coding_args(
    target: Target, probe: Probe, *, source: str, stats: str | None = None, style: Style = STANDARD
) -> list[str]:
    """Return the arguments that encode the drawn frames of one output or a first one, as `variation_args`."""
    sound = _sound(target.effects, probe) if probe.has_audio else []
    coded = [*sound, *_first_picture(target.effects, probe, style, stats)]
    return [
        *[*_coding(1, probe, style), *(["-vn", *also_reading(source)] if sound else [])],
        *_coded(0, target, probe, style, coded),
    ]


def others_coding_args(
    targets: Sequence[Target],
    probe: Probe,
    *,
    first: str,
    stats: Mapping[bool, str],
    lead: Lead,
    style: Style = STANDARD,
) -> list[str]:
    """Return the arguments that encode the drawn frames of several outputs, as `others_args` does."""
    sound = ["-map", f"{len(targets)}:a:0", "-c:a", "copy"] if probe.has_audio else []
    coded = {
        mirror: [*sound, *_led_picture(targets[0].effects, probe, style, stats=file, lead=lead)]
        for mirror, file in stats.items()
    }
    return [
        *[*_coding(len(targets), probe, style), *(["-vn", *also_reading(first)] if sound else [])],
        *(
            arg
            for n, target in enumerate(targets)
            for arg in _coded(n, target, probe, style, coded[target.effects.mirror])
        ),
    ]


def _coding(count: int, probe: Probe, style: Style) -> list[str]:
    """Return the arguments that open this number of pipes with raw frames."""
    size = "x".join(map(str, even_size(probe)))
    rate = str(output_rate(probe, style.frame_rate))
    raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-video_size", size, "-framerate", rate]
    return [
        *["-loglevel", "error", "-hide_banner", *GLOBAL_OPTIONS, "-nostats", "-progress", "pipe:1"],
        *["-filter_threads", "1", *(arg for n in range(count) for arg in [*raw, "-i", f"pipe:{4 + n}"])],
    ]


def _coded(n: int, target: Target, probe: Probe, style: Style, coded: Sequence[str]) -> list[str]:
    """Return the arguments of one output, of its packets' sums, and of its poster."""
    middle = output_frames(target.effects, probe, style.frame_rate) // 2
    poster = [] if target.poster is None else _poster_of(n, middle, probe, target.poster)
    picture = ["-map", f"{n}:v", "-vf", ",".join(tagged(probe))]
    return [*picture, *coded, *NAMELESS, *_mp4_and_packets(target.path, target.packets), *poster]


def _mp4_and_packets(output: str, packets: str) -> list[str]:
    """Return the arguments that write the bytes of `mp4`, and the sum of each packet into another file."""
    playable = f"[f=mp4:movflags=+faststart:empty_hdlr_name=1:fflags=+bitexact]file:{output}"
    summed = f"[f=framehash:hash={PACKET_SUM}:fflags=+bitexact]file:{packets}"
    headed = ["-flags:v", "+bitexact+global_header", "-flags:a", "+bitexact+global_header"]
    return [*headed, "-f", "tee", f"{playable}|{summed}"]


def _poster_of(n: int, frame: int, probe: Probe, path: str) -> list[str]:
    """Return the arguments of a JPEG of this frame, or of the first one if the picture ends before it."""
    chosen = rf"select='eq(n\,0)+eq(n\,{frame})'"
    return [
        *[
            "-map",
            f"{n}:v",
            "-frames:v",
            "2",
            "-fps_mode",
            "passthrough",
            "-vf",
            ",".join([*tagged(probe), chosen, _poster_size()]),
        ],
        *_jpeg(path),
    ]


def packets_args(path: str) -> list[str]:
    """Return the output arguments that sum up the packets of a finished file, as in `Target.packets`."""
    streams = ["-map", "0:V:0", "-map", "0:a:0?", "-c", "copy", *WITHOUT_X264S_NAME]
    return [*streams, "-f", "framehash", "-hash", PACKET_SUM, f"file:{path}"]


def lead_of(stats: Iterable[str], duration_s: float) -> Lead:
    """Return what others follow of a first output, by the lines of its analysis."""
    bits, quantisers = 0, list[float]()
    for line in stats:
        bits += sum(map(int, re.findall(r" (?:tex|mv|misc):([0-9]{1,12})", line)))
        quantisers += map(float, re.findall(r" q:([0-9]{1,3}\.[0-9]{1,6})", line))
    shown_s = max(duration_s, float(1 / SOURCE_RATE_MAX))  # a picture without a length is shown for one frame
    quantisers = sorted(quantisers) or [0.0]
    few = len(quantisers) // 20
    is_uneven = quantisers[-1 - few] - quantisers[few] >= UNEVEN
    return Lead(kbps=max(1, round(bits / shown_s / 1000)), is_uneven=is_uneven)


def _picture(effects: Effects, probe: Probe, style: Style) -> list[str]:
    filters = [
        *[*whole(probe), *timed(effects, probe, style.frame_rate)],
        *[*standard(probe), *drawn(effects, probe)],
    ]
    return ["-map", "0:V:0", "-vf", ",".join(filters)]


def _first_picture(effects: Effects, probe: Probe, style: Style, stats: str | None) -> list[str]:
    """Return the encoder of a picture by its quality; with `stats` it writes its analysis there."""
    analysis = f":pass=1:stats={stats}" if stats else ""
    coded = _x264(
        f"{_params(effects, FINE if effects.noise else COARSE)}{analysis}",
        cap_kbps=_cap_kbps(probe, style.quality),
    )
    return [*coded, "-crf", str(CRF[style.quality])]


def _led_picture(effects: Effects, probe: Probe, style: Style, *, stats: str, lead: Lead) -> list[str]:
    """Return the encoder of a picture that follows the analysis of a first one.

    The first one obeys the cap. Others have its bit rate and one quantiser for all frames, so they obey it
    too where that of the first one was even. Where it was not they are held to the cap, which costs a fifth
    of an encoding.
    """
    width, height = even_size(probe)
    is_large = effects.noise >= GRAIN_FROM and width * height > SMALL_PIXELS
    kbps = max(1, round(lead.kbps * SHARED_RATE_LARGE)) if is_large else lead.kbps
    params = f"{_params(effects, COARSE)}:pass=2:stats={stats}"
    cap = max(kbps, _cap_kbps(probe, style.quality)) if lead.is_uneven else None
    return [*_x264(params, cap_kbps=cap), "-b:v", f"{kbps}k"]


def _params(effects: Effects, search: str) -> str:
    return f"{X264}:{GRAIN if effects.noise >= GRAIN_FROM else SMOOTH}:{search}"


def _reading(source: str, probe: Probe) -> list[str]:
    """Return the arguments that open a source, as input 1 for its sound.

    Each stream is read to its own end. In a truncated file, FFmpeg stops reading an input at the first
    missing packet of any stream.
    """
    return [*reading(source), *(also_reading(source) if probe.has_audio else [])]


def _sound(effects: Effects, probe: Probe) -> list[str]:
    return ["-map", "1:a:0", "-af", paced_sound(effects, probe), *AAC, "-threads:a", "1"]


def _cap_kbps(probe: Probe, quality: Quality) -> int:
    width, height = even_size(probe)
    return cap_kbps(width * height, quality)


def _x264(params: str, *, cap_kbps: int | None) -> list[str]:
    buffer = round((cap_kbps or 0) * BUFFER_S)
    cap = ["-maxrate", f"{cap_kbps}k", "-bufsize", f"{buffer}k"] if cap_kbps else []
    return ["-c:v", "libx264", "-preset", "medium", "-x264-params", params, "-threads:v", "1", *cap]


def preset_args(preset: Preset, probe: Probe, *, source: str, output: str, playlist: str) -> list[str]:
    """Return the arguments of a preset's output; only `hls` writes the `playlist`."""
    begin = ["-loglevel", "error", *_reading(source, probe), "-map", "0:V:0"]
    sound = ["-map", "1:a:0"] if probe.has_audio else []
    if preset is Preset.COPY:
        container, is_sound_copied = _copied(probe)
        coded = ["-c", "copy", *([] if is_sound_copied else LOSSLESS)]
        return [*begin, *sound, *coded, *WITHOUT_METADATA, *mp4(output, container)]
    steady = timed(Effects(), probe, "source") if probe.is_uneven else []  # an MP4 of x264's loses the end
    picture = ["-vf", ",".join([*whole(probe), *steady, *standard(probe)])]
    mixed = ["-af", ",".join(plain_sound(probe))] if sound and plain_sound(probe) else []
    coded = ["-c:v", "libx264", "-preset", "fast", "-crf", "23", *(AAC if sound else []), *NAMELESS]
    ending = mp4(output)
    if preset is Preset.HLS:
        ending = _segments(output, playlist)
    return [*begin, *picture, *sound, *mixed, *coded, *ending]


def poster_args(duration_s: float, *, source: str, output: str) -> list[str]:
    """Return the arguments of a JPEG of the middle frame, or of the next frame that other frames refer to.

    Frames that no other frame refers to are not decoded: that takes a third of the time.
    """
    return [
        *["-loglevel", "error", "-skip_frame", "noref", "-ss", f"{duration_s / 2:.3f}", *reading(source)],
        *["-map", "0:V:0", "-frames:v", "1", "-vf", _poster_size(), *_jpeg(output)],
    ]


def _poster_size() -> str:
    fit = f"w='min({POSTER_SIDE_MAX},iw)':h='min({POSTER_SIDE_MAX},ih)'"
    return f"scale={fit}:force_original_aspect_ratio=decrease,format=yuvj420p"


def _jpeg(output: str) -> list[str]:
    return [
        *[*WITHOUT_METADATA, "-flags:v", "+bitexact"],
        *["-c:v", "mjpeg", "-q:v", "4", "-threads:v", "1", "-f", "image2", "-update", "1", f"file:{output}"],
    ]


def _segments(output: str, playlist: str) -> list[str]:
    """Return the arguments that write one fragmented MP4 and the playlist of its byte ranges."""
    return [
        *["-force_key_frames", f"expr:gte(t,n_forced*{SEGMENT_S})"],
        *["-f", "hls", "-hls_time", str(SEGMENT_S), "-hls_playlist_type", "vod"],
        *["-hls_segment_type", "fmp4", "-hls_flags", "single_file+independent_segments"],
        *["-hls_segment_filename", output, playlist],
    ]


def mp4(output: str, container: Container = "mp4") -> list[str]:
    """Return the arguments that write an MP4 (or MOV) which plays while it loads."""
    return ["-empty_hdlr_name", "1", "-movflags", "+faststart", "-f", container, f"file:{output}"]


def container_of(preset: Preset | None, probe: Probe) -> Container:
    """Return what an output is: an MP4, or for a copy of what no MP4 can hold a MOV."""
    return _copied(probe)[0] if preset is Preset.COPY else "mp4"


def _copied(probe: Probe) -> tuple[Container, bool]:
    return copied_into(probe.picture_codec, probe.sound_codec if probe.has_audio else None)


LOSSLESS = ["-c:a", "alac"]
AAC = ["-c:a", "aac", "-b:a", f"{AUDIO_KBPS}k"]
WITHOUT_METADATA = [
    *["-map_metadata", "-1", "-map_chapters", "-1", "-metadata:s:v:0", "encoder="],
    *["-fflags", "+bitexact"],
]
WITHOUT_X264S_NAME = ["-bsf:v", "filter_units=remove_types=6"]  # an SEI, with its settings too
NAMELESS = [
    *WITHOUT_METADATA,
    *["-flags:v", "+bitexact", "-flags:a", "+bitexact"],
    *WITHOUT_X264S_NAME,
]
