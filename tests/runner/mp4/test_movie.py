"""The check of an MP4, on real, broken and hostile files."""

from __future__ import annotations

import struct
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.limits import INPUT_OPTIONS, excess
from runner.media import SOURCE_S_MAX
from runner.mp4.boxes import READS_MAX
from runner.mp4.movie import INDEX_BYTES_MAX, Movie, NotPlayable, look_into
from tests.support.boxes import replaced
from tests.support.generated import generated

CLIPS = Path(__file__).resolve().parents[4] / "shared" / "clips"
VIDEO = ("-f", "lavfi", "-i", "testsrc=size=320x180:rate=25:duration=2")
SOUND = ("-f", "lavfi", "-i", "sine=duration=2")
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
AAC = ("-c:a", "aac", "-shortest")

Make = Callable[..., bytes]


@pytest.fixture(scope="session")
def make(ffmpeg: str) -> Make:
    """Return a function that runs FFmpeg on `arguments` and gives the bytes of the file `name`."""
    return lambda name, *arguments: generated(ffmpeg, arguments, name)


@pytest.fixture
def plain(make: Make) -> bytes:
    return make("plain.mp4", *VIDEO, *SOUND, *H264, *AAC)


@pytest.fixture
def faststart(make: Make) -> bytes:
    return make("fast.mp4", *VIDEO, *SOUND, *H264, *AAC, "-movflags", "+faststart")


def look(data: bytes) -> Movie:
    return look_into(lambda start, stop: data[start:stop], size_bytes=len(data))


def refusal(data: bytes) -> str:
    with pytest.raises(NotPlayable) as refused:
        look(data)
    return str(refused.value)


def box(kind: bytes, body: bytes = b"", *, size: int | None = None) -> bytes:
    return struct.pack(">I4s", 8 + len(body) if size is None else size, kind) + body


@contextmanager
def counting_steps() -> Iterator[list[int]]:
    """Yield the number of bytecode instructions that Python runs in the block, in a list of one."""
    steps, before = [0], sys.gettrace()

    def count(frame: FrameType, event: str, _: Any) -> Any:
        frame.f_trace_opcodes = True
        steps[0] += event == "opcode"
        return count

    sys.settrace(count)
    try:
        yield steps
    finally:
        sys.settrace(before)


def patched(data: bytes, kind: bytes, offset: int, new: bytes) -> bytes:
    """Return `data` with `new` at `offset` within the first box of `kind`, counted after its kind."""
    at = data.index(kind) + 4 + offset
    return data[:at] + new + data[at + len(new) :]


# --- playable -------------------------------------------------------------------------------------


def test_the_index_is_found_at_either_end(plain: bytes, faststart: bytes) -> None:
    expected = Movie(duration_s=2.0, width=320, height=180, frame_rate=25.0)
    assert plain.index(b"moov") > plain.index(b"mdat")
    assert faststart.index(b"moov") < faststart.index(b"mdat")
    for data in (plain, faststart):
        found = look(data)
        assert found.duration_s == pytest.approx(2.0, abs=0.1)
        assert Movie(**{**vars(found), "duration_s": 2.0}) == expected


def test_a_quicktime_file(make: Make) -> None:
    found = look(make("a.mov", *VIDEO, *SOUND, *H264, *AAC))
    assert (found.width, found.height) == (320, 180)


def test_another_codec(make: Make) -> None:
    assert look(make("m.mov", *VIDEO, "-c:v", "mjpeg", "-pix_fmt", "yuvj420p")).width == 320


def test_a_silent_video(make: Make) -> None:
    assert look(make("silent.mp4", *VIDEO, *H264)).width == 320


@pytest.mark.parametrize(("degrees", "size"), [(90, (180, 320)), (270, (180, 320)), (180, (320, 180))])
def test_a_video_turned_by_its_metadata(
    make: Make, plain: bytes, tmp_path: Path, degrees: int, size: tuple[int, int]
) -> None:
    (tmp_path / "plain.mp4").write_bytes(plain)
    turn = ("-display_rotation", str(degrees), "-i", str(tmp_path / "plain.mp4"), "-c", "copy")
    found = look(make("turned.mp4", *turn))
    assert (found.width, found.height) == size


