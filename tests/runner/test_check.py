"""The check of an output."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from runner.check import Expected, check_output, check_playlist
from runner.contract import OutputFault
from runner.probe import OutputFailure
from runner.stop import Stop
from tests.support.clips import make_clip


@pytest.fixture(scope="module")
def clip(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(ffmpeg, tmp_path_factory.mktemp("clips") / "clip.mp4")


WANTED = Expected(width=160, height=120, duration_s=1, picture_s=1, has_audio=True, is_coded_here=True)


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


def test_a_fault_in_the_middle_is_invalid_unless_it_is_a_copy(
    ffmpeg: str, clip: Path, tmp_path: Path
) -> None:
    broken, content = tmp_path / "broken.mp4", bytearray(clip.read_bytes())
    middle = content.index(b"mdat") + 4 + 20_000
    content[middle : middle + 3000] = b"\xff" * 3000
    broken.write_bytes(content)
    with pytest.raises(OutputFailure) as caught:
        check_output(ffmpeg, broken, WANTED, stop=Stop())
    assert caught.value.code is OutputFault.OUTPUT_INVALID
    copied = dataclasses.replace(WANTED, is_coded_here=False)
    assert check_output(ffmpeg, broken, copied, stop=Stop()) == pytest.approx(1, abs=0.05)


PLAYLIST = """#EXTM3U
#EXT-X-MAP:URI="a.mp4",BYTERANGE="10@0"
#EXT-X-BYTERANGE:20@10
a.mp4
#EXT-X-ENDLIST
"""


def test_a_playlist_that_covers_its_media_passes() -> None:
    check_playlist(PLAYLIST, media_name="a.mp4", media_bytes=30)


@pytest.mark.parametrize(
    "text", ["", PLAYLIST.replace("@10", "@11"), PLAYLIST.replace("20@", "19@"), PLAYLIST[:-16]]
)
def test_a_playlist_with_a_gap_or_without_an_end_is_invalid(text: str) -> None:
    with pytest.raises(OutputFailure):
        check_playlist(text, media_name="a.mp4", media_bytes=30)
