"""Check that an output is as requested.

A file passes only if players can play all of it: it is opened, measured, and decoded to its end unless each
of its packets is known to be as the encoders made it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from tempfile import mkdtemp
from threading import Event

from runner import ffmpeg
from runner.commands import packets_args
from runner.contract import OutputFault, OutputSpec, Preset
from runner.graph import Probe, even_size, picture_s
from runner.log import record
from runner.plain_files import lines, remove
from runner.probe import Look, OutputFailure, look

DURATION_TOLERANCE = 0.02  # 0.0..1.0 of the duration
DURATION_SLACK_S = 0.12  # rounding to whole video and sound frames, which counts in tiny clips
CHECK_S_BASE = 60.0
CHECK_S_PER_SECOND = 10.0


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The required properties of an output."""

    width: int
    height: int
    duration_s: float  # of what lasts longest
    picture_s: float
    has_audio: bool
    is_coded_here: bool  # then H.264 and AAC without a fault; a copy may have the faults of its source


def expected(output: OutputSpec, probe: Probe) -> Expected:
    """Return the required properties of an output of this source."""
    is_copy = output.preset is Preset.COPY
    width, height = (probe.width, probe.height) if is_copy else even_size(probe)
    speed = output.effects.speed if output.effects else 1
    return Expected(
        width=width,
        height=height,
        duration_s=probe.duration_s / speed,
        picture_s=picture_s(probe) / speed,
        has_audio=probe.has_audio,
        is_coded_here=not is_copy,
    )


def check_output(
    program: str, path: Path, wanted: Expected, *, stop: Event, packets: Path | None = None
) -> float:
    """Return the duration in seconds of a rendered file that is as requested.

    `packets` are the sums of its packets as they left the encoders (`runner.commands.Target`): if all of
    them are in the file, in order, unchanged and with their times, then only key frames and the sound are
    decoded, since nothing can have been damaged on the way. Without them it is decoded to its end.
    Raises OutputFailure(OUTPUT_INVALID) that names the first difference; OutOfMemory and FfmpegHung, which
    say nothing about the file; or Stopped.
    """
    if packets:
        found = _read_all_packets(program, path, packets, wanted, stop=stop)
    else:
        found = _read_to_the_end(program, path, wanted, stop=stop)
    if wanted.is_coded_here:
        _require_codecs(found.said, wanted)
    if found.probe.has_audio != wanted.has_audio:
        raise _invalid("lacks its sound" if wanted.has_audio else "has sound that the source has not")
    if (found.probe.width, found.probe.height) != (wanted.width, wanted.height):
        size = f"{found.probe.width}x{found.probe.height}"
        raise _invalid(f"is {size}, not {wanted.width}x{wanted.height}")
    _require_length("lasts", found.probe.duration_s, wanted.duration_s)
    _require_length("shows its last picture until", found.probe.picture_s or 0.0, wanted.picture_s)
    return _container_duration_s(found.said)


def check_playlist(text: str, *, media_name: str, media_bytes: int) -> None:
    """Raise OutputFailure(OUTPUT_INVALID) unless the playlist's ranges cover the media to its end."""
    ranges = re.findall(r"BYTERANGE[:=]\"?([0-9]{1,18})@([0-9]{1,18})", text)
    end = 0
    for length, start in ranges:
        if int(start) != end:
            raise _invalid("has a playlist with gaps")
        end += int(length)
    if not ranges or end != media_bytes or "#EXT-X-ENDLIST" not in text or media_name not in text:
        raise _invalid("has a playlist that does not cover it")


def _read_to_the_end(program: str, path: Path, wanted: Expected, *, stop: Event) -> Look:
    """Decode all of it. Only the loop filter is skipped: a third of the time, and it cannot fail."""
    return _read(program, path, wanted, decoded=["-skip_loop_filter", "all"], stop=stop)


def _read_all_packets(program: str, path: Path, packets: Path, wanted: Expected, *, stop: Event) -> Look:
    folder = Path(mkdtemp(dir=path.parent.parent))
    try:
        again = folder / "packets"
        only_keys = ["-skip_frame", "nokey", "-skip_loop_filter", "all"]
        found = _read(
            program, path, wanted, *packets_args(str(again)), decoded=only_keys, makes=[again], stop=stop
        )
        if digests(lines(packets)) != digests(lines(again)):
            raise _invalid("does not hold what was coded for it")
        return found
    finally:
        remove(folder)


def digests(lines: Iterable[str]) -> Mapping[str, str]:
    """Return, for each stream of FFmpeg's `framehash`, one sum over its headers and its packets' facts.

    The same stream has the same sum in two files, even if their units of time or order of packets differ.
    """
    units: dict[str, Fraction] = {}
    sums: dict[str, hashlib._Hash] = {}
    for line in lines:
        if match := re.match(r"#tb ([0-9]): ([0-9]+/[0-9]+)$|#extradata ([0-9]), *(.*)$", line):
            if match[1]:
                units[match[1]] = Fraction(match[2])
            else:
                sums.setdefault(match[3], hashlib.sha256()).update(match[4].encode())
        elif not line.startswith("#"):
            stream, decoded_at, shown_at, _, size, digest, *_ = (word.strip() for word in line.split(","))
            times = [int(when) * units[stream] for when in (decoded_at, shown_at)]
            facts = f"{times[0]} {times[1]} {size} {digest}\n"
            sums.setdefault(stream, hashlib.sha256()).update(facts.encode())
    return {stream: found.hexdigest() for stream, found in sums.items()}


def _read(
    program: str,
    path: Path,
    wanted: Expected,
    *more: str,
    decoded: Sequence[str],
    makes: Sequence[Path] = (),
    stop: Event,
) -> Look:
    strict = ["-xerror", "-err_detect", "explode"] if wanted.is_coded_here else []
    try:
        return look(
            program,
            path,
            *["-map", "0:V:0", "-map", "0:a:0?", "-f", "null", "-", *more],
            before=[*strict, *decoded],
            makes=makes,
            timeout_s=CHECK_S_BASE + CHECK_S_PER_SECOND * wanted.duration_s,
            stop=stop,
        )
    except (ffmpeg.OutOfMemory, ffmpeg.FfmpegHung):
        raise
    except ffmpeg.FfmpegFailed as failure:
        record("output_unreadable", message=str(failure))
        raise _invalid("does not open") from failure


def _require_length(what: str, found_s: float, wanted_s: float) -> None:
    if abs(found_s - wanted_s) > max(DURATION_SLACK_S, DURATION_TOLERANCE * wanted_s):
        raise _invalid(f"{what} {found_s:.2f} s, not {wanted_s:.2f} s")


def _require_codecs(said: str, wanted: Expected) -> None:
    if not re.search(r"^ *Stream #0:0.*: Video: h264 .*[ ,]yuv420p\(", said, re.MULTILINE):
        raise _invalid("holds no H.264 video with 4:2:0 colour")
    if wanted.has_audio and not re.search(r"^ *Stream #0:1.*: Audio: aac ", said, re.MULTILINE):
        raise _invalid("lacks its sound")


def _container_duration_s(said: str) -> float:
    """Return the duration that our own file states, as every player shows it."""
    stated = re.search(r"^ *Duration: ([0-9]{1,5}):([0-9]{2}):([0-9]{2}\.[0-9]{1,6}),", said, re.MULTILINE)
    if not stated:
        raise _invalid("states no duration")
    hours, minutes, seconds = stated.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _invalid(difference: str) -> OutputFailure:
    return OutputFailure(OutputFault.OUTPUT_INVALID, f"The rendered file {difference}.")