@pytest.mark.parametrize(
    "flags", ["frag_keyframe", "frag_keyframe+empty_moov", "frag_every_frame+empty_moov", "dash+empty_moov"]
)
def test_a_fragmented_file_has_its_true_length(make: Make, flags: str) -> None:
    data = make("frag.mp4", *VIDEO, *SOUND, *H264, "-g", "10", *AAC, "-movflags", flags)
    assert b"moof" in data
    assert look(data).duration_s == pytest.approx(2.0, abs=0.1)


def test_a_fragmented_file_has_the_length_of_its_fragments_and_a_note_of_what_it_promises(make: Make) -> None:
    data = make("frag.mp4", *VIDEO, *H264, "-movflags", "frag_keyframe+empty_moov")
    mvex = data.index(b"mvex") - 4
    (size,) = struct.unpack_from(">I", data, mvex)
    mehd = box(b"mehd", struct.pack(">II", 0, 5_000))
    grown = data[:mvex] + struct.pack(">I", size + len(mehd)) + b"mvex" + mehd + data[mvex + 8 :]
    moov = data.index(b"moov") - 4
    (size,) = struct.unpack_from(">I", grown, moov)
    grown = grown[:moov] + struct.pack(">I", size + len(mehd)) + grown[moov + 4 :]
    found = look(grown)
    assert found.duration_s == pytest.approx(2.0)
    assert found.notes == ("The file promises 5.0 s, but it holds 2.0 s. Those are used.",)


def test_padding_after_the_last_box_does_no_harm(plain: bytes, faststart: bytes) -> None:
    for padding in (b"\0", b"\0" * 7, b"\0" * 1000, b"\xff" * 100):
        assert look(plain + padding) == look(plain)
        assert look(faststart + padding) == look(faststart)


def test_a_media_box_of_64_bits_or_without_a_size(faststart: bytes) -> None:
    at = faststart.index(b"mdat") - 4
    before, media = faststart[:at], faststart[at + 8 :]
    assert look(before + box(b"mdat", media, size=0)) == look(faststart)
    large = struct.pack(">I4sQ", 1, b"mdat", 16 + len(media))
    assert look(before + large + media) == look(faststart)


def test_only_a_little_of_a_large_file_is_read(plain: bytes) -> None:
    """The media is 10 GiB of nothing; only what is around it is there."""
    at, (media,) = plain.index(b"mdat") - 4, struct.unpack_from(">I", plain, plain.index(b"mdat") - 4)
    hole = 10 << 30
    start = plain[:at] + struct.pack(">I4sQ", 1, b"mdat", 16 + hole)
    end = plain[at + media :]
    asked = []

    def read(begin: int, stop: int) -> bytes:
        asked.append(stop - begin)
        stop = min(stop, len(start) + hole + len(end))
        if begin >= len(start) + hole:
            return end[begin - len(start) - hole : stop - len(start) - hole]
        return (start + bytes(stop))[begin:stop]

    assert look_into(read, size_bytes=len(start) + hole + len(end)) == look(plain)
    assert sum(asked) < 100_000
    assert len(asked) < 6


class Recording:
    """A fragmented recording whose media is a hole; counts what is read of it."""

    def __init__(self, *, fragments: int, media_bytes: int, samples: int = 60) -> None:
        self.reads: list[int] = []
        self._starts: list[int] = []
        self._pieces: list[bytes] = []
        self.size_bytes = 0
        self._add(HEAD)
        for number in range(fragments):
            self._add(fragment(number, samples) + struct.pack(">I4s", 8 + media_bytes, b"mdat"), media_bytes)
        self.duration_s = fragments * samples * 40 / 1000

    def _add(self, unit: bytes, hole_bytes: int = 0) -> None:
        self._starts.append(self.size_bytes)
        self._pieces.append(unit)
        self.size_bytes += len(unit) + hole_bytes

    def read(self, start: int, stop: int) -> bytes:
        self.reads.append(stop - start)
        found = bytearray(min(stop, self.size_bytes) - start)
        for index in range(max(0, bisect_right(self._starts, start) - 1), len(self._starts)):
            at = self._starts[index] - start
            if at >= len(found):
                break
            unit = self._pieces[index][max(0, -at) : len(found) - at]
            found[max(0, at) : max(0, at) + len(unit)] = unit
        return bytes(found)


