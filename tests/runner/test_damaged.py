"""What cannot be used of a source ends in our words: a refusal as at upload, or a note on the source."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from runner.contract import Exit, OutputFault, Preset
from runner.mp4.codecs import PICTURE_REMEDY
from runner.probe import UNDECODABLE
from tests.support.clips import PLAIN, make_clip
from tests.support.codec_files import NOT_TAKEN, made
from tests.support.fake_control import fake_control
from tests.support.runner_process import run


def overwritten(data: bytes, share: float) -> bytes:
    """Return the file with other bytes in the last part of its media; its index stays."""
    at = data.index(b"mdat")
    size = int.from_bytes(data[at - 4 : at], "big") - 8
    first = at + 4 + round(size * (1 - share))
    return data[:first] + random.Random(1).randbytes(at + 4 + size - first) + data[at + 4 + size :]


def test_a_machine_says_in_our_words_what_of_a_source_it_cannot_use(ffmpeg: str, tmp_path: Path) -> None:
    """These come from URLs: an upload of the second and the last kind would have been refused."""
    clip = make_clip(ffmpeg, tmp_path / "clip.mp4", "-g", "25", seconds=4, rate=25).read_bytes()
    with fake_control() as control:
        control.are_foreign = True
        control.sources = {
            "damaged": overwritten(clip, 0.5),
            "codec": made(ffmpeg, *NOT_TAKEN["Cinepak"]),
            "noise": overwritten(clip, 1.0),
            "cut": clip[: len(clip) // 2],
        }
        control.outputs = [(name, name, PLAIN) for name in control.sources]
        control.outputs += [("web", "damaged", Preset.WEB_OPTIMIZED), ("copy", "damaged", Preset.COPY)]
        workspace = tmp_path / "work"
        workspace.mkdir()
        assert run(control, workspace)[0] == Exit.OK
        assert control.finish
        reports = {report.output_id: report for report in control.finish.outputs}
        (noted,) = control.finish.sources
    lengths = [reports[name].file.duration_s for name in ("damaged", "web", "copy")]  # type: ignore[union-attr]
    assert lengths == pytest.approx([2, 2, 4], abs=0.2)
    assert noted.source_id == "damaged"
    assert noted.notes[0] == "Only 2.0 s of 4.0 s of the picture could be decoded."
    said = {name: reports[name].error for name in ("codec", "noise", "cut")}
    assert {error.code for error in said.values() if error} == {OutputFault.SOURCE_UNPLAYABLE}
    words = {name: error.message for name, error in said.items() if error}
    assert words["codec"] == f"The video is coded as Cinepak, which is not supported. {PICTURE_REMEDY}"
    assert words["noise"] == UNDECODABLE
    assert words["cut"].startswith("The file is cut short: ")
