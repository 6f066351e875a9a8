"""Hostile files: each is refused with a reason, reads nothing else and reaches no network."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from runner import ffmpeg as runner_ffmpeg
from runner import ffmpeg_program, jail, limits
from runner.commands import variation_args
from runner.contract import OutputFault
from runner.graph import Probe
from runner.probe import OutputFailure, probe
from runner.stop import Stop
from tests.support.boxes import found, named_elsewhere, of_many_frames, replaced, table
from tests.support.clips import PLAIN, make_clip
from tests.support.jails import needs_a_jail

FULL = bool(os.environ.get("HOSTILE_FULL"))
POINTERS = {
    "an HLS playlist": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n",
    "a script of ffconcat": "ffconcat version 1.0\nfile '{}'\n",
    "a DASH manifest": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'mediaPresentationDuration="PT1S"><Period><AdaptationSet mimeType="video/mp4"><Representation id="1" '
    'bandwidth="1"><BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>',
    "an SVG picture": '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'width="64" height="64"><image xlink:href="{}" width="64" height="64"/></svg>',
    "an SDP description": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns={}\nc=IN IP4 127.0.0.1\nt=0 0\n"
    "m=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
}


class Canary(ThreadingHTTPServer):
    """Counts who comes."""

    hits = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/canary.ts"


class _Count(BaseHTTPRequestHandler):
    server: Canary

    def do_GET(self) -> None:
        self.server.hits += 1
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def canary() -> Iterator[Canary]:
    server = Canary(("127.0.0.1", 0), _Count)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def neighbour(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another job's video, readable for everyone on this machine."""
    return make_clip(ffmpeg, tmp_path_factory.mktemp("neighbour") / "neighbour.ts", "-f", "mpegts")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Where a source lies: alone in its folder."""
    (tmp_path / "private").mkdir()
    return tmp_path / "private" / "source.mp4"


@pytest.fixture(scope="module")
def one_frame(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clips") / "one.mp4"
    return make_clip(ffmpeg, path, "-frames:v", "1", size="32x32", sound=False).read_bytes()


def refused(ffmpeg: str, source: Path) -> OutputFailure:
    """Return why a source is refused; nothing of it may be left beside it."""
    with pytest.raises(OutputFailure) as caught:
        probe(ffmpeg, source, stop=Stop())
    assert list(source.parent.iterdir()) == [source]
    assert str(source.parent) not in caught.value.message
    return caught.value


def render(ffmpeg: str, args: list[str], source: Path, *makes: Path) -> str:
    return runner_ffmpeg.run(
        [ffmpeg, *args],
        reads=[source],
        makes=makes,
        timeout_s=60,
        stop=Stop(),
        on_progress=lambda _: None,
    )


@pytest.mark.parametrize("kind", POINTERS)
def test_a_video_that_points_at_a_server_is_refused_and_no_server_is_called(
    ffmpeg: str, source: Path, canary: Canary, kind: str
) -> None:
    source.write_text(POINTERS[kind].format(canary.url))
    assert refused(ffmpeg, source).code is OutputFault.SOURCE_UNPLAYABLE
    assert canary.hits == 0


@pytest.mark.parametrize("kind", POINTERS)
def test_a_video_that_points_at_a_neighbour_is_refused_by_probe_and_render(
    ffmpeg: str, source: Path, neighbour: Path, kind: str, tmp_path: Path
) -> None:
    source.write_text(POINTERS[kind].format(neighbour))
    assert refused(ffmpeg, source).code is OutputFault.SOURCE_UNPLAYABLE
    pretended = Probe(width=160, height=120, duration_s=1, has_audio=False)
    output = tmp_path / "out" / "o.mp4"
    output.parent.mkdir()
    args = variation_args(PLAIN, pretended, source=str(source), output=str(output))
    with pytest.raises(runner_ffmpeg.FfmpegFailed):
        render(ffmpeg, args, source, output)
    assert not output.exists() or output.stat().st_size == 0


@pytest.mark.parametrize("kind", ["an HLS playlist", "a script of ffconcat"])
def test_even_an_ffmpeg_that_follows_pointers_finds_no_neighbour_in_the_jail(
    ffmpeg: str, source: Path, neighbour: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_a_jail()
    source.write_text(POINTERS[kind].format(neighbour))
    demuxer = "hls" if "HLS" in kind else "concat"
    out = source.parent / "out" / "out.mp4"
    out.parent.mkdir()
    trusting = ["-v", "error", "-f", demuxer, "-i", str(source), "-c", "copy", "-y", str(out)]
    trusting[2:2] = ["-allowed_extensions", "ALL"] if demuxer == "hls" else ["-safe", "0"]
    with pytest.raises(runner_ffmpeg.FfmpegFailed):
        render(ffmpeg, trusting, source, out)
    monkeypatch.setattr(jail, "is_off", lambda: True)
    render(ffmpeg, trusting, source, out)
    assert out.stat().st_size > 1000  # and without a jail it does


def test_a_film_whose_frames_are_in_another_file_has_none(
    ffmpeg: str, source: Path, tmp_path: Path, one_frame: bytes
) -> None:
    (tmp_path / "other.mp4").write_bytes(one_frame)
    borrowed = replaced(one_frame, {b"dref": named_elsewhere(str(tmp_path / "other.mp4"))})
    source.write_bytes(borrowed)
    assert refused(ffmpeg, source).code is OutputFault.SOURCE_UNPLAYABLE
    follows = [ffmpeg, "-v", "error", "-enable_drefs", "1", "-use_absolute_path", "1", "-i", str(source)]
    done = subprocess.run([*follows, "-f", "null", "-"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr  # the file is sound for who trusts it


@pytest.mark.parametrize("container", ["matroska", "avi", "mpegts", "flv", "gif", "image2pipe", "ogg"])
def test_other_containers_are_refused_by_any_name(
    ffmpeg: str, source: Path, neighbour: Path, container: str
) -> None:
    codec = {"gif": "gif", "image2pipe": "png", "ogg": "libtheora"}.get(container, "mpeg4")
    if container == "flv":
        codec = "flv"
    command = [ffmpeg, "-v", "error", "-i", str(neighbour), "-an", "-frames:v", "2", "-c:v", codec]
    subprocess.run([*command, "-f", container, str(source)], check=True, timeout=60)
    assert refused(ffmpeg, source).code is OutputFault.SOURCE_UNPLAYABLE


def test_a_decoder_that_is_not_needed_is_not_within_reach(ffmpeg: str, source: Path) -> None:
    """MagicYUV, of CVE-2026-8461, and whatever else the full build of FFmpeg holds."""
    make_clip(ffmpeg, source, "-c:v", "magicyuv", "-f", "mov", size="64x64", seconds=0.2, sound=False)
    assert refused(ffmpeg, source).code is OutputFault.SOURCE_UNPLAYABLE
    args = ["-v", "error", *limits.INPUT_OPTIONS, "-i", f"file:{source}", "-map", "0:V", "-f", "null", "-"]
    with pytest.raises(runner_ffmpeg.FfmpegFailed) as caught:
        render(ffmpeg, args, source)
    assert "Codec (magicyuv) not on whitelist" in caught.value.tail


def test_the_decoders_that_we_name_exist(ffmpeg: str) -> None:
    printed = subprocess.run([ffmpeg, "-v", "error", "-decoders"], capture_output=True, text=True, check=True)
    assert set(limits.DECODERS.split(",")) <= set(
        re.findall(r"^ [VA]\S{5} (\S+)", printed.stdout, re.MULTILINE)
    )
    assert "magicyuv" not in limits.DECODERS


def test_ffmpeg_is_not_one_of_those_with_known_holes(ffmpeg: str, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = subprocess.run([ffmpeg, "-version"], capture_output=True, text=True, check=True).stdout
    version = re.match(r"ffmpeg version n?(\d+)\.(\d+)\.(\d+)", printed)
    assert version
    assert tuple(map(int, version.groups())) >= (8, 1, 2)
    assert f"-v{'.'.join(version.groups())}" in ffmpeg
    monkeypatch.setattr(ffmpeg_program, "VERSION_MIN", (99,))
    with pytest.raises(RuntimeError, match="too old"):
        ffmpeg_program.find_ffmpeg()


def too_large(ffmpeg: str, source: Path) -> str:
    failure = refused(ffmpeg, source)
    assert failure.code is OutputFault.SOURCE_TOO_LARGE, failure.message
    return failure.message


def test_a_film_of_more_frames_than_we_take_is_too_large(
    ffmpeg: str, source: Path, one_frame: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """600,000 in the soak; they take some CPU seconds to count, so that here it is a tenth of all."""
    limit = limits.FRAMES_MAX if FULL else limits.FRAMES_MAX // 10
    monkeypatch.setattr(limits, "FRAMES_MAX", limit)
    source.write_bytes(of_many_frames(one_frame, limit * 6 // 5, per_second=2000))
    assert f"more than {limit:,} frames" in too_large(ffmpeg, source)


def test_a_film_of_many_hours_is_too_long(ffmpeg: str, source: Path, one_frame: bytes) -> None:
    source.write_bytes(of_many_frames(one_frame, 20_000, per_second=1))
    assert "more than 4 hours" in too_large(ffmpeg, source)


def test_a_frame_that_lasts_a_billion_seconds_is_too_long(
    ffmpeg: str, source: Path, one_frame: bytes
) -> None:
    two = of_many_frames(one_frame, 2, per_second=1)
    source.write_bytes(replaced(two, {b"stts": table((2, 500_000_000))}))
    assert "more than 4 hours" in too_large(ffmpeg, source)


def test_a_header_with_a_false_duration_is_not_believed(ffmpeg: str, source: Path, one_frame: bytes) -> None:
    mvhd = found(one_frame, b"moov", b"mvhd")
    source.write_bytes(replaced(one_frame, {b"mvhd": mvhd[:16] + struct.pack(">I", 2**32 - 1) + mvhd[20:]}))
    assert probe(ffmpeg, source, stop=Stop()).duration_s < 1


def test_a_film_of_many_streams_is_too_large(ffmpeg: str, source: Path) -> None:
    streams = ["-map", "0:v"] * (limits.STREAMS_MAX + 1)
    make_clip(ffmpeg, source, *streams, size="32x32", seconds=0.1, sound=False)
    assert "more than 16 streams" in too_large(ffmpeg, source)


def test_a_picture_of_many_pixels_is_refused_before_it_takes_the_memory(ffmpeg: str, source: Path) -> None:
    make_clip(ffmpeg, source, "-frames:v", "1", size="9600x3700", rate=1, video="color", sound=False)
    assert "larger frames than 8192x4320" in too_large(ffmpeg, source)


def test_a_side_that_no_upload_may_have_is_refused_of_a_url_too(ffmpeg: str, source: Path) -> None:
    make_clip(ffmpeg, source, "-frames:v", "1", size="8208x64", rate=1, video="color", sound=False)
    assert "larger frames than 8192x4320" in too_large(ffmpeg, source)


def test_a_still_picture_that_unpacks_to_half_a_gigabyte_is_refused(ffmpeg: str, source: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 12000, 12000, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes((12000 * 3 + 1) * 12000 // 8)) * 8
    source.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )
    assert refused(ffmpeg, source).code is OutputFault.SOURCE_UNPLAYABLE


def test_what_ffmpeg_writes_is_bounded(ffmpeg: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_a_jail()
    small = jail.Limits(cpu_s=60, memory_bytes=1 << 32, file_bytes=1 << 20)
    monkeypatch.setattr(jail.Limits, "of_this_machine", lambda **_: small)
    nothing, raw = tmp_path / "nothing", tmp_path / "out" / "raw"
    nothing.touch()
    raw.parent.mkdir()
    args = ["-v", "error", "-f", "lavfi", "-i", "testsrc2=s=640x360:d=5", "-f", "rawvideo", str(raw)]
    with pytest.raises(runner_ffmpeg.FfmpegFailed, match="File too large"):
        render(ffmpeg, args, nothing, raw)
    assert raw.stat().st_size == 1 << 20