def full(kind: bytes, version: int, flags: int, body: bytes) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags) + body)


def track(*tables: bytes) -> bytes:
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    tkhd = full(b"tkhd", 0, 3, struct.pack(">5I16x", 0, 0, 1, 0, 0) + matrix + bytes(8))
    entry = box(b"avc1", bytes(24) + struct.pack(">HH", 320, 180) + bytes(50))
    stsd = full(b"stsd", 0, 0, struct.pack(">I", 1) + entry)
    mdhd = full(b"mdhd", 0, 0, struct.pack(">5I", 0, 0, 1000, 0, 0))
    hdlr = full(b"hdlr", 0, 0, bytes(4) + b"vide" + bytes(13))
    return box(
        b"trak", tkhd + box(b"mdia", mdhd + hdlr + box(b"minf", box(b"stbl", stsd + b"".join(tables))))
    )


def one_picture(ticks: int, *, at: int = 0) -> bytes:
    """Return the tables of one picture of 1 byte that lasts so many thousandths of a second."""
    return (
        full(b"stts", 0, 0, struct.pack(">3I", 1, 1, ticks))
        + full(b"stsc", 0, 0, struct.pack(">4I", 1, 1, 1, 1))
        + full(b"stsz", 0, 0, struct.pack(">3I", 0, 1, 1))
        + full(b"stco", 0, 0, struct.pack(">2I", 1, at))
    )


def runs(*bodies: bytes, number: int = 0, samples: int = 0) -> bytes:
    """Return a fragment's index, `number` fragments of so many samples after the start."""
    tfhd = full(b"tfhd", 0, 0x20000, struct.pack(">I", 1))
    tfdt = full(b"tfdt", 1, 0, struct.pack(">Q", number * samples * 40))
    truns = b"".join(full(b"trun", 0, 0x301, body) for body in bodies)
    mfhd = full(b"mfhd", 0, 0, struct.pack(">I", number + 1))
    return box(b"moof", mfhd + box(b"traf", tfhd + tfdt + truns))


def fragment(number: int, samples: int) -> bytes:
    """Return a fragment's index; its media of 9 bytes a sample begins behind the header of an mdat."""
    made = b""
    for _ in range(2):  # the index holds its own length
        body = struct.pack(">II", samples, len(made) + 8) + struct.pack(">II", 40, 9) * samples
        made = runs(body, number=number, samples=samples)
    return made


def of_one_picture(tables: bytes) -> bytes:
    return HEAD[:20] + box(b"mdat", b"x") + box(b"moov", MVHD + track(tables))


TIMED = struct.pack(">II", 1000, 0)  # the time scale in `mvhd` and `mdhd`, and no duration
MVHD = full(b"mvhd", 0, 0, struct.pack(">4I", 0, 0, 1000, 0) + bytes(80))
MVEX = box(b"mvex", full(b"trex", 0, 0, struct.pack(">5I", 1, 1, 40, 0, 0)))
HEAD = box(b"ftyp", b"isom\0\0\0\0isom") + box(b"moov", MVHD + track() + MVEX)


@pytest.mark.parametrize(
    ("fragments", "media_bytes", "samples"),
    [(3_500, 600_000, 60), (80_000, 26_000, 1), (85, 25_000_000, 250), (34, 64_000_000, 750)],
    ids=["a fragment every 2 s", "one for each frame", "25 MB each", "64 MB each"],
)
def test_a_fragmented_recording_of_2_gib_is_taken_with_its_true_length_by_few_reads(
    fragments: int, media_bytes: int, samples: int
) -> None:
    recording = Recording(fragments=fragments, media_bytes=media_bytes, samples=samples)
    assert recording.size_bytes > 1.9 * 2**30
    found = look_into(recording.read, size_bytes=recording.size_bytes)
    assert found.duration_s == pytest.approx(recording.duration_s, abs=0.001)
    assert len(recording.reads) <= READS_MAX
    assert max(recording.reads) <= 8 * 2**20


