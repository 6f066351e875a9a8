"""Files that recorders, copies and lost connections damaged: accepted with a note, or refused."""

from __future__ import annotations

import struct

import pytest

from runner.mp4.movie import Movie, NotPlayable, look_into
from tests.support.boxes import boxes, found, replaced, table
from tests.support.generated import generated

PICTURE = "-f lavfi -i testsrc2=s=96x64:r={rate}:d={seconds}"
SOUND = "-f lavfi -i sine=d={seconds} -c:a aac"
H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 10"
FRAGMENTS = "-movflags frag_keyframe+empty_moov+default_base_moof"


def video(ffmpeg: str, more: str = "", *, rate: str = "25", seconds: float = 2, sound: bool = True) -> bytes:
    """Return an MP4; `more` are further arguments for the output."""
    source = PICTURE.format(rate=rate, seconds=seconds)
    tone = SOUND.format(seconds=seconds) if sound else ""
    return generated(ffmpeg, f"{source} {tone} {H264} {more}".split(), "a.mp4")


def look(data: bytes) -> Movie:
    return look_into(lambda start, stop: data[start:stop], size_bytes=len(data))


def refusal(data: bytes) -> str:
    with pytest.raises(NotPlayable) as refused:
        look(data)
    return str(refused.value)


def tops(data: bytes) -> list[tuple[bytes, int, int]]:
    """Return kind, start and end of the boxes at the top."""
    at, listed = 0, []
    for kind, body in boxes(data):
        listed.append((kind, at, at + 8 + len(body)))
        at += 8 + len(body)
    return listed


# --- lengths ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "seconds", "more"),
    [
        ("1", 10, ""),
        ("1/3", 15, ""),
        ("5", 6, ""),
        ("10", 3, ""),
        ("1", 1, ""),
        ("25", 0.2, ""),
        ("25", 0.04, ""),
        ("1", 8, "-bf 2 -preset medium"),
        ("24000/1001", 2.002, "-bf 2 -preset medium"),
        ("5", 6, FRAGMENTS),
        ("1", 6, f"{FRAGMENTS} -bf 2 -preset medium -g 2"),
    ],
)
def test_the_last_picture_counts(ffmpeg: str, rate: str, seconds: float, more: str) -> None:
    """Slide shows and screen recordings without sound: their length is more than the last picture's start."""
    found = look(video(ffmpeg, more, rate=rate, seconds=seconds, sound=False))
    assert found.duration_s == pytest.approx(seconds, abs=0.01)
    assert found.notes == ()


