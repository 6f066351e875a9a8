"""What an uploaded file is: a video that a machine can use, or a sentence that says what to do instead.

Reads only the boxes that matter (`boxes`), so it is cheap for a file of any size. A fragmented file is read
at its start and at its end. Must never trust a number in the file. What is taken is in `runner/media.py`.

Boxes: ISO/IEC 14496-12 (2022), 8; QuickTime File Format Specification (2012-08), "Movie Atoms".

One file, since it is one walk through the boxes. `tracks` and `fragments` read what is in them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from runner.media import (
    FRAMES_MAX,
    SOURCE_FRAME,
    SOURCE_PIXELS_MAX,
    SOURCE_S_MAX,
    SOURCE_SIDE_MAX,
    SOURCE_SIDE_MIN,
    STREAMS_MAX,
)
from runner.mp4 import codecs, fragments, kinds, tracks
from runner.mp4.boxes import Box, CutShort, Damaged, File, Read, Scattered
from runner.mp4.tracks import Samples, Track

INDEX_BYTES_MAX = 64 * 1024 * 1024  # of a moov, or of one moof; a day of video has less
WALK_BOXES_MAX, WALK_READS_MAX = 1_000, 24  # at the top, from the start and then near the end
LAST_FRAGMENTS_TRIED = 3  # from the end backwards; only the last one can be cut off
PROMISED_S = 1.0  # a header may promise so much more than there is without a note: editors round

REMUX = "Remux it first: ffmpeg -i in.mp4 -c copy -movflags +faststart out.mp4"
AGAIN = "Upload it again from a complete copy."

_MOOF = b"moof\0\0\0\x10mfhd"  # after its size: the start of a fragment, and of hardly anything else


class NotPlayable(Exception):
    """The file is not a video that is taken. The message is for the user."""


@dataclass(frozen=True, kw_only=True)
class Movie:
    """A video that is taken. Width and height are as shown, after the rotation that the file asks for.

    `notes` are sentences for the user about what could not be used of it.
    """

    duration_s: float
    width: int
    height: int
    frame_rate: float  # pictures per second, on average
    notes: tuple[str, ...] = ()


def look_into(read: Read, *, size_bytes: int) -> Movie:
    """Return what the MP4 or MOV holds. `read(start, stop)` returns those bytes of it.

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


def _check_kind(head: bytes) -> None:
    if not head:
        raise NotPlayable(f"The file is empty. {AGAIN}")
    if refusal := kinds.refusal(head):
        raise NotPlayable(refusal)


# --- the boxes at the top -----------------------------------------------------------------------------


@dataclass
class _Top:
    """The boxes at the top that matter, and how many bytes the last box lacks."""

    moov: Box | None = None
    first_moof: Box | None = None
    open_moof: Box | None = None  # the last one of the walk
    last_moof: Box | None = None  # the last one whose media follows, at least in part
    has_media: bool = False
    missing_bytes: int = 0
    is_cut: bool = False


def _walk(file: File) -> _Top:
    """Return what is at the top of the file.

    A recording of hours has thousands of fragments: what is between its first ones and its last is skipped.
    """
    top = _Top()
    at, before = _walk_on(file, 0, top), file.size_bytes
    for _ in range(LAST_FRAGMENTS_TRIED):
        if at >= file.size_bytes or top.first_moof is None:
            break
        known = top.last_moof
        before = _last_fragment(file, after=top.first_moof.stop, before=before)
        reached = _walk_on(file, before, top)
        if top.last_moof is not known:
            at = reached
    if at < file.size_bytes:
        raise Scattered
    if top.open_moof is not top.last_moof and top.open_moof is not None:  # its media is missing
        top.is_cut = True
    return top


def _walk_on(file: File, at: int, top: _Top) -> int:
    """Note the boxes from `at` on. Return where it stopped: at the end, unless there are too many boxes."""
    reads_max = file.reads + WALK_READS_MAX
    top.open_moof = None
    for _ in range(WALK_BOXES_MAX):
        room = file.size_bytes - at
        raw = file.between(at, at + 8)
        # Some cameras pad the end with bytes that are not a box.
        if not raw or (top.moov and top.has_media and not raw[4:8].isalnum()):
            return file.size_bytes
        if room < 8 or (room < 16 and raw[:4] == b"\0\0\0\1"):
            top.is_cut = True
            return file.size_bytes
        kind, header, size = file.header(at, room)
        if size > room:
            top.missing_bytes, top.is_cut = size - room, True
        _note(top, Box(kind, at + header, min(at + size, file.size_bytes)))
        at += size
        if at >= file.size_bytes:
            return file.size_bytes
        if file.reads >= reads_max:
            break
    return at


def _last_fragment(file: File, *, after: int, before: int) -> int:
    """Return where the last fragment between the two begins. Raises NotPlayable."""
    sign = file.last(_MOOF, after=after, before=before)
    if sign is None:
        raise NotPlayable(f"The length of this fragmented MP4 cannot be determined. {REMUX}")
    return sign - 4


