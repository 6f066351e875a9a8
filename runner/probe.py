"""Probes a file with FFmpeg.

The file's own metadata is not trusted: size, colour and pixel format come from a decoded frame, the streams
and their lengths from reading all packets.

One file, since one run of FFmpeg answers all of these questions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from pathlib import Path
from tempfile import mkdtemp
from threading import Event
from typing import Any

from runner import ffmpeg
from runner.contract import OutputFault
from runner.graph import (
    HDR_TRANSFERS,
    UNTAGGED,
    Probe,
    Tags,
    also_reading,
    has_named_channels,
    picture_s,
    reading,
    two_of,
)
from runner.limits import excess, excess_in
from runner.log import record
from runner.media import refused
from runner.mp4.movie import PROMISED_S, Movie, NotPlayable, look_into
from runner.plain_files import lines, opened, remove, size_bytes
from runner.timing import StreamTimes, held_s, output_rate_of, stream_times

PROBE_TIMEOUT_S = 120.0
DECODE_S_BASE, DECODE_S_PER_SECOND = 60.0, 10.0
HEADER_LINES_MAX = 100
LOUDNESS = (
    r"^\[Parsed_ebur128_(\d{1,3}) @ \w+\] Summary:\s{1,9}Integrated loudness:\s{1,9}I: +(-?\d{1,3}\.\d) LUFS"
)
SILENCE_LUFS = -60.0
GAIN_DB_MAX = 6.0
PACKETS_BYTES_MAX = 128 << 20  # of the list of packets: four hours with 96 kHz AAC have 90 MB
UNDECODABLE = (
    "No picture of this video can be decoded: it is damaged. Export it again, for example as H.264 with AAC"
    " sound."
)


class OutputFailure(Exception):
    """One output, or all of one source, cannot be made. `message` is a sentence for the user."""

    def __init__(self, code: OutputFault, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass(frozen=True)
class Look:
    """The findings of FFmpeg in a file, and its messages."""

    probe: Probe
    frames: int  # packets of the video
    codecs: Sequence[str]  # FFmpeg's names, of the streams that are used
    said: str


def probe(program: str, path: Path, *, stop: Event) -> Probe:
    """Return the facts of the source. An FFmpeg that hung is run once more.

    Raises OutputFailure(SOURCE_UNPLAYABLE or SOURCE_TOO_LARGE), OutOfMemory, or Stopped.
    """
    try:
        looked = _looked_twice(program, path, stop=stop)
    except ffmpeg.OutOfMemory:
        raise
    except ffmpeg.FfmpegHung as failure:
        raise _unplayable(f"This video cannot be read ({failure}, twice).") from failure
    except ffmpeg.FfmpegTimedOut as failure:
        raise _too_large(f"more packets than can be read in {PROBE_TIMEOUT_S:.0f} s") from failure
    except ffmpeg.FfmpegFailed as failure:
        if reason := excess_in(failure.tail):
            raise _too_large(reason) from failure
        record("source_unplayable", message=str(failure))
        raise _unplayable(UNDECODABLE) from failure
    found = looked.probe
    if strange := refused(looked.codecs):
        words = f"This video holds {' and '.join(sorted(strange))}, which is not accepted."
        raise _unplayable(f"{words} Export it as H.264 with AAC sound.")
    if found.duration_s <= 0:
        raise _unplayable("This video has no duration.")
    if found.has_audio and found.channels > 2 and has_named_channels(found):
        found = replace(found, gain_db=_measured_gain_db(program, path, found, stop=stop))
    size = {"width": found.width, "height": found.height}
    if known := excess(**size, duration_s=found.duration_s, frames=looked.frames):
        raise _too_large(known)
    return found


def _measured_gain_db(program: str, path: Path, found: Probe, *, stop: Event) -> float:
    """Return the gain, or 0 where it cannot be measured: the rendering tells why. Raises OutOfMemory."""
    try:
        return _gain_db(program, path, found, stop=stop)
    except ffmpeg.OutOfMemory:
        raise
    except ffmpeg.FfmpegFailed as failure:
        record("loudness_unknown", message=str(failure))
        return 0.0


def _gain_db(program: str, path: Path, found: Probe, *, stop: Event) -> float:
    """Return by how much two channels of the sound have to be louder than they get, to be as loud as all.

    How loud a mix becomes depends on how alike the channels are, so both are measured by ITU-R BS.1770.
    """
    measured = "ebur128=framelog=quiet"
    both = f"[0:a:0]asplit[all][two];[all]{measured}[x];[two]{','.join(two_of(found))},{measured}[y]"
    outputs = ["-map", "[x]", "-f", "null", "-", "-map", "[y]", "-f", "null", "-"]
    said = ffmpeg.run(
        [program, "-loglevel", "info", *reading(str(path)), "-filter_complex", both, *outputs],
        reads=[path],
        makes=[],
        on_progress=lambda _: None,
        timeout_s=DECODE_S_BASE + DECODE_S_PER_SECOND * found.duration_s,
        stop=stop,
    )
    figures = re.findall(LOUDNESS, said, re.MULTILINE)
    loudness = [float(lufs) for _, lufs in sorted(figures, key=lambda each: int(each[0]))]
    if len(loudness) != 2 or min(loudness) <= SILENCE_LUFS:
        return 0.0
    return max(-GAIN_DB_MAX, min(GAIN_DB_MAX, loudness[0] - loudness[1]))


def looked_into(path: Path, *, is_new: bool) -> Movie | None:
    """Return what the file's index says, without FFmpeg, as control looks at uploads.

    A file that nobody has looked at (`is_new`), since it comes from a URL, is refused with the same words as
    an upload of it: OutputFailure(SOURCE_UNPLAYABLE). Of others that are not taken any more, return None.
    """
    with opened(path) as file:

        def read(start: int, stop: int) -> bytes:
            file.seek(start)
            return file.read(stop - start)

        try:
            return look_into(read, size_bytes=size_bytes(path))
        except NotPlayable as refusal:
            if is_new:
                raise _unplayable(str(refusal)) from None
            return None


def unread(found: Probe, promised: Movie) -> list[str]:
    """Return notes on a source of which less can be used than its index promises."""
    read = _shortfall(found.duration_s, promised.duration_s, "of the video could be read")
    return [*promised.notes, *read]


def undecoded(found: Probe, promised: Probe) -> list[str]:
    """Return notes on a source of which less can be decoded than read."""
    sound_s = promised.sound_s if promised.has_audio else None
    return [
        *_shortfall(picture_s(found), picture_s(promised), "of the picture could be decoded"),
        *_shortfall(found.sound_s or 0.0, sound_s or 0.0, "of the sound could be decoded"),
    ]


def _shortfall(found_s: float, promised_s: float, what: str) -> list[str]:
    if promised_s <= found_s + PROMISED_S:
        return []
    return [f"Only {found_s:,.1f} s of {promised_s:,.1f} s {what}."]


def decoded(program: str, path: Path, found: Probe, *, stop: Event) -> Probe:
    """Return what the source is by those of its pictures and samples that can be decoded, to their ends.

    For a source of which an output came out too short: packets say nothing of their content. Raises
    FfmpegFailed, or Stopped.
    """
    folder = Path(mkdtemp(dir=path.parent))
    frames = folder / "frames"
    streams = ["-map", "0:V:0", *(["-map", "1:a:0"] if found.has_audio else [])]
    listed = ["-fps_mode", "passthrough", "-fs", str(PACKETS_BYTES_MAX), "-f", "framecrc", f"file:{frames}"]
    try:
        ffmpeg.run(
            [program, "-loglevel", "error", *reading(str(path)), *also_reading(str(path)), *streams, *listed],
            reads=[path],
            makes=[frames],
            on_progress=lambda _: None,
            timeout_s=DECODE_S_BASE + DECODE_S_PER_SECOND * found.duration_s,
            stop=stop,
        )
        times = {stream.kind: stream for stream in stream_times(lines(frames)) if stream.shown}
    finally:
        remove(folder)
    video, sound = times.get("video"), times.get("audio")
    if video is None:  # though one was decoded before: nothing is known better
        return found
    is_whole = float(video.ends_s) > picture_s(found) - PROMISED_S
    shown_s = picture_s(found) if is_whole else float(video.ends_s)
    sound_s = float(sound.ends_s) if sound else None
    return replace(
        found,
        duration_s=max(shown_s, sound_s or 0.0),
        picture_s=shown_s,
        held_s=found.held_s if is_whole else 0.0,
        has_audio=sound is not None,
        sound_s=sound_s,
    )


def _looked_twice(program: str, path: Path, *, stop: Event) -> Look:
    try:
        return look(program, path, timeout_s=PROBE_TIMEOUT_S, stop=stop)
    except ffmpeg.FfmpegHung:
        return look(program, path, timeout_s=PROBE_TIMEOUT_S, stop=stop)


def look(
    program: str,
    path: Path,
    *more: str,
    before: Sequence[str] = (),
    makes: Sequence[Path] = (),
    timeout_s: float,
    stop: Event,
) -> Look:
    """Decode one frame and read every packet in a single process.

    `before` are arguments for the reading, `more` for further outputs, which write the files in `makes`.
    Raises FfmpegFailed, or Stopped.
    """
    folder = Path(mkdtemp(dir=path.parent))
    frame, packets = folder / "frame.y4m", folder / "packets"
    try:
        said = ffmpeg.run(
            [
                *[program, "-loglevel", "info", *before, *reading(str(path)), *also_reading(str(path))],
                *[*_packets(packets), *_one_frame(frame), *more],
            ],
            reads=[path],
            makes=[frame, packets, *makes],
            on_progress=lambda _: None,
            timeout_s=timeout_s,
            stop=stop,
        )
        width, height = _dimensions(frame)
        header, streams = _header(packets), stream_times(lines(packets))
    finally:
        remove(folder)
    video = next((stream for stream in streams if stream.kind == "video"), StreamTimes())
    sound = next((stream for stream in streams if stream.kind == "audio"), None)
    held = held_s(video, _stated_s(said))
    codecs = re.findall(r"^#codec_id \d+: (\w+)$", header, re.MULTILINE)
    shown_s = float(video.ends_s) + held
    pixels = _shown(said, r"fmt:(\w+)") or ""
    found = Probe(
        width=width,
        height=height,
        duration_s=max(shown_s, float(sound.ends_s) if sound else 0.0),
        has_audio=sound is not None and sound.shown > 0,  # a track without a packet is silent
        sound_s=float(sound.ends_s) if sound and sound.shown else None,
        is_interlaced=_shown(said, r"i:(\w)") in ("T", "B"),
        hdr_transfer=_hdr(said),
        tags=_tags(said),
        is_rgb=is_rgb(pixels),
        has_alpha=has_alpha(pixels),
        picture_s=shown_s,
        held_s=held,
        is_uneven=not video.is_constant,
        rate=output_rate_of(video),
        **_codecs(codecs),
        **_sound(header),
    )
    return Look(found, video.packets, codecs, said)


# The names by which `showinfo` tells of these and `setparams` takes them.
_MATRICES = {"bt709", "fcc", "bt470bg", "smpte170m", "smpte240m", "bt2020nc", "bt2020c", "gbr", UNTAGGED}
_PRIMARIES = {"bt709", "bt470m", "bt470bg", "smpte170m", "smpte240m", "film", "bt2020", "smpte432", UNTAGGED}
_TRANSFERS = {
    *["bt709", "bt470m", "bt470bg", "smpte170m", "smpte240m", "linear", "iec61966-2-1", "iec61966-2-4"],
    *["bt2020-10", "bt2020-12", *HDR_TRANSFERS, UNTAGGED],
}


def _tags(said: str) -> Tags | None:
    """Return the frame's own tags; None if one of them is invalid."""
    tags = Tags(
        aspect=_shown(said, r"sar:([0-9]{1,6}/[1-9][0-9]{0,5})\b") or "0/1",
        matrix=_shown(said, r"color_space:(\S+)") or UNTAGGED,
        primaries=_shown(said, r"color_primaries:(\S+)") or UNTAGGED,
        transfer=_shown(said, r"color_trc:(\S+)") or UNTAGGED,
    )
    known = tags.matrix in _MATRICES and tags.primaries in _PRIMARIES and tags.transfer in _TRANSFERS
    return tags if known else None


