"""What an uploaded file is: an MP4 or MOV that can be played, or a sentence that says what to do instead.

Reads only the boxes that tell (a few ranged reads), so it is cheap on a file of any size. Must never trust a
number in the file: each loop has a bound, and each read a cap. Long, because a good part of it is the
sentences for all that people send instead of an MP4.

Boxes: ISO/IEC 14496-12 (2022), 4.2 and 8; QuickTime File Format Specification (2012-08), "Movie Atoms".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from runner.contract import SOURCE_FRAME, SOURCE_PIXELS_MAX, SOURCE_S_MAX, SOURCE_SIDE_MAX

MOOV_BYTES_MAX = 64 * 1024 * 1024
BOXES_MAX = 1_000  # in one container; a fragmented file has two at the top for each fragment
TRACKS_MAX = 64
HEAD_BYTES = 64 * 1024  # one read that mostly holds all small boxes at the start
SIDE_MIN = 16  # pixels

REMUX = "Remux it first: ffmpeg -i in.mp4 -c copy -movflags +faststart out.mp4"
AGAIN = "Upload it again from a complete copy."
CONVERT = "Convert it to MP4 first."
NOT_A_VIDEO = "Upload an MP4 or MOV video."

_STARTS = {
    b"\x1aE\xdf\xa3": f"This is a Matroska file (MKV). {CONVERT}",
    b"FLV\x01": f"This is a Flash video. {CONVERT}",
    b"\x30\x26\xb2\x75": f"This is a Windows Media file. {CONVERT}",
    b"\0\0\x01\xba": f"This is an MPEG program stream. {CONVERT}",
    b"\0\0\x01\xb3": f"This is a bare MPEG video stream. {CONVERT}",
    b"\0\0\0\x01": f"This is a bare video stream without a container. {CONVERT}",
    b"OggS": f"This is an Ogg file. {CONVERT}",
    b"#EXTM3U": "This is an HLS playlist: it only names the video. Upload the video itself as MP4 or MOV.",
    b"ID3": f"This is an MP3: it has sound but no video. {NOT_A_VIDEO}",
    b"\xff\xfb": f"This is an MP3: it has sound but no video. {NOT_A_VIDEO}",
    b"\xff\xf1": f"This is an AAC file: it has sound but no video. {NOT_A_VIDEO}",
    b"#!AMR": f"This is an AMR recording: it has sound but no video. {NOT_A_VIDEO}",
    b"FORM": f"This is an AIFF file: it has sound but no video. {NOT_A_VIDEO}",
    b"fLaC": f"This is a FLAC file: it has sound but no video. {NOT_A_VIDEO}",
    b"\x89PNG": f"This is a PNG picture. {NOT_A_VIDEO}",
    b"\xff\xd8\xff": f"This is a JPEG picture. {NOT_A_VIDEO}",
    b"GIF8": f"This is a GIF picture. {CONVERT}",
    b"II*\0": f"This is a TIFF or RAW picture. {NOT_A_VIDEO}",
    b"MM\0*": f"This is a TIFF or RAW picture. {NOT_A_VIDEO}",
    b"%PDF": f"This is a PDF document. {NOT_A_VIDEO}",
    b"PK\x03\x04": "This is a ZIP. Unpack it and upload the videos in it.",
    b"Rar!": "This is a RAR archive. Unpack it and upload the videos in it.",
    b"7z\xbc\xaf": "This is a 7z archive. Unpack it and upload the videos in it.",
    b"\x1f\x8b": "This is a gzip archive. Unpack it and upload the videos in it.",
}
_RIFF = {
    b"AVI ": f"This is an AVI. {CONVERT}",
    b"WAVE": f"This is a WAV file: it has sound but no video. {NOT_A_VIDEO}",
    b"WEBP": f"This is a WebP picture. {NOT_A_VIDEO}",
}
_PICTURE_BRANDS = (b"heic", b"heix", b"mif1", b"msf1", b"avif")
_FIRST_BOXES = (
    b"ftyp",
    b"moov",
    b"mdat",
    b"free",
    b"skip",
    b"wide",
    b"pnot",
    b"uuid",
    b"styp",
    b"sidx",
    b"moof",
)

Read = Callable[[int, int], bytes]


class NotPlayable(Exception):
    """The file is no MP4 or MOV with a video that can be played. The message is for who sent it."""


@dataclass(frozen=True, kw_only=True)
class Movie:
    """A playable file. Width and height are as shown, that is after the turn that the file asks for."""

    duration_s: float
    width: int
    height: int


def look_into(read: Read, *, size_bytes: int) -> Movie:
    """Return what the MP4 or MOV holds. `read(start, stop)` gives those bytes of it.

    Raises NotPlayable, and whatever `read` raises.
    """
    file = _File(read, size_bytes)
    _check_kind(file.head)
    try:
        top = _walk(file)
        return _movie(file, top)
    except (struct.error, IndexError, OverflowError):
        raise _damaged() from None


def _damaged() -> NotPlayable:
    return NotPlayable(f"The file's index is damaged. {AGAIN}")


# --- what kind of file ------------------------------------------------------------------------------


def _check_kind(head: bytes) -> None:
    if not head:
        raise NotPlayable(f"The file is empty. {AGAIN}")
    if head[4:8] == b"ftyp" and head[8:12] in _PICTURE_BRANDS:
        raise NotPlayable(f"This is a HEIC or AVIF picture. {NOT_A_VIDEO}")
    if head[4:8] in _FIRST_BOXES:
        return
    raise NotPlayable(_other_kind(head))


def _other_kind(head: bytes) -> str:
    if head.startswith(b"\x1aE\xdf\xa3") and b"webm" in head[:64]:
        return f"This is a WebM. {CONVERT}"
    if head.startswith(b"RIFF") and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    if b"GGG" in (head[0:377:188], head[4:389:192]):  # the sync bytes of three packets; cameras prefix 4
        return f"This is an MPEG transport stream (TS). {CONVERT}"
    for start, sentence in _STARTS.items():
        if head.startswith(start):
            return sentence
    if _is_text(head):
        return f"This is a text file. {NOT_A_VIDEO}"
    return f"This is not an MP4 or MOV file. {NOT_A_VIDEO}"


def _is_text(head: bytes) -> bool:
    text = head[:1024].decode("utf-8", "ignore")
    return len(text.encode()) >= min(len(head), 1024) - 3 and all(
        c.isprintable() or c.isspace() for c in text
    )


# --- the boxes at the top -----------------------------------------------------------------------------


class _File:
    """The file by ranges; its head is read once and kept."""

    def __init__(self, read: Read, size: int) -> None:
        self._read, self.size = read, size
        self.head = read(0, min(size, HEAD_BYTES)) if size else b""

    def between(self, start: int, stop: int) -> bytes:
        stop = min(stop, self.size)
        if stop <= len(self.head):
            return self.head[start:stop]
        found = self._read(start, stop)
        if len(found) < stop - start:
            raise NotPlayable(f"The file is cut short. {AGAIN}")
        return found


@dataclass
class _Top:
    """Where the boxes at the top are that matter, as (start, stop) of their insides."""

    moov: tuple[int, int] | None = None
    moof: tuple[int, int] | None = None  # the last one
    has_media: bool = False


def _walk(file: _File) -> _Top:
    top, at = _Top(), 0
    for _ in range(BOXES_MAX):
        raw = file.between(at, at + 16)
        # Some cameras pad the end with what is no box.
        if not raw or (top.moov and top.has_media and not raw[4:8].isalnum()):
            return top
        if len(raw) < 8 or (raw[:4] == b"\0\0\0\x01" and len(raw) < 16):
            raise NotPlayable(f"The file is cut short: it ends within a header. {AGAIN}")
        kind, header, size = _box_header(raw, file.size - at)
        if at + size > file.size:
            missing = at + size - file.size
            raise NotPlayable(f"The file is cut short: {missing:,} bytes are missing at its end. {AGAIN}")
        _note(top, kind, (at + header, at + size))
        at += size
    raise NotPlayable(f"The file is in too many pieces to look through. {REMUX}")


def _note(top: _Top, kind: bytes, inside: tuple[int, int]) -> None:
    if kind == b"moov":
        top.moov = top.moov or inside
    elif kind == b"moof":
        top.moof = inside
    elif kind == b"mdat":
        top.has_media = True


def _box_header(raw: bytes | memoryview, room: int) -> tuple[bytes, int, int]:
    """Return a box's kind, header length and whole length; `room` is how much there is to the end."""
    size, kind = struct.unpack_from(">I4s", raw)
    header = 8
    if size == 1:
        (size,), header = struct.unpack_from(">Q", raw, 8), 16
    elif size == 0:  # to the end
        size = room
    if size < header:
        raise _damaged()
    return kind, header, size


