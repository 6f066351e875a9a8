"""The probe of a file, and the check of an output."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from runner import ffmpeg as ffmpeg_module
from runner import probe as probe_module
from runner.check import check_output
from runner.commands import container_of
from runner.contract import OutputFault, Preset
from runner.graph import Probe
from runner.probe import Look, OutputFailure, probe
from runner.stop import Stop
from tests.runner.test_check import WANTED
from tests.support.clips import make_clip


@pytest.fixture(scope="module")
def clip(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(ffmpeg, tmp_path_factory.mktemp("clips") / "clip.mp4")


def copy(ffmpeg: str, source: Path, target: Path, *args: str, before: tuple[str, ...] = ()) -> Path:
    command = [ffmpeg, "-v", "error", *before, "-i", str(source), "-c", "copy", *args, str(target)]
    subprocess.run(command, check=True, timeout=60)
    return target


def fault(ffmpeg: str, path: Path) -> OutputFailure:
    with pytest.raises(OutputFailure) as caught:
        probe(ffmpeg, path, stop=Stop())
    assert str(path.parent) not in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("codecs", "strange"),
    [
        (["h264", "aac"], ""),
        (["prores", "amr_nb"], ""),
        (["av1"], ""),
        ([], ""),
        (["aac"], "aac"),
        (["aac", "h264"], "aac and h264"),
        (["h264", "h264"], "h264"),
        (["h264", "aac", "subrip"], "subrip"),
    ],
)
def test_a_codec_in_a_place_that_is_not_its_own_ends_the_source_and_not_the_run(
    monkeypatch: pytest.MonkeyPatch, codecs: list[str], strange: str
) -> None:
    named = dict(zip(("picture_codec", "sound_codec"), codecs, strict=False))
    told: Any = Probe(width=16, height=16, duration_s=1, has_audio=len(codecs) > 1, **named)
    monkeypatch.setattr(probe_module, "look", lambda *_, **__: Look(told, 30, codecs, ""))
    if strange:
        refusal = fault("ffmpeg", Path("/folder/clip.mp4"))
        assert refusal.code is OutputFault.SOURCE_UNPLAYABLE
        assert f"holds {strange}, which" in refusal.message
    else:
        found = probe("ffmpeg", Path("/folder/clip.mp4"), stop=Stop())
        assert container_of(Preset.COPY, found) in ("mp4", "mov")


def test_a_clip_is_described_and_nothing_is_left_beside_it(ffmpeg: str, clip: Path) -> None:
    found = probe(ffmpeg, clip, stop=Stop())
    assert (found.width, found.height, found.has_audio) == (160, 120, True)
    assert found.duration_s == pytest.approx(1, abs=0.05)
    assert list(clip.parent.iterdir()) == [clip]


def test_a_rotated_clip_has_the_dimensions_that_people_see(ffmpeg: str, clip: Path, tmp_path: Path) -> None:
    turned = copy(ffmpeg, clip, tmp_path / "turned.mp4", before=("-display_rotation", "90"))
    found = probe(ffmpeg, turned, stop=Stop())
    assert (found.width, found.height) == (120, 160)


def test_a_silent_clip_has_no_audio(ffmpeg: str, clip: Path, tmp_path: Path) -> None:
    assert not probe(ffmpeg, copy(ffmpeg, clip, tmp_path / "silent.mp4", "-an"), stop=Stop()).has_audio


def test_a_fragmented_clip_has_a_duration(ffmpeg: str, clip: Path, tmp_path: Path) -> None:
    pieces = copy(ffmpeg, clip, tmp_path / "pieces.mp4", "-movflags", "frag_keyframe+empty_moov")
    assert probe(ffmpeg, pieces, stop=Stop()).duration_s == pytest.approx(1, abs=0.05)


def test_metadata_that_imitates_ffmpegs_own_words_is_not_believed(
    ffmpeg: str, clip: Path, tmp_path: Path
) -> None:
    lie = "title=x\n  Duration: 09:00:00.00\n  Stream #0:0: Video: h264, yuv420p, 9999x9999"
    lying = copy(ffmpeg, clip, tmp_path / "lying.mp4", "-an", "-metadata", lie)
    found = probe(ffmpeg, lying, stop=Stop())
    assert (found.width, found.height, found.has_audio) == (160, 120, False)
    assert found.duration_s < 2


@pytest.mark.parametrize("content", [b"", b"no video at all", b"\0" * 10_000])
def test_a_file_that_is_no_video_is_unplayable(ffmpeg: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "source.mp4"
    path.write_bytes(content)
    assert fault(ffmpeg, path).code is OutputFault.SOURCE_UNPLAYABLE


def test_sound_alone_is_unplayable(ffmpeg: str, clip: Path, tmp_path: Path) -> None:
    sound = copy(ffmpeg, clip, tmp_path / "sound.mp4", "-vn")
    assert fault(ffmpeg, sound).code is OutputFault.SOURCE_UNPLAYABLE


def test_a_truncated_clip_without_its_index_is_unplayable(ffmpeg: str, clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "source.mp4"
    path.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    assert fault(ffmpeg, path).code is OutputFault.SOURCE_UNPLAYABLE


@pytest.mark.parametrize("trouble", [ffmpeg_module.OutOfMemory, ffmpeg_module.FfmpegHung])
def test_what_says_nothing_about_the_output_does_not_make_it_invalid(
    ffmpeg: str, clip: Path, monkeypatch: pytest.MonkeyPatch, trouble: type[Exception]
) -> None:
    def ended(*_: object, **__: object) -> str:
        raise trouble("FFmpeg was killed by SIGKILL")

    monkeypatch.setattr(ffmpeg_module, "run", ended)
    with pytest.raises(trouble):
        check_output(ffmpeg, clip, WANTED, stop=Stop())


def test_a_probe_that_lacks_memory_says_nothing_about_the_video(
    ffmpeg: str, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> str:
        raise ffmpeg_module.OutOfMemory("FFmpeg was killed by SIGKILL")

    monkeypatch.setattr(ffmpeg_module, "run", killed)
    with pytest.raises(ffmpeg_module.OutOfMemory):
        probe(ffmpeg, clip, stop=Stop())
    assert list(clip.parent.iterdir()) == [clip]


def test_a_probe_that_hung_once_is_run_again(
    ffmpeg: str, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = ffmpeg_module.run, iter([True, False])

    def hung_first(*args: Any, **more: Any) -> str:
        if next(tries):
            raise ffmpeg_module.FfmpegHung("FFmpeg made no progress for 60 s")
        return real(*args, **more)

    monkeypatch.setattr(ffmpeg_module, "run", hung_first)
    assert probe(ffmpeg, clip, stop=Stop()).width == 160