def _note(top: _Top, box: Box) -> None:
    if box.kind == b"moov" and not top.is_cut:
        top.moov = top.moov or box
    elif box.kind == b"moof" and not top.is_cut:
        top.first_moof, top.open_moof = top.first_moof or box, box
    elif box.kind == b"mdat":
        top.has_media = True
        top.last_moof = top.open_moof or top.last_moof


# --- the movie ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Index:
    """The movie box, opened."""

    moov: Box
    timescale: int
    promised_s: float  # by the header; 0 if it does not say
    tracks: Sequence[Track]
    mvex: Box | None


def _movie(file: File, top: _Top) -> Movie:
    if top.moov is None:
        raise NotPlayable(_without_index(top))
    index = _index(file, top.moov)
    picture = _picture(index)
    _check_picture(picture)
    sound = next((track for track in index.tracks if track.kind == b"soun"), None)
    used = [track for track in (picture, sound) if track is not None]
    held = [
        tracks.samples(file, track, index.timescale, has_fragments=index.mvex is not None) for track in used
    ]
    is_fragmented = index.mvex is not None and top.first_moof is not None
    if sound is not None and (held[1].count or is_fragmented):
        _check_sound(sound)
    if is_fragmented:
        shown = _fragmented(file, top, index, held, picture.id)
    else:
        shown = _plain(file, top, index, held)
    _check_length(shown.duration_s, shown.frames)
    return Movie(
        duration_s=shown.duration_s,
        width=picture.width,
        height=picture.height,
        frame_rate=shown.frame_rate,
        notes=tuple(shown.notes),
    )


@dataclass(frozen=True)
class _Shown:
    """What a movie shows. The number of frames of a fragmented one is an estimate."""

    duration_s: float
    frames: float
    frame_rate: float
    notes: Sequence[str]


def _without_index(top: _Top) -> str:
    if top.first_moof is not None:
        return f"This is a piece of a stream (a media segment) without its first piece. {kinds.NOT_A_VIDEO}"
    if top.is_cut:
        return _cut_short(top)
    return f"The file has no index (moov): its recording or upload was not finished. {AGAIN}"


def _cut_short(top: _Top) -> str:
    if top.missing_bytes:
        return f"The file is cut short: {top.missing_bytes:,} bytes are missing at its end. {AGAIN}"
    return f"The file is cut short: it ends within a header. {AGAIN}"


def _index(file: File, moov: Box) -> _Index:
    _check_index(moov)
    traks = [box for box in islice(file.children(moov), STREAMS_MAX * 64) if box.kind == b"trak"]
    if len(traks) > STREAMS_MAX:
        raise NotPlayable(
            f"The file has {len(traks)} tracks, more than the {STREAMS_MAX} that are taken."
            " Export it with one track of picture and one of sound."
        )
    timescale, duration = tracks.time(tracks.required(file, moov, b"mvhd"))
    return _Index(
        moov,
        timescale,
        duration / timescale if timescale else 0.0,
        [tracks.read(file, trak) for trak in traks],
        file.find(moov, b"mvex"),
    )


def _picture(index: _Index) -> Track:
    """Return the first track of pictures that are not those of chapters. Raises NotPlayable."""
    chapters = {id_ for track in index.tracks for id_ in track.chapters}
    pictures = (track for track in index.tracks if track.kind == b"vide" and track.id not in chapters)
    found = next(pictures, None)
    if found is None:
        raise NotPlayable(f"There is no video in this file. {kinds.NOT_A_VIDEO}")
    return found


def _check_index(index: Box) -> None:
    if index.size_bytes > INDEX_BYTES_MAX:
        raise NotPlayable(f"The file's index is too large to be that of a real video. {REMUX}")


def _check_picture(picture: Track) -> None:
    _check_described(picture, "video")
    if refusal := codecs.picture_refusal(picture.tag, picture.entry):
        raise NotPlayable(refusal)
    width, height = picture.width, picture.height
    is_too_large = max(width, height) > SOURCE_SIDE_MAX or width * height > SOURCE_PIXELS_MAX
    if is_too_large or min(width, height) < SOURCE_SIDE_MIN:
        raise NotPlayable(
            f"The video is {width} x {height} pixels; each side must be at least {SOURCE_SIDE_MIN}, and all"
            f" at most {SOURCE_FRAME}, in either orientation. Resize it first."
        )


def _check_sound(sound: Track) -> None:
    _check_described(sound, "sound")
    if refusal := codecs.sound_refusal(sound.tag, sound.entry):
        raise NotPlayable(refusal)


def _check_described(track: Track, what: str) -> None:
    if not track.tag:
        raise NotPlayable(
            f"The file's index does not say how its {what} is coded (stsd is missing)."
            " Export it again as MP4."
        )
    if track.is_elsewhere:
        raise NotPlayable(
            f"The {what} of this movie is in another file. Export it as one self-contained movie."
        )


