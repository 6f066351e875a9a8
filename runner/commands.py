"""The FFmpeg arguments of everything that is made: variations, presets and posters.

Pure: must never touch a file, a process or a clock, nor depend on the machine: the same source, effects and
image give the same arguments.
"""

from __future__ import annotations

from runner.contract import Effects, Preset
from runner.graph import Probe, drawn, paced_sound, reading, standard, timed, whole

SEGMENT_S = 4
POSTER_SIDE_MAX = 640  # pixels

# About 2.4 times cheaper than preset medium at the same VMAF and size, measured on ad-like 1080p footage:
# partitions, references and sub-pel search go, the full look-ahead, mbtree and trellis stay.
X264 = "partitions=i8x8,i4x4:ref=1:me=dia:weightp=1:aq-mode=2:subme=2:aq-strength=0.8"


def variation_args(effects: Effects, probe: Probe, *, source: str, output: str) -> list[str]:
    """Return the arguments of one output by itself. One thread: a process per core runs."""
    filters = [*whole(probe), *timed(effects), *standard(probe), *drawn(effects, probe)]
    return [
        *["-loglevel", "error", *reading(source)],
        *["-map", "0:V:0", "-vf", ",".join(filters)],
        *(["-map", "0:a:0", "-af", paced_sound(effects)] if probe.has_audio else []),
        *["-c:v", "libx264", "-preset", "medium", "-x264-params", X264, "-threads:v", "1"],
        *["-crf", "22.5", "-maxrate", "2500k", "-bufsize", "4000k"],
        *(AAC if probe.has_audio else []),
        *["-threads:a", "1"],
        *NAMELESS,
        *mp4(output),
    ]


def preset_args(preset: Preset, probe: Probe, *, source: str, output: str, playlist: str) -> list[str]:
    """Return the arguments of a preset's output; only `hls` writes the `playlist`."""
    begin = ["-loglevel", "error", *reading(source), "-map", "0:V:0"]
    sound = ["-map", "0:a:0"] if probe.has_audio else []
    if preset is Preset.COPY:
        return [*begin, *sound, "-c", "copy", *WITHOUT_METADATA, *mp4(output)]
    picture = ["-vf", ",".join([*whole(probe), *standard(probe)])]
    coded = ["-c:v", "libx264", "-preset", "fast", "-crf", "23", *(AAC if sound else []), *NAMELESS]
    ending = mp4(output)
    if preset is Preset.HLS:
        ending = _segments(output, playlist)
    return [*begin, *picture, *sound, *coded, *ending]


def poster_args(duration_s: float, *, source: str, output: str) -> list[str]:
    """Return the arguments of a JPEG of the middle frame, or of the next that others are built on.

    Frames on which no other is built are not decoded: that takes a third of the time.
    """
    fit = f"w='min({POSTER_SIDE_MAX},iw)':h='min({POSTER_SIDE_MAX},ih)'"
    scale = f"scale={fit}:force_original_aspect_ratio=decrease"
    return [
        *["-loglevel", "error", "-skip_frame", "noref", "-ss", f"{duration_s / 2:.3f}", *reading(source)],
        *["-map", "0:V:0", "-frames:v", "1", "-vf", f"{scale},format=yuvj420p"],
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


def mp4(output: str) -> list[str]:
    """Return the arguments that write an MP4 which plays while it loads."""
    return ["-empty_hdlr_name", "1", "-movflags", "+faststart", "-f", "mp4", f"file:{output}"]


AAC = ["-c:a", "aac", "-b:a", "128k"]
WITHOUT_METADATA = [
    *["-map_metadata", "-1", "-map_chapters", "-1", "-metadata:s:v:0", "encoder="],
    *["-fflags", "+bitexact"],
]
NAMELESS = [
    *WITHOUT_METADATA,
    *["-flags:v", "+bitexact", "-flags:a", "+bitexact"],
    *["-bsf:v", "filter_units=remove_types=6"],  # the SEI in which x264 writes its name and settings
]