def test_a_recording_of_many_fragments_that_was_cut_off_is_taken_as_far_as_it_is_whole() -> None:
    recording = Recording(fragments=3_500, media_bytes=600_000)
    found = look_into(recording.read, size_bytes=recording.size_bytes - 599_991)
    assert found.duration_s == pytest.approx(recording.duration_s - 60 * 0.04 + 0.04, abs=0.001)
    (note,) = found.notes
    assert note.startswith("The recording was cut off: 599,991 bytes are missing at its end.")
    assert len(recording.reads) <= READS_MAX


def test_media_that_looks_like_a_fragment_is_not_mistaken_for_the_last_one() -> None:
    sign = b"moof\0\0\0\x10free"
    data = HEAD + b"".join(fragment(n, 1) + box(b"mdat", sign * 20_000) for n in range(100))
    assert look(data).duration_s == pytest.approx(4.0, abs=0.001)


@pytest.mark.parametrize("fields", range(1, 5))
def test_the_durations_of_a_long_run_are_added_up_in_any_surroundings(fields: int) -> None:
    count, flags = 400_000, (0x100, 0x300, 0x700, 0xF00)[fields - 1]
    durations = [n % 7 for n in range(count)]
    samples = b"".join(struct.pack(f">{fields}I", each, *[2**32 - 1] * (fields - 1)) for each in durations)
    tfhd, tfdt = full(b"tfhd", 0, 0, struct.pack(">I", 1)), full(b"tfdt", 0, 0, struct.pack(">I", 500))
    trun = full(b"trun", 0, flags, struct.pack(">I", count) + samples)
    data = HEAD + box(b"moof", box(b"traf", tfhd + tfdt + trun)) + box(b"mdat", b"x")
    assert look(data).duration_s == pytest.approx(sum(durations) / 1000)  # a piece begins later than at 0


def test_many_small_boxes_are_read_together() -> None:
    mvhd = full(b"mvhd", 0, 0, struct.pack(">4I", 0, 0, 1000, 1000) + bytes(80))
    plain = box(b"moov", mvhd + track(one_picture(1000)))
    data = HEAD[:20] + box(b"mdat", bytes(70_000)) + box(b"free") * 990 + plain
    asked: list[int] = []

    def read(start: int, stop: int) -> bytes:
        asked.append(stop - start)
        return data[start:stop]

    assert look_into(read, size_bytes=len(data)).duration_s == 1.0
    assert len(asked) <= 3


def test_a_large_index_is_not_read_as_a_whole() -> None:
    mvhd = full(b"mvhd", 0, 0, struct.pack(">4I", 0, 0, 1000, 1000) + bytes(80))
    moov = mvhd + track(one_picture(1000))
    data = HEAD[:20] + box(b"moov", moov + box(b"free", bytes(60 * 2**20))) + box(b"mdat", b"x")
    asked: list[int] = []

    def read(start: int, stop: int) -> bytes:
        asked.append(stop - start)
        return data[start:stop]

    assert look_into(read, size_bytes=len(data)).width == 320
    assert sum(asked) < 200_000


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the real clips are not here")
@pytest.mark.parametrize(
    ("name", "width", "height", "duration_s"),
    [
        ("bunny-720p-5s.mp4", 1280, 720, 5),
        ("launch-720p-2997.mp4", 1280, 720, 5),
        ("landscape-1080p.mp4", 1920, 1080, 17),
        ("vertical-1080x1920.mp4", 1080, 1920, 20),
    ],
)
def test_real_footage(name: str, width: int, height: int, duration_s: int) -> None:
    found = look((CLIPS / name).read_bytes())
    assert (found.width, found.height) == (width, height)
    assert found.duration_s == pytest.approx(duration_s, abs=0.6)


