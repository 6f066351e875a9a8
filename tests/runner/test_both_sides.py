"""A machine makes an output of each video that the check at upload accepts: one file for both.

The check of each output (`runner.check`) requires its size, length and codecs.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runner.commands import container_of
from runner.contract import OutputFault, Preset
from runner.mp4.movie import look_into
from runner.probe import OutputFailure, probe
from runner.stop import Stop
from tests.support.codec_files import NOT_TAKEN, PICTURES, SOUNDS, made
from tests.support.making import raw, rendered, source_of

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
    output = rendered(ffmpeg, source, tmp_path).read_bytes()
    assert len(output) > 1000
    made_of_it = look_into(lambda start, stop: output[start:stop], size_bytes=len(output))
    assert made_of_it.duration_s == pytest.approx(0.4, abs=0.035)


@pytest.mark.parametrize("name", ["Vorbis", "DTS", "Dolby TrueHD"])
def test_a_sound_codec_that_is_not_taken_is_refused_by_a_machine_too(
    ffmpeg: str, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "source"
    path.write_bytes(made(ffmpeg, *NOT_TAKEN[name]))
    with pytest.raises(OutputFailure, match="which is not accepted") as caught:
        probe(ffmpeg, path, stop=Stop())
    assert caught.value.code is OutputFault.SOURCE_UNPLAYABLE
    assert "AAC" in caught.value.message


# File to the container of its copy, and to the sound in it where that is not the source's.
COPIES = {
    "h264.mp4": ("mp4", ""),
    "av1-10-bit.mp4": ("mp4", ""),
    "opus.mp4": ("mp4", ""),
    "hap-alpha.mov": ("mov", ""),
    "prores-4.mov": ("mov", ""),
    "png.mp4": ("mov", ""),
    "pcm-s8.mov": ("mov", ""),
    "amr-nb.3gp": ("mov", ""),
    "ima-wav.mov": ("mp4", "alac"),
    "adpcm-ms.mov": ("mp4", "alac"),  # no container of FFmpeg takes it without coding it anew
}


@pytest.mark.parametrize("name", TAKEN if os.environ.get("SOAK_FULL") else COPIES)
def test_each_codec_is_copied_into_a_container_that_can_hold_it(
    ffmpeg: str, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "source"
    path.write_bytes(made(ffmpeg, name, TAKEN[name]))
    source = source_of(ffmpeg, path)
    copy = rendered(ffmpeg, source, tmp_path, None, Preset.COPY)
    found = source_of(ffmpeg, copy).probe
    container, sound = COPIES.get(name, (container_of(Preset.COPY, source.probe), ""))
    assert (b"ftypqt" in copy.read_bytes()[:16]) is (container == "mov")
    assert container_of(Preset.COPY, source.probe) == container
    assert found.picture_codec == source.probe.picture_codec
    if source.probe.has_audio:
        assert found.sound_codec == (sound or source.probe.sound_codec)
    shown = ["-c", "copy", "-map", "0:V:0", "-f", "streamhash"]
    assert raw(ffmpeg, copy, *shown) == raw(ffmpeg, path, *shown)