def _load(file: _File, inside: tuple[int, int]) -> memoryview:
    if inside[1] - inside[0] > MOOV_BYTES_MAX:
        raise NotPlayable(f"The file's index is too large to be that of a real video. {REMUX}")
    return memoryview(file.between(*inside))


# --- the movie box ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Track:
    id: int
    kind: bytes  # vide, soun, ...
    timescale: int
    duration_s: float
    width: int
    height: int
    codec: str


def _children(body: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    at = 0
    for _ in range(BOXES_MAX):
        if len(body) - at < 8:  # QuickTime ends some containers with four zeros
            return
        kind, header, size = _box_header(body[at : at + 16], len(body) - at)
        if size > len(body) - at:
            raise _damaged()
        yield kind, body[at + header : at + size]
        at += size
    raise _damaged()


def _find(body: memoryview, *path: bytes) -> memoryview | None:
    for step in path:
        found = next((inside for kind, inside in _children(body) if kind == step), None)
        if found is None:
            return None
        body = found
    return body


def _movie(file: _File, top: _Top) -> Movie:
    if top.moov is None:
        raise NotPlayable(f"The file has no index (moov): its recording or upload was not finished. {AGAIN}")
    moov = _load(file, top.moov)
    traks = (inside for kind, inside in _children(moov) if kind == b"trak")
    tracks = [_track(trak) for trak in islice(traks, TRACKS_MAX)]
    video = next((track for track in tracks if track.kind == b"vide"), None)
    if video is None:
        raise NotPlayable(f"There is no video in this file. {NOT_A_VIDEO}")
    _check_video(video)
    duration_s = _duration_s(file, top, moov, tracks) or video.duration_s
    _check_duration(duration_s)
    return Movie(duration_s=duration_s, width=video.width, height=video.height)


def _check_video(video: _Track) -> None:
    if video.codec in ("encv", "drmi"):
        raise NotPlayable("The video is copy-protected. Upload one without protection.")
    width, height = video.width, video.height
    is_too_large = max(width, height) > SOURCE_SIDE_MAX or width * height > SOURCE_PIXELS_MAX
    if is_too_large or min(width, height) < SIDE_MIN:
        raise NotPlayable(
            f"The video is {width} x {height} pixels; each side must be at least {SIDE_MIN}, and all at most "
            f"{SOURCE_FRAME}, lying or upright. Resize it first."
        )


def _check_duration(duration_s: float) -> None:
    if not duration_s:
        raise NotPlayable(f"The video has no length: nothing was recorded. {AGAIN}")
    if duration_s > SOURCE_S_MAX:
        most = f"{SOURCE_S_MAX / 3600:.0f} hours"
        raise NotPlayable(
            f"The video claims to last {duration_s / 3600:,.1f} hours. Cut it to {most} at most."
        )


def _duration_s(file: _File, top: _Top, moov: memoryview, tracks: list[_Track]) -> float:
    """Return the movie's length; of a fragmented one what its header promises, else where it ends."""
    mvhd = _find(moov, b"mvhd")
    if mvhd is None:
        raise _damaged()
    timescale, duration = _time(mvhd)
    mvex = _find(moov, b"mvex")
    if mvex is not None:
        mehd = _find(mvex, b"mehd")
        if mehd is not None:
            duration = struct.unpack_from(">Q" if mehd[0] else ">I", mehd, 4)[0]
        elif top.moof:
            return _last_fragment_end_s(_load(file, top.moof), mvex, tracks)
    return float(duration / timescale) if timescale else 0.0


def _time(body: memoryview) -> tuple[int, int]:
    """Return (timescale, duration) of an mvhd or mdhd; a duration of all ones means unknown: 0."""
    timescale, duration = struct.unpack_from(">IQ" if body[0] else ">II", body, 20 if body[0] else 12)
    unknown = (1 << (64 if body[0] else 32)) - 1
    return timescale, 0 if duration == unknown else duration


def _track(trak: memoryview) -> _Track:
    tkhd, mdhd = _find(trak, b"tkhd"), _find(trak, b"mdia", b"mdhd")
    hdlr = _find(trak, b"mdia", b"hdlr")
    if tkhd is None or mdhd is None or hdlr is None:
        raise _damaged()
    timescale, duration = _time(mdhd)
    kind = bytes(hdlr[8:12])
    (track_id,) = struct.unpack_from(">I", tkhd, 20 if tkhd[0] else 12)
    codec, width, height = _picture(trak, tkhd) if kind == b"vide" else ("", 0, 0)
    return _Track(
        id=track_id,
        kind=kind,
        timescale=timescale,
        duration_s=duration / timescale if timescale else 0.0,
        width=width,
        height=height,
        codec=codec,
    )


def _picture(trak: memoryview, tkhd: memoryview) -> tuple[str, int, int]:
    """Return codec, width and height, as stored: the track header's size may be stretched."""
    stsd = _find(trak, b"mdia", b"minf", b"stbl", b"stsd")
    entry = next(_children(stsd[8:]), None) if stsd is not None else None
    if entry is None:
        raise _damaged()
    width, height = struct.unpack_from(">HH", entry[1], 24)
    matrix = struct.unpack_from(">9i", tkhd, 52 if tkhd[0] else 40)
    if not matrix[0] and not matrix[4] and matrix[1] and matrix[3]:  # turned by 90 or 270 degrees
        width, height = height, width
    return entry[0].decode("latin-1"), width, height


# --- fragments ----------------------------------------------------------------------------------------


def _last_fragment_end_s(moof: memoryview, mvex: memoryview, tracks: list[_Track]) -> float:
    """Return when the last fragment ends: the start it names plus its samples' durations."""
    timescales = {track.id: track.timescale for track in tracks if track.timescale}
    defaults = dict(struct.unpack_from(">I4xI", body, 4) for kind, body in _children(mvex) if kind == b"trex")
    trafs = [traf for kind, traf in _children(moof) if kind == b"traf"]
    ends = [_end_s(traf, timescales, defaults) for traf in trafs]
    if not any(ends):
        raise NotPlayable(f"The length of this fragmented MP4 cannot be told. {REMUX}")
    return max(ends)


def _end_s(traf: memoryview, timescales: dict[int, int], defaults: dict[int, int]) -> float:
    """Return when this track's part of the fragment ends, or 0 when it does not tell."""
    tfhd, tfdt = _find(traf, b"tfhd"), _find(traf, b"tfdt")
    if tfhd is None or tfdt is None:
        return 0.0
    (track_id,) = struct.unpack_from(">I", tfhd, 4)
    (start,) = struct.unpack_from(">Q" if tfdt[0] else ">I", tfdt, 4)
    default = _default_duration(tfhd, defaults.get(track_id, 0))
    runs = sum(_run_duration(body, default) for kind, body in _children(traf) if kind == b"trun")
    return float((start + runs) / timescales[track_id]) if track_id in timescales else 0.0


def _default_duration(tfhd: memoryview, otherwise: int) -> int:
    """Return the duration of a sample that names none (tfhd flag 0x8, after two optional fields)."""
    (flags,) = struct.unpack_from(">I", tfhd)
    if not flags & 0x8:
        return otherwise
    at = 8 + (8 if flags & 0x1 else 0) + (4 if flags & 0x2 else 0)
    return int(struct.unpack_from(">I", tfhd, at)[0])


def _run_duration(trun: memoryview, default: int) -> int:
    flags, count = struct.unpack_from(">II", trun)
    if not flags & 0x100:  # no sample names its duration
        return int(count * default)
    first = 8 + (4 if flags & 0x1 else 0) + (4 if flags & 0x4 else 0)
    stride = 4 * (flags >> 8 & 0xF).bit_count()
    samples = trun[first : first + count * stride]
    if len(samples) < count * stride:
        raise _damaged()
    return sum(struct.unpack_from(">I", samples, at)[0] for at in range(0, len(samples), stride))