def _check_length(duration_s: float, frames: float) -> None:
    if not duration_s:
        raise NotPlayable(f"The video has no length: its index shows nothing of what was recorded. {AGAIN}")
    if duration_s > SOURCE_S_MAX:
        most = f"{SOURCE_S_MAX / 3600:.0f} hours"
        raise NotPlayable(
            f"The video claims to last {duration_s / 3600:,.1f} hours. Cut it to {most} at most."
        )
    if frames > FRAMES_MAX:
        raise NotPlayable(
            f"The video has about {frames:,.0f} pictures; at most {FRAMES_MAX:,} are taken. Cut it, or export"
            " it with fewer pictures a second."
        )


def _plain(file: File, top: _Top, index: _Index, held: Sequence[Samples]) -> _Shown:
    """Return what a file shows whose index names every sample.

    The samples must be there. Whether the last box is whole does not matter beyond that.
    """
    if index.mvex is not None and not held[0].count:
        if top.is_cut:
            raise NotPlayable(_cut_short(top))
        raise NotPlayable(
            "This is only the first piece of a stream (an init segment): it has no pictures. Upload the whole"
            " video as one MP4 or MOV."
        )
    if not held[0].count:
        raise NotPlayable(f"The video has no length: nothing was recorded. {AGAIN}")
    missing_bytes = max(each.end for each in held) - file.size_bytes
    if missing_bytes > 0:
        raise NotPlayable(
            f"The file is cut short: {max(missing_bytes, top.missing_bytes):,} bytes are missing at its end."
            f" {AGAIN}"
        )
    duration_s = max(each.duration_s for each in held)
    notes = _promise(index.promised_s, duration_s)
    return _Shown(duration_s, held[0].count, _rate(held[0].count, held[0].media_s), notes)


def _rate(pictures: float, lasting_s: float) -> float:
    return pictures / lasting_s if lasting_s else 0.0


def _promise(promised_s: float, held_s: float) -> list[str]:
    if promised_s <= held_s + PROMISED_S:
        return []
    return [f"The file promises {promised_s:,.1f} s, but it holds {held_s:,.1f} s. Those are used."]


# --- fragments ----------------------------------------------------------------------------------------


def _fragmented(file: File, top: _Top, index: _Index, held: Sequence[Samples], picture_id: int) -> _Shown:
    """Return what a fragmented file shows.

    A recording that was cut off is taken as far as its samples are whole.
    """
    in_index_s = max(each.duration_s for each in held) if held[0].count else 0.0
    if top.last_moof is None:
        duration_s, rate = in_index_s, _rate(held[0].count, held[0].media_s)
    else:
        first, last = _first_and_last(file, top, index, picture_id)
        start_s = 0.0 if held[0].count else first.start_s  # a piece of a stream starts later than 0
        duration_s = last.end_s - start_s
        rate = _rate(first.pictures + last.pictures, first.pictures_s + last.pictures_s)
    frames = max(rate * duration_s, held[0].count)
    if not top.is_cut:
        return _Shown(duration_s, frames, rate, _promise(_promised_s(file, index), duration_s))
    if not duration_s:
        raise NotPlayable(_cut_short(top))
    return _Shown(duration_s, frames, rate, [_cut_off(top, duration_s)])


def _first_and_last(
    file: File, top: _Top, index: _Index, picture_id: int
) -> tuple[fragments.Fragment, fragments.Fragment]:
    """Return the first fragment and the last one; all as one where they do not name their starts."""
    assert index.mvex is not None
    assert top.first_moof is not None
    assert top.last_moof is not None
    _check_index(top.first_moof)
    _check_index(top.last_moof)
    timescales = {track.id: track.timescale for track in index.tracks if track.timescale}
    known = fragments.Tracks(mvex=index.mvex, timescales=timescales, picture=picture_id)
    stop = file.size_bytes if top.is_cut else None
    first = fragments.read(file, top.first_moof, known)
    last = fragments.read(file, top.last_moof, known, stop=stop)
    if first is not None and last is not None:
        return first, last
    if top.is_cut:
        raise NotPlayable(f"The length of this fragmented MP4 cannot be determined. {REMUX}")
    whole = fragments.read_all(file, top.first_moof, known)
    return whole, whole


def _cut_off(top: _Top, duration_s: float) -> str:
    what = f"{top.missing_bytes:,} bytes are" if top.missing_bytes else "a part is"
    return (
        f"The recording was cut off: {what} missing at its end. Up to {duration_s:,.1f} s of it can be used."
    )


def _promised_s(file: File, index: _Index) -> float:
    mehd = file.find(index.mvex, b"mehd") if index.mvex is not None else None
    if mehd is None or not index.timescale:
        return 0.0
    body = file.load(mehd)
    return float(struct.unpack_from(">Q" if body[0] else ">I", body, 4)[0] / index.timescale)