# --- not playable ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("a.webm", (*VIDEO, "-c:v", "libvpx", "-deadline", "realtime"), "This is a WebM. Convert it to MP4"),
        ("a.mkv", (*VIDEO, *H264), "Matroska file (MKV). Convert it to MP4 first."),
        ("a.avi", (*VIDEO, "-c:v", "mpeg4"), "This is an AVI. Convert it to MP4 first."),
        ("a.ts", (*VIDEO, *H264), "MPEG transport stream (TS). Convert it to MP4 first."),
        ("a.m2ts", (*VIDEO, *H264, "-mpegts_m2ts_mode", "1"), "MPEG transport stream (TS)."),
        ("a.flv", (*VIDEO, *H264), "Flash video. Convert it"),
        ("a.wmv", (*VIDEO,), "Windows Media file. Convert it"),
        ("a.mpg", (*VIDEO,), "MPEG program stream. Convert it"),
        ("a.h264", (*VIDEO, *H264), "bare video stream"),
        ("a.ogg", (*SOUND, "-c:a", "flac"), "Ogg file"),
        ("a.mp3", (*SOUND,), "This is an MP3: it has sound but no video."),
        ("a.wav", (*SOUND,), "WAV file: it has sound but no video"),
        ("a.flac", (*SOUND,), "FLAC file: it has sound but no video"),
        ("a.gif", (*VIDEO,), "GIF picture"),
        ("a.png", (*VIDEO, "-frames:v", "1"), "PNG picture"),
        ("a.jpg", (*VIDEO, "-frames:v", "1"), "JPEG picture"),
        ("a.m4a", (*SOUND,), "There is no video in this file"),
        ("sound.mp4", (*SOUND, *AAC), "There is no video in this file"),
    ],
)
def test_another_format_is_named(make: Make, name: str, arguments: tuple[str, ...], sentence: str) -> None:
    assert sentence in refusal(make(name, *arguments))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "The file is empty."),
        (b"hello\n", "This is a text file."),
        ("Grüße, 世界\n".encode() * 2000, "This is a text file."),
        (b"<!DOCTYPE html><html></html>", "This is a text file."),
        (b"#EXTM3U\n#EXT-X-VERSION:3\n", "This is an HLS playlist"),
        (b"\xff\xfb\x90\x64" + b"\0" * 100, "This is an MP3"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "WebP picture"),
        (box(b"ftyp", b"heic\0\0\0\0mif1heic"), "HEIC or AVIF picture"),
        (b"%PDF-1.7\n", "PDF document"),
        (b"Rar!\x1a\x07\x01\x00", "RAR archive. Unpack it"),
        (b"7z\xbc\xaf\x27\x1c\x00\x04", "7z archive. Unpack it"),
        (b"\x1f\x8b\x08\x00\x00\x00", "gzip archive. Unpack it"),
        (b"II*\x00\x08\x00\x00\x00", "TIFF or RAW picture"),
        (b"MM\x00*\x00\x00\x00\x08", "TIFF or RAW picture"),
        (b"#!AMR\n<\x91", "AMR recording: it has sound but no video"),
        (b"FORM\x00\x00\x10\x00AIFF", "AIFF file: it has sound but no video"),
        (b"\xff\xf1\x50\x80\x02", "AAC file: it has sound but no video"),
        (b"PK\x03\x04" + b"\0" * 30, "This is a ZIP"),
        (bytes(range(128, 256)) * 9, "This is not an MP4 or MOV file."),
        (b"\0" * 5000, "This is not an MP4 or MOV file."),
    ],
)
def test_a_file_that_is_no_video_is_named(data: bytes, sentence: str) -> None:
    assert sentence in refusal(data)


