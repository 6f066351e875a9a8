"""A machine makes an output of each video that the check at upload accepts: one file for both."""

from __future__ import annotations

from pathlib import Path

import pytest

from control.uploads.mp4 import look_into
from tests.support.codec_files import PICTURES, SOUNDS, made
from tests.support.making import rendered, source_of

pytestmark = pytest.mark.peer

TAKEN = {**PICTURES, **SOUNDS}


@pytest.mark.parametrize("name", TAKEN)
def test_each_codec_of_the_list_is_taken_and_made_into_an_output(
    ffmpeg: str, tmp_path: Path, name: str
) -> None:
    data = made(ffmpeg, name, TAKEN[name])
    looked = look_into(lambda start, stop: data[start:stop], size_bytes=len(data))
    path = tmp_path / "source"
    path.write_bytes(data)
    source = source_of(ffmpeg, path)
    probed = source.probe
    assert (probed.width, probed.height) == (looked.width, looked.height)
    assert probed.duration_s == pytest.approx(looked.duration_s, abs=0.1)
    assert probed.has_audio is (name in SOUNDS)
    assert rendered(ffmpeg, source, tmp_path).stat().st_size > 1000
