"""What an uploaded file is: an MP4 or MOV that can be played, or a sentence that says what to do instead.

Reads only the boxes that tell (`boxes`), so it is cheap on a file of any size, of a fragmented one too: that
is walked through at its start and at its end. Must never trust a number in the file. Long, because a good
part of it is the sentences for all that people send instead of an MP4.

Boxes: ISO/IEC 14496-12 (2022), 8; QuickTime File Format Specification (2012-08), "Movie Atoms".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import islice

from control.uploads.boxes import Box, CutShort, Damaged, File, Read, Scattered
from runner.media import SOURCE_FRAME, SOURCE_PIXELS_MAX, SOURCE_S_MAX, SOURCE_SIDE_MAX

INDEX_BYTES_MAX = 64 * 1024 * 1024  # of a moov, or of one moof: more than a day has
WALK_BOXES_MAX, WALK_READS_MAX = 1_000, 24  # at the top, from the start and then near the end
TRACKS_MAX = 64
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

_MOOF = b"moof\0\0\0\x10mfhd"  # behind its size: a fragment begins so, and hardly anything else


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
    try:
        file = File(read, size_bytes)
        _check_kind(file.head)
        return _movie(file, _walk(file))
    except CutShort:
        raise NotPlayable(f"The file is cut short. {AGAIN}") from None
    except Scattered:
        raise NotPlayable(f"The file is in too many pieces to look through. {REMUX}") from None
    except (Damaged, struct.error, IndexError, OverflowError):
        raise NotPlayable(f"The file's index is damaged. {AGAIN}") from None


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


@dataclass
class _Top:
    """The boxes at the top that matter."""

    moov: Box | None = None
    moof: Box | None = None  # the last one
    has_media: bool = False


def _walk(file: File) -> _Top:
    """Return what lies at the top, and see that the end is there.

    A recording of hours has thousands of fragments: what lies between its first ones and the last is skipped.
    """
    top = _Top()
    at = _walk_on(file, 0, top)
    if at < file.size_bytes and top.moof is not None:
        at = _walk_on(file, _last_fragment(file, after=top.moof.stop), top)
    if at < file.size_bytes:
        raise Scattered
    return top


def _walk_on(file: File, at: int, top: _Top) -> int:
    """Note the boxes from `at` on, and return where it has stopped: at the end, unless they are too many."""
    reads_max = file.reads + WALK_READS_MAX
    for _ in range(WALK_BOXES_MAX):
        room = file.size_bytes - at
        raw = file.between(at, at + 8)
        # Some cameras pad the end with what is no box.
        if not raw or (top.moov and top.has_media and not raw[4:8].isalnum()):
            return file.size_bytes
        if room < 8 or (room < 16 and raw[:4] == b"\0\0\0\x01"):
            raise NotPlayable(f"The file is cut short: it ends within a header. {AGAIN}")
        kind, header, size = file.header(at, room)
        if size > room:
            raise NotPlayable(f"The file is cut short: {size - room:,} bytes are missing at its end. {AGAIN}")
        _note(top, Box(kind, at + header, at + size))
        at += size
        if file.reads >= reads_max:
            break
    return at


def _last_fragment(file: File, *, after: int) -> int:
    """Return where the last fragment of a file with too many of them begins. Raises NotPlayable."""
    sign = file.last(_MOOF, after=after)
    if sign is None:
        raise NotPlayable(f"The length of this fragmented MP4 cannot be told. {REMUX}")
    return sign - 4


def _note(top: _Top, box: Box) -> None:
    if box.kind == b"moov":
        top.moov = top.moov or box
    elif box.kind == b"moof":
        top.moof = box
    elif box.kind == b"mdat":
        top.has_media = True


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


def _movie(file: File, top: _Top) -> Movie:
    if top.moov is None:
        raise NotPlayable(f"The file has no index (moov): its recording or upload was not finished. {AGAIN}")
    _check_index(top.moov)
    traks = (box for box in file.children(top.moov) if box.kind == b"trak")
    tracks = [_track(file, trak) for trak in islice(traks, TRACKS_MAX)]
    video = next((track for track in tracks if track.kind == b"vide"), None)
    if video is None:
        raise NotPlayable(f"There is no video in this file. {NOT_A_VIDEO}")
    _check_video(video)
    duration_s = _duration_s(file, top.moov, top.moof, tracks) or video.duration_s
    _check_duration(duration_s)
    return Movie(duration_s=duration_s, width=video.width, height=video.height)


def _check_index(index: Box) -> None:
    if index.size_bytes > INDEX_BYTES_MAX:
        raise NotPlayable(f"The file's index is too large to be that of a real video. {REMUX}")


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


def _duration_s(file: File, moov: Box, moof: Box | None, tracks: list[_Track]) -> float:
    """Return the movie's length; of a fragmented one what its header promises, else where it ends."""
    timescale, duration = _time(_required(file, moov, b"mvhd"))
    mvex = file.find(moov, b"mvex")
    if mvex is not None:
        mehd = file.find(mvex, b"mehd")
        if mehd is not None:
            body = file.load(mehd)
            duration = struct.unpack_from(">Q" if body[0] else ">I", body, 4)[0]
        elif moof is not None:
            return _fragment_end_s(file, moof, mvex, tracks)
    return float(duration / timescale) if timescale else 0.0