@pytest.mark.parametrize("tenths", range(1, 10))
def test_a_truncated_file_is_cut_short(plain: bytes, faststart: bytes, tenths: int) -> None:
    for data in (plain, faststart):
        said = refusal(data[: len(data) * tenths // 10])
        assert said.startswith("The file is cut short: ")
        assert said.endswith("Upload it again from a complete copy.")


def test_no_cut_anywhere_counts_as_complete(plain: bytes, faststart: bytes) -> None:
    for data in (plain, faststart):
        for length in range(0, len(data), 97):
            with pytest.raises(NotPlayable):
                look(data[:length])


def test_a_recording_without_its_index(plain: bytes) -> None:
    assert "no index (moov)" in refusal(plain[: plain.index(b"moov") - 4])


def test_a_read_that_falls_short_is_a_file_cut_short(plain: bytes) -> None:
    with pytest.raises(NotPlayable, match="cut short"):
        look_into(lambda start, stop: plain[start : stop - 1], size_bytes=len(plain))


def test_a_video_of_no_length() -> None:
    for tables in (one_picture(0), b""):
        assert "The video has no length" in refusal(of_one_picture(tables))


def test_a_timescale_of_zero_divides_nothing(faststart: bytes) -> None:
    assert look(patched(faststart, b"mvhd", 12, b"\0\0\0\0")).duration_s == pytest.approx(2.0, abs=0.1)
    assert "The video has no length" in refusal(of_one_picture(one_picture(1000)).replace(TIMED, bytes(8)))


def test_a_video_that_a_machine_would_find_too_long_is_refused_before() -> None:
    for seconds, is_taken in ((SOURCE_S_MAX, True), (SOURCE_S_MAX + 1, False), (2**32 // 1000, False)):
        data = of_one_picture(one_picture(int(seconds * 1000)))
        if is_taken:
            assert look(data).duration_s == seconds
        else:
            assert "Cut it to 4 hours at most" in refusal(data)


@pytest.mark.parametrize(
    ("width", "height", "is_taken"),
    [
        *[(8192, 4320, True), (4320, 8192, True), (5948, 5948, True)],
        *[
            (8192, 4322, False),
            (4322, 8192, False),
            (8192, 8192, False),
            (8194, 64, False),
            (64, 8194, False),
        ],
    ],
)
def test_upload_and_machine_take_the_same_frames(
    faststart: bytes, width: int, height: int, is_taken: bool
) -> None:
    entry = faststart.index(b"avc1", faststart.index(b"stsd")) - faststart.index(b"stsd")
    sized = patched(faststart, b"stsd", entry + 24, struct.pack(">HH", width, height))
    by_machine = (
        width * height <= int(INPUT_OPTIONS[INPUT_OPTIONS.index("-max_pixels") + 1])
        and excess(width=width, height=height, duration_s=1, frames=1) == ""
    )
    assert by_machine is is_taken
    if is_taken:
        assert (look(sized).width, look(sized).height) == (width, height)
    else:
        assert "at most 8192x4320" in refusal(sized)


@pytest.mark.parametrize("side", [0, 1, 8193, 65535])
def test_absurd_dimensions(faststart: bytes, side: int) -> None:
    entry = faststart.index(b"avc1", faststart.index(b"stsd")) - faststart.index(b"stsd")
    said = refusal(patched(faststart, b"stsd", entry + 24, struct.pack(">H", side)))
    assert f"{side} x 180 pixels" in said


def test_a_protected_video(faststart: bytes) -> None:
    entry = faststart.index(b"avc1", faststart.index(b"stsd")) - faststart.index(b"stsd") - 4
    assert "copy-protected" in refusal(patched(faststart, b"stsd", entry, b"encv"))


def test_fragments_that_do_not_name_their_starts_are_added_up(make: Make) -> None:
    fragments = ["-g", "10", "-movflags", "frag_keyframe+empty_moov"]
    data = make("frag.mp4", *VIDEO, *SOUND, *H264, *AAC, *fragments)
    assert data.count(b"moof") > 3
    untimed = data.replace(b"tfdt", b"free")
    found, right = look(untimed), look(data)
    assert found.duration_s == pytest.approx(right.duration_s, abs=0.001)
    assert found.frame_rate == pytest.approx(25, abs=0.5)
    assert "Remux it first" in refusal(untimed[: len(data) * 2 // 3])


def test_pictures_are_counted_though_the_sound_has_more_samples(make: Make) -> None:
    pcm = ["-c:a", "pcm_s16le", "-g", "10", "-movflags", "frag_keyframe+empty_moov"]
    for name, more in (("frag.mov", pcm), ("plain.mov", pcm[:2])):
        assert look(make(name, *VIDEO, *SOUND, *H264, *more)).frame_rate == pytest.approx(25, abs=0.1)


def test_an_edit_of_no_length_shows_nothing_but_in_a_file_with_fragments_all(make: Make) -> None:
    table = struct.pack(">I4sII", 28, b"elst", 0, 1) + struct.pack(">IiI", 0, 0, 1 << 16)
    plain = make("plain.mp4", *VIDEO, *H264)
    assert "its index shows nothing" in refusal(replaced(plain, {b"edts": table}))
    fragments = make("frag.mp4", *VIDEO, *H264, "-movflags", "frag_keyframe+empty_moov")
    assert look(fragments).duration_s == 2.0


# --- hostile --------------------------------------------------------------------------------------


def test_pieces_that_lie_far_apart_are_refused_after_so_many_reads() -> None:
    asked: list[int] = []
    unit = 2**20
    boxes = struct.pack(">I4s", unit, b"free")

    def read(start: int, stop: int) -> bytes:
        asked.append(stop - start)
        found = bytearray(stop - start)
        for at in range(-start % unit, len(found), unit):
            found[at : at + 8] = boxes if start + at else struct.pack(">I4s", unit, b"ftyp")
        return bytes(found)

    with pytest.raises(NotPlayable, match="too many pieces"):
        look_into(read, size_bytes=1000 * unit)
    assert len(asked) <= READS_MAX


def test_a_run_of_64_mib_is_summed_up_in_a_moment() -> None:
    count = 63 * 2**18
    data = HEAD + runs(
        struct.pack(">II", count // 2, 0) + bytes(4 * (count - 2)) + struct.pack(">II", 1000, 0)
    )
    data += box(b"mdat", b"x")
    with counting_steps() as steps:
        assert "8,257,536 pictures; at most 500,000 are taken" in refusal(data)
    assert steps[0] < 20_000  # less than one for each sample


@pytest.mark.parametrize(
    "data",
    [
        box(b"ftyp") + box(b"free", size=7) + b"\0" * 50,
        box(b"ftyp") + box(b"free", size=1) + struct.pack(">Q", 3) + b"\0" * 50,
        box(b"ftyp") + box(b"free", size=1) + struct.pack(">Q", 2**64 - 1),
        box(b"ftyp") + box(b"moov", box(b"trak", size=0xFFFFFFFF)),
        box(b"ftyp") + box(b"moov", box(b"trak", size=4)),
        box(b"ftyp") + box(b"moov"),
        box(b"ftyp") + box(b"moov", box(b"mvhd")),
        box(b"ftyp") + box(b"moov", box(b"trak", box(b"tkhd") + box(b"mdia", box(b"mdhd") + box(b"hdlr")))),
        box(b"moov") * 100_000,
        box(b"moov", box(b"trak") * 100_000),
        box(b"moov", box(b"trak", box(b"free") * 100_000) * 5),
    ],
)
def test_a_hostile_file_is_refused_at_once(data: bytes) -> None:
    with counting_steps() as steps:
        refusal(data)
    assert steps[0] < 500_000  # 220,000 were measured; quadratic work would be millions


def test_an_index_beyond_the_cap_is_not_read() -> None:
    size = INDEX_BYTES_MAX + 100
    start = box(b"ftyp") + box(b"moov", size=size)

    def read(begin: int, stop: int) -> bytes:
        assert stop - begin <= 64 * 1024
        return (start + bytes(64 * 1024))[begin:stop] if begin < 100 else bytes(stop - begin)

    with pytest.raises(NotPlayable, match="index is too large"):
        look_into(read, size_bytes=8 + size)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(st.data())
def test_a_damaged_file_is_a_movie_or_a_sentence(faststart: bytes, data: st.DataObject) -> None:
    broken = bytearray(faststart[: faststart.index(b"mdat") + 100])
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(broken) - 1))
        broken[at] = data.draw(st.integers(0, 255))
    broken += bytes(len(faststart) - len(broken))
    try:
        assert look(bytes(broken)).duration_s > 0
    except NotPlayable as refused:
        assert "." in str(refused)  # noqa: PT017