def test_an_edit_list_shows_a_part(ffmpeg: str) -> None:
    data = video(ffmpeg, sound=False)
    timescale = struct.unpack_from(">I", found(data, b"moov", b"trak", b"mdia", b"mdhd"), 12)[0]
    # Half a second of nothing, then what lies between 0.5 and 1.5 s.
    rows = struct.pack(">IiI", 500, -1, 1 << 16) + struct.pack(">IiI", 1000, timescale // 2, 1 << 16)
    elst = struct.pack(">I4sII", 16 + len(rows), b"elst", 0, 2) + rows
    assert look(replaced(data, {b"edts": elst})).duration_s == pytest.approx(1.5, abs=0.001)


def test_an_edit_list_that_promises_more_than_there_is_gives_a_note(ffmpeg: str) -> None:
    data = video(ffmpeg, sound=False)
    elst = struct.pack(">I4sII", 28, b"elst", 0, 1) + struct.pack(">IiI", 35_000, 0, 1 << 16)
    mvhd = bytearray(found(data, b"moov", b"mvhd"))
    struct.pack_into(">I", mvhd, 16, 35_000)
    seen = look(replaced(data, {b"edts": elst, b"mvhd": bytes(mvhd)}))
    assert seen.duration_s == pytest.approx(2.0, abs=0.01)
    assert seen.notes == ("The file promises 35.0 s, but it holds 2.0 s. Those are used.",)


# --- cut off ------------------------------------------------------------------------------------------


def test_a_fragmented_recording_is_taken_as_far_as_its_samples_are_whole(ffmpeg: str) -> None:
    data = video(ffmpeg, FRAGMENTS, seconds=4)
    media = [each for each in tops(data) if each[0] == b"mdat"]
    assert len(media) == 10
    _, start, stop = media[6]
    for cut, least_s in ((start + 4, 2.4), (start + 8, 2.4), (stop - 1, 2.7), (stop, 2.8)):
        seen = look(data[:cut])
        assert least_s - 0.01 <= seen.duration_s <= 2.9
        is_whole = cut == stop
        assert [note.startswith("The recording was cut off: ") for note in seen.notes] == [True] * (
            not is_whole
        )


def test_a_recording_whose_only_fragment_is_cut_is_taken(ffmpeg: str) -> None:
    data = video(ffmpeg, f"{FRAGMENTS} -g 1000", seconds=3)
    (_, start, stop), *_ = [each for each in tops(data) if each[0] == b"mdat"]
    seen = look(data[: start + (stop - start) // 2])
    assert 0.5 < seen.duration_s < 2.9
    assert f"Up to {seen.duration_s:.1f} s of it can be used" in seen.notes[0]
    assert "cut short" in refusal(data[: start + 10])


def test_a_recording_that_ends_within_the_index_of_a_fragment_ends_with_the_one_before(ffmpeg: str) -> None:
    data = video(ffmpeg, FRAGMENTS, seconds=4)
    fragments = [each for each in tops(data) if each[0] == b"moof"]
    whole = look(data[: fragments[5][1]])
    for cut in (fragments[5][1] + 5, fragments[5][1] + 60):
        seen = look(data[:cut])
        assert seen.duration_s == whole.duration_s
        assert "cut off" in seen.notes[0]


def test_a_recording_without_any_fragment_is_only_the_first_piece_of_a_stream(ffmpeg: str) -> None:
    data = video(ffmpeg, FRAGMENTS)
    (first, *_) = [each for each in tops(data) if each[0] == b"moof"]
    assert "only the first piece of a stream (an init segment)" in refusal(data[: first[1]])
    assert "without its first piece" in refusal(data[first[1] :])


@pytest.mark.parametrize("flags", ["", "-movflags +faststart"])
def test_a_plain_file_that_lacks_samples_is_refused(ffmpeg: str, flags: str) -> None:
    data = video(ffmpeg, flags)
    for missing in (1, 100, len(data) // 2):
        said = refusal(data[:-missing])
        assert said.startswith(("The file is cut short: ", "The file has no index"))
        assert said.endswith("Upload it again from a complete copy.")


def test_a_few_bytes_too_few_behind_the_last_sample_are_no_reason(ffmpeg: str) -> None:
    data = video(ffmpeg, "-movflags +faststart")
    whole = look(data)
    assert look(data + struct.pack(">I4s", 1000, b"free") + bytes(900)) == whole
    assert look(data + struct.pack(">I4s", 16, b"mdat") + bytes(3)) == whole
    (_, start, stop) = tops(data)[-1]
    longer = data[:start] + struct.pack(">I", stop - start + 7) + data[start + 4 :]
    assert look(longer) == whole


def test_an_extract_whose_index_names_what_is_not_there_is_refused(ffmpeg: str) -> None:
    """The media box has no size of its own, so only the index shows that something is missing."""
    data = video(ffmpeg, "-movflags +faststart", seconds=4)
    (_, start, stop) = tops(data)[-1]
    endless = data[:start] + struct.pack(">I", 0) + data[start + 4 :]
    assert look(endless) == look(data)
    cut = start + (stop - start) // 4
    assert f"{stop - cut:,} bytes are missing" in refusal(endless[:cut])


# --- what an index lacks ------------------------------------------------------------------------------


def test_an_index_without_sample_entries_is_refused_in_words(ffmpeg: str) -> None:
    data = video(ffmpeg, sound=False)
    assert "how its video is coded (stsd is missing)" in refusal(data.replace(b"stsd", b"free"))
    both = video(ffmpeg)
    last = both.rindex(b"stsd")
    assert "how its sound is coded" in refusal(both[:last] + b"free" + both[last + 4 :])


def test_a_movie_whose_media_is_in_another_file_is_refused(ffmpeg: str) -> None:
    data = video(ffmpeg, sound=False)
    alias = struct.pack(">I4sI", 30, b"alis", 0) + b"elsewhere.mp4".ljust(18, b"\0")
    assert "in another file" in refusal(replaced(data, {b"dref": struct.pack(">II", 0, 1) + alias}))


def test_a_file_of_too_many_tracks_is_refused(ffmpeg: str) -> None:
    data = video(ffmpeg, sound=False)
    moov = found(data, b"moov")
    trak = next(body for kind, body in boxes(moov) if kind == b"trak")
    more = (struct.pack(">I4s", 8 + len(trak), b"trak") + trak) * 16
    grown = data[: tops(data)[-1][1]] + struct.pack(">I4s", 8 + len(moov + more), b"moov") + moov + more
    assert "17 tracks, more than the 16 that are taken" in refusal(grown)


def test_more_pictures_than_a_machine_takes_are_refused(ffmpeg: str) -> None:
    data = video(ffmpeg, sound=False)
    many = 500_001
    tables = {
        b"edts": b"",
        b"stts": table((many, 1)),
        b"stsz": struct.pack(">III", 0, 1, many),
    }
    assert "about 500,001 pictures; at most 500,000" in refusal(replaced(data, tables))


def test_the_pictures_of_chapters_are_not_the_video(ffmpeg: str) -> None:
    """Podcast and lecture tools write a track of pictures that only the chapters use, sometimes first."""
    data = video(ffmpeg, sound=False)
    moov = found(data, b"moov")
    trak = next(body for kind, body in boxes(moov) if kind == b"trak")
    picture = bytearray(
        replaced(trak, {b"stsd": struct.pack(">II", 0, 1) + struct.pack(">I4s", 86, b"tiff") + bytes(78)})
    )
    struct.pack_into(">I", picture, picture.index(b"tkhd") + 16, 7)
    refers = trak + struct.pack(">I4sI4sI", 20, b"tref", 12, b"chap", 7)
    mvhd = next(body for kind, body in boxes(moov) if kind == b"mvhd")
    made = b"".join(
        struct.pack(">I4s", 8 + len(body), kind) + body
        for kind, body in ((b"mvhd", mvhd), (b"trak", bytes(picture)), (b"trak", refers))
    )
    grown = data[: tops(data)[-1][1]] + struct.pack(">I4s", 8 + len(made), b"moov") + made
    assert look(grown).width == 96