def _time(body: bytes) -> tuple[int, int]:
    """Return (timescale, duration) of an mvhd or mdhd; a duration of all ones means unknown: 0."""
    timescale, duration = struct.unpack_from(">IQ" if body[0] else ">II", body, 20 if body[0] else 12)
    unknown = (1 << (64 if body[0] else 32)) - 1
    return timescale, 0 if duration == unknown else duration


def _track(file: File, trak: Box) -> _Track:
    tkhd = _required(file, trak, b"tkhd")
    timescale, duration = _time(_required(file, trak, b"mdia", b"mdhd"))
    kind = _required(file, trak, b"mdia", b"hdlr")[8:12]
    (track_id,) = struct.unpack_from(">I", tkhd, 20 if tkhd[0] else 12)
    codec, width, height = _picture(file, trak, tkhd) if kind == b"vide" else ("", 0, 0)
    return _Track(
        id=track_id,
        kind=kind,
        timescale=timescale,
        duration_s=duration / timescale if timescale else 0.0,
        width=width,
        height=height,
        codec=codec,
    )


def _required(file: File, parent: Box, *path: bytes) -> bytes:
    """Return what a box holds that must be there. Raises Damaged."""
    box = file.find(parent, *path)
    if box is None:
        raise Damaged
    return file.load(box)


def _picture(file: File, trak: Box, tkhd: bytes) -> tuple[str, int, int]:
    """Return codec, width and height, as stored: the track header's size may be stretched."""
    stsd = file.find(trak, b"mdia", b"minf", b"stbl", b"stsd")
    entry = next(file.children(stsd, skip=8), None) if stsd is not None else None
    if entry is None:
        raise Damaged
    width, height = struct.unpack_from(">HH", file.load(entry), 24)
    matrix = struct.unpack_from(">9i", tkhd, 52 if tkhd[0] else 40)
    if not matrix[0] and not matrix[4] and matrix[1] and matrix[3]:  # turned by 90 or 270 degrees
        width, height = height, width
    return entry.kind.decode("latin-1"), width, height


# --- fragments ----------------------------------------------------------------------------------------


def _fragment_end_s(file: File, moof: Box, mvex: Box, tracks: list[_Track]) -> float:
    """Return when a fragment ends: the start it names plus its samples' durations."""
    _check_index(moof)
    timescales = {track.id: track.timescale for track in tracks if track.timescale}
    trexes = (file.load(box) for box in file.children(mvex) if box.kind == b"trex")
    defaults = dict(struct.unpack_from(">I4xI", body, 4) for body in trexes)
    trafs = [box for box in file.children(moof) if box.kind == b"traf"]
    ends = [_end_s(file, traf, timescales, defaults) for traf in trafs]
    if not any(ends):
        raise NotPlayable(f"The length of this fragmented MP4 cannot be told. {REMUX}")
    return max(ends)


def _end_s(file: File, traf: Box, timescales: dict[int, int], defaults: dict[int, int]) -> float:
    """Return when this track's part of the fragment ends, or 0 when it does not tell."""
    found = file.find(traf, b"tfhd"), file.find(traf, b"tfdt")
    if found[0] is None or found[1] is None:
        return 0.0
    tfhd, tfdt = file.load(found[0]), file.load(found[1])
    (track_id,) = struct.unpack_from(">I", tfhd, 4)
    (start,) = struct.unpack_from(">Q" if tfdt[0] else ">I", tfdt, 4)
    default = _default_duration(tfhd, defaults.get(track_id, 0))
    runs = sum(_run_duration(file, box, default) for box in file.children(traf) if box.kind == b"trun")
    return float((start + runs) / timescales[track_id]) if track_id in timescales else 0.0


def _default_duration(tfhd: bytes, otherwise: int) -> int:
    """Return the duration of a sample that names none (tfhd flag 0x8, after two optional fields)."""
    (flags,) = struct.unpack_from(">I", tfhd)
    if not flags & 0x8:
        return otherwise
    at = 8 + (8 if flags & 0x1 else 0) + (4 if flags & 0x2 else 0)
    return int(struct.unpack_from(">I", tfhd, at)[0])


def _run_duration(file: File, trun: Box, default: int) -> int:
    flags, count = struct.unpack(">II", file.between(trun.start, trun.start + 8))
    if not flags & 0x100:  # no sample names its duration
        return int(count * default)
    first = trun.start + 8 + (4 if flags & 0x1 else 0) + (4 if flags & 0x4 else 0)
    stride = 4 * (flags >> 8 & 0xF).bit_count()  # a sample's duration comes first
    if first + count * stride > trun.stop:
        raise Damaged
    return file.total(first, first + count * stride, stride=stride)
