"""What a file really is, found out with FFmpeg alone, and whether an output is what was asked for.

Must never believe a word of the file's own metadata: dimensions come from a decoded frame, the streams and
the duration from reading all packets.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

from runner import ffmpeg
from runner.contract import OutputFault
from runner.graph import Probe, reading
from runner.intake import excess, excess_told

PROBE_TIMEOUT_S = 120.0
DURATION_TOLERANCE = 0.02  # 0.0..1.0 of the duration
DURATION_SLACK_S = 0.12  # rounding to whole video and sound frames, which counts in tiny clips


class OutputFailure(Exception):
    """One output, or all of one source, cannot be made. `message` is a sentence for the user."""

    def __init__(self, code: OutputFault, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def probe(program: str, path: Path, *, stop: Event) -> Probe:
    """Return what the source is. Raises OutputFailure(SOURCE_UNPLAYABLE or SOURCE_TOO_LARGE), or Stopped."""
    frames = [0]
    try:
        found, _ = _look(program, path, loglevel="error", on_frames=frames.append, stop=stop)
    except ffmpeg.FfmpegTimedOut as failure:
        raise _too_large(f"more packets than we read in {PROBE_TIMEOUT_S:.0f} s") from failure
    except ffmpeg.FfmpegFailed as failure:
        if told := excess_told(failure.tail):
            raise _too_large(told) from failure
        raise _unplayable(f"No playable MP4 or MOV video was found in this file ({failure}).") from failure
    if found.duration_s <= 0:
        raise _unplayable("This video has no duration.")
    if known := excess(duration_s=found.duration_s, frames=max(frames)):
        raise _too_large(known)
    return found


def check_output(program: str, path: Path, expected: Probe, *, stop: Event) -> float:
    """Return the duration in seconds of a rendered file that is what was asked for.

    Raises OutputFailure(OUTPUT_INVALID) that names the first difference, or Stopped.
    """
    try:
        found, said = _look(program, path, loglevel="info", stop=stop)
    except ffmpeg.FfmpegFailed as failure:
        raise _invalid(f"does not open ({failure})") from failure
    tolerance_s = max(DURATION_SLACK_S, DURATION_TOLERANCE * expected.duration_s)
    if not re.search(r"^ *Stream #0:0.*: Video: h264 .*[ ,]yuv420p\(", said, re.MULTILINE):
        raise _invalid("holds no H.264 video with 4:2:0 colour")
    if bool(re.search(r"^ *Stream #0:1.*: Audio: aac ", said, re.MULTILINE)) != expected.has_audio:
        raise _invalid("lacks its sound" if expected.has_audio else "has sound that the source has not")
    if (found.width, found.height) != (expected.width, expected.height):
        raise _invalid(f"is {found.width}x{found.height}, not {expected.width}x{expected.height}")
    if abs(found.duration_s - expected.duration_s) > tolerance_s:
        raise _invalid(f"lasts {found.duration_s:.2f} s, not {expected.duration_s:.2f} s")
    return _container_duration_s(said)


def _container_duration_s(said: str) -> float:
    """Return the duration that our own file states, as every player shows it."""
    stated = re.search(r"^ *Duration: (\d+):(\d+):(\d+\.\d+)", said, re.MULTILINE)
    if not stated:
        raise _invalid("states no duration")
    hours, minutes, seconds = stated.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _look(
    program: str,
    path: Path,
    *,
    loglevel: str,
    stop: Event,
    on_frames: Callable[[int], None] = lambda _: None,
) -> tuple[Probe, str]:
    """Decode one frame and read every packet in a single process; return the facts and FFmpeg's words."""
    times_s = [0.0]
    with TemporaryDirectory(dir=path.parent) as folder:
        frame, streams = Path(folder, "frame.y4m"), Path(folder, "streams")
        said = ffmpeg.run(
            [program, "-loglevel", loglevel, *reading(str(path)), *_packets(streams), *_one_frame(frame)],
            reads=[path],
            writes=[Path(folder)],
            on_progress=times_s.append,
            on_frames=on_frames,
            timeout_s=PROBE_TIMEOUT_S,
            stop=stop,
        )
        width, height = _dimensions(frame)
        has_audio = any(line.split(",")[1] == "a" for line in streams.read_text().splitlines())
    return Probe(width=width, height=height, duration_s=max(times_s), has_audio=has_audio), said


def _one_frame(path: Path) -> list[str]:
    return ["-map", "0:V:0", "-frames:v", "1", "-pix_fmt", "yuv420p", "-f", "yuv4mpegpipe", f"file:{path}"]


def _packets(path: Path) -> list[str]:
    """Return the arguments that read all packets undecoded; the file gets `n,type,hash` per stream.

    They come first: FFmpeg counts the frames of the first video stream that it writes.
    """
    streams = ["-map", "0:V:0", "-map", "0:a:0?", "-c", "copy"]
    return [*streams, "-f", "streamhash", "-hash", "crc32", f"file:{path}"]


def _dimensions(path: Path) -> tuple[int, int]:
    with path.open("rb") as file:
        header = file.readline(200).decode(errors="replace")
    found = re.match(r"YUV4MPEG2 W(\d+) H(\d+) ", header)
    if not found:
        raise ffmpeg.FfmpegFailed("no frame could be decoded")
    return int(found[1]), int(found[2])


def _unplayable(message: str) -> OutputFailure:
    return OutputFailure(OutputFault.SOURCE_UNPLAYABLE, message)


def _too_large(what: str) -> OutputFailure:
    return OutputFailure(OutputFault.SOURCE_TOO_LARGE, f"This video has {what}, which is more than we take.")


def _invalid(difference: str) -> OutputFailure:
    return OutputFailure(OutputFault.OUTPUT_INVALID, f"The rendered file {difference}.")
