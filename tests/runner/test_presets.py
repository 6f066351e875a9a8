"""Presets and posters, made by the whole runner."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.contract import Exit, Preset
from tests.support.clips import PLAIN, describe, make_clip
from tests.support.fake_control import FakeControl, fake_control
from tests.support.runner_process import run


@pytest.fixture(scope="module")
def source(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    named = ["-metadata", "title=SecretTitle", "-metadata:s:a:0", "language=fra"]
    return make_clip(ffmpeg, path, *named, size="160x90", seconds=9, rate=25)


@pytest.fixture(scope="module")
def made(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeControl]:
    with fake_control() as control:
        control.sources = {"s1": source.read_bytes()}
        control.with_posters = True
        control.outputs = [
            ("var", "s1", PLAIN),
            ("web", "s1", Preset.WEB_OPTIMIZED),
            ("hls", "s1", Preset.HLS),
            ("copy", "s1", Preset.COPY),
        ]
        assert run(control, tmp_path_factory.mktemp("tmp"))[0] == Exit.OK
        assert control.violations == []
        yield control


def stored(made: FakeControl, key: str, tmp_path: Path) -> Path:
    path = tmp_path / key.replace("/", "-")
    path.write_bytes(made.objects[key])
    return path


def test_all_are_ready_with_a_poster_each(made: FakeControl, ffmpeg: str, tmp_path: Path) -> None:
    assert made.statuses() == dict.fromkeys(["var", "web", "hls", "copy"], "ready")
    for name in made.statuses():
        said = describe(ffmpeg, stored(made, f"poster/{name}", tmp_path))
        assert "Video: mjpeg" in said
        assert "160x90" in said


def test_web_optimized_plays_while_it_loads_and_says_nothing_of_its_source(
    made: FakeControl, ffmpeg: str, tmp_path: Path
) -> None:
    path = stored(made, "output/web", tmp_path)
    said = describe(ffmpeg, path)
    for word in ("h264 (High)", "yuv420p(", "160x90", "25 fps", "Audio: aac"):
        assert word in said
    for word in ("Secret", "(fra)", "encoder"):
        assert word not in said
    assert path.read_bytes().index(b"moov") < path.read_bytes().index(b"mdat")


def test_a_copy_has_the_very_frames_of_its_source_and_nothing_else(
    made: FakeControl, source: Path, ffmpeg: str, tmp_path: Path
) -> None:
    path = stored(made, "output/copy", tmp_path)

    def frames(of: Path) -> str:
        command = [ffmpeg, "-v", "error", "-i", str(of), "-c", "copy", "-f", "streamhash", "-"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert frames(path) == frames(source)
    assert b"Secret" not in path.read_bytes()
    assert "(fra)" not in describe(ffmpeg, path)
    assert path.read_bytes().index(b"moov") < path.read_bytes().index(b"mdat")


def test_hls_plays_from_its_two_files_in_segments_of_four_seconds(
    made: FakeControl, ffmpeg: str, tmp_path: Path
) -> None:
    stored(made, "output/hls", tmp_path).rename(tmp_path / "my clip.mp4")
    playlist = stored(made, "playlist/hls", tmp_path)
    text = playlist.read_text()
    assert [line for line in text.splitlines() if line.startswith("#EXTINF")] == [
        "#EXTINF:4.000000,",
        "#EXTINF:4.000000,",
        "#EXTINF:1.000000,",
    ]
    assert "#EXT-X-PLAYLIST-TYPE:VOD" in text
    playlist.rename(playlist.with_suffix(".m3u8"))
    command = [ffmpeg, "-v", "error", "-i", str(playlist.with_suffix(".m3u8")), "-f", "null", "-"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stderr == ""


def test_arguments_are_shown_without_private_paths(made: FakeControl) -> None:
    assert made.finish
    for report in made.finish.outputs:
        assert report.file
        args = report.file.ffmpeg_args
        assert "file:SOURCE" in args
        assert not any("/" in arg and "runner-" in arg for arg in args)


def test_a_poster_that_fails_does_not_fail_its_output(
    made: FakeControl, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_control() as control:
        control.sources, control.with_posters = {"s1": source.read_bytes()}, True
        control.outputs = [("copy", "s1", Preset.COPY)]
        control.failing = {"poster": [403]}
        assert run(control, tmp_path)[0] == Exit.OK
        assert control.statuses() == {"copy": "ready"}
        assert control.finish
        assert control.finish.outputs[0].poster is None
