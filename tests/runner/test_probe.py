"""What a file really is, and whether an output is what was asked for."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from runner.contract import OutputFault
from runner.graph import Probe
from runner.probe import OutputFailure, check_output, probe
from runner.stop import Stop
from tests.runner.clips import make_clip


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
def test_what_is_no_video_is_unplayable(ffmpeg: str, content: bytes, tmp_path: Path) -> None:
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


WANTED = Probe(width=160, height=120, duration_s=1, has_audio=True)


def test_a_good_output_passes(ffmpeg: str, clip: Path) -> None:
    assert check_output(ffmpeg, clip, WANTED, stop=Stop()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 320}, "160x120, not 320x120"),
        ({"duration_s": 1.2}, "lasts 1.00 s, not 1.20 s"),
        ({"has_audio": False}, "has sound"),
    ],
)
def test_an_output_that_differs_is_invalid(
    ffmpeg: str, clip: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(OutputFailure, match=words) as caught:
        check_output(ffmpeg, clip, dataclasses.replace(WANTED, **changes), stop=Stop())
    assert caught.value.code is OutputFault.OUTPUT_INVALID


def test_another_codec_is_invalid(ffmpeg: str, clip: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.mp4"
    command = [ffmpeg, "-v", "error", "-i", str(clip), "-c:v", "mpeg4", str(old)]
    subprocess.run(command, check=True, timeout=60)
    with pytest.raises(OutputFailure, match=r"no H\.264"):
        check_output(ffmpeg, old, WANTED, stop=Stop())


def test_an_output_that_does_not_open_is_invalid(ffmpeg: str, tmp_path: Path) -> None:
    (tmp_path / "out.mp4").write_bytes(b"half a file")
    with pytest.raises(OutputFailure, match="does not open"):
        check_output(ffmpeg, tmp_path / "out.mp4", WANTED, stop=Stop())
