"""A machine makes an output of every codec that the look at upload takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runner.test_sources import rendered, source_of
from tests.support.codec_files import PICTURES, SOUNDS, made

pytestmark = pytest.mark.peer

TAKEN = {**PICTURES, **SOUNDS}


@pytest.mark.parametrize("name", TAKEN)
def test_an_output_is_made_of_each_codec_of_the_list(ffmpeg: str, tmp_path: Path, name: str) -> None:
    path = tmp_path / "source"
    path.write_bytes(made(ffmpeg, name, TAKEN[name]))
    source = source_of(ffmpeg, path)
    assert source.probe.has_audio is (name in SOUNDS)
    assert rendered(ffmpeg, source, tmp_path).stat().st_size > 1000