def is_rgb(pixels: str) -> bool:
    """Return whether a pixel format, by FFmpeg's name, is of red, green and blue."""
    return bool(re.match(r"pal8|gbr|x?rgb|x?bgr|[ax0]rgb|[ax0]bgr|x2rgb|x2bgr", pixels))


def has_alpha(pixels: str) -> bool:
    """Return whether a pixel format, by FFmpeg's name, has an alpha channel."""
    return bool(re.match(r"pal8|yuva|gbrap|rgba|bgra|argb|abgr|ya8|ya16", pixels))


def _codecs(codecs: Sequence[str]) -> dict[str, Any]:
    """Return the codecs of picture and sound, in their order, as fields of Probe."""
    return dict(zip(("picture_codec", "sound_codec"), codecs, strict=False))


def _sound(header: str) -> dict[str, Any]:
    """Return the fields of Probe for the sound that the list of packets shows."""
    found: dict[str, Any] = {}
    if rate := re.search(r"^#sample_rate \d+: ([1-9][0-9]{2,6})$", header, re.MULTILINE):
        found["sample_rate"] = int(rate[1])
    if layout := re.search(r"^#channel_layout_name \d+: (.{1,100})$", header, re.MULTILINE):
        found["layout"] = name = layout[1].strip()
        few = {"mono": 1, "stereo": 2, "downmix": 2, "1 channels": 1, "2 channels": 2}
        found["channels"] = few.get(name, 3)
    return found


def _header(packets: Path) -> str:
    """Return the lines before the first packet: some twenty."""
    return "".join(takewhile(lambda line: line.startswith("#"), islice(lines(packets), HEADER_LINES_MAX)))


def _stated_s(said: str) -> float:
    """Return the duration that the file states, 0 if none. A line of metadata cannot begin like this."""
    stated = re.search(r"^  Duration: ([0-9]{1,5}):([0-9]{2}):([0-9]{2}\.[0-9]{1,6}),", said, re.MULTILINE)
    return int(stated[1]) * 3600 + int(stated[2]) * 60 + float(stated[3]) if stated else 0.0


def _hdr(said: str) -> str | None:
    transfer = _shown(said, r"color_trc:(\S+)")
    return transfer if transfer in HDR_TRANSFERS else None


def _shown(said: str, fact: str) -> str | None:
    """Return the line of `showinfo` about the frame. It begins with its name, as no line of metadata can."""
    found = re.search(rf"^\[Parsed_showinfo\S* @ \w+\] .*\b{fact}", said, re.MULTILINE)
    return found[1] if found else None


def _one_frame(path: Path) -> list[str]:
    seen = ["-map", "0:V:0", "-frames:v", "1", "-vf", "sidedata=mode=delete,showinfo=checksum=0"]
    return [*seen, "-pix_fmt", "yuv420p", "-f", "yuv4mpegpipe", f"file:{path}"]


def _packets(path: Path) -> list[str]:
    """Return the arguments that read all packets without decoding and write a line about each into the file.

    The sound has an input of its own, as when it is rendered, so each stream is read to its own end.
    """
    streams = ["-map", "0:V:0", "-map", "1:a:0?", "-c", "copy"]
    return [*streams, "-fs", str(PACKETS_BYTES_MAX), "-f", "framecrc", f"file:{path}"]


def _dimensions(path: Path) -> tuple[int, int]:
    header = next(lines(path), "")
    found = re.match(r"YUV4MPEG2 W([1-9][0-9]{0,4}) H([1-9][0-9]{0,4}) ", header)
    if not found:
        raise ffmpeg.FfmpegFailed("no frame could be decoded")
    return int(found[1]), int(found[2])


def _unplayable(message: str) -> OutputFailure:
    return OutputFailure(OutputFault.SOURCE_UNPLAYABLE, message)


def _too_large(what: str) -> OutputFailure:
    return OutputFailure(OutputFault.SOURCE_TOO_LARGE, f"This video has {what}, which is above the limit.")
