"""Every kind of source that people send, as a generated file, through probe, render and check."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from runner.contract import Preset
from tests.support.clips import PLAIN, describe, make_clip
from tests.support.making import made, rendered, source_of

TESTSRC = ["-f", "lavfi", "-i", "testsrc2=s=160x120:r=30:d=2"]
TONE = ["-f", "lavfi", "-i", "sine=d=2"]
FAST = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]


def pixel(ffmpeg: str, path: Path, *, at_s: float, where: str = "80:60") -> tuple[int, int, int]:
    """Return a pixel's Y, U, V as shown at an instant."""
    x, y = where.split(":")
    command = [ffmpeg, "-v", "error", "-ss", str(at_s), "-i", str(path), "-frames:v", "1"]
    one = ["-vf", f"format=yuv444p,crop=1:1:{x}:{y}", "-f", "rawvideo", "-"]
    found = subprocess.run([*command, *one], check=True, capture_output=True, timeout=60).stdout
    return found[0], found[1], found[2]


def apart(ffmpeg: str, path: Path, *instants_s: float) -> int:
    """Return by how much the frames shown at two instants differ at most, in light, of 8x6 patches."""
    shown = []
    for at_s in instants_s:
        command = [ffmpeg, "-v", "error", "-ss", str(at_s), "-i", str(path), "-frames:v", "1"]
        small = ["-vf", "scale=8:6:flags=area,format=gray", "-f", "rawvideo", "-"]
        shown.append(subprocess.run([*command, *small], check=True, capture_output=True, timeout=60).stdout)
    return max(abs(one - other) for one, other in zip(*shown, strict=True))


def starts_s(ffmpeg: str, path: Path) -> dict[str, float]:
    """Return the instant of the first frame of each kind of stream, as played."""
    command = [ffmpeg, "-v", "error", "-i", str(path), "-f", "framecrc", "-"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    found = re.findall(r"#tb (\d): (\d+)/(\d+)", lines)
    bases = {stream: int(numerator) / int(denominator) for stream, numerator, denominator in found}
    first: dict[str, float] = {}
    for stream, pts in re.findall(r"^(\d),[^,]+,\s*(-?\d+),", lines, re.MULTILINE):
        first.setdefault("va"[int(stream)], int(pts) * bases[stream])
    return first


def test_a_variable_frame_rate_becomes_a_steady_one_of_the_same_length(ffmpeg: str, tmp_path: Path) -> None:
    uneven = ["-vf", "select='not(mod(n\\,7))+lt(mod(n\\,7)\\,2)'", "-fps_mode", "vfr"]
    path = made(ffmpeg, tmp_path / "vfr.mp4", *TESTSRC, *TONE, *uneven, *FAST)
    source = source_of(ffmpeg, path)
    assert source.probe.duration_s == pytest.approx(2, abs=0.1)
    said = describe(ffmpeg, rendered(ffmpeg, source, tmp_path))
    assert "29.97 fps" in said


def test_odd_dimensions_become_even(ffmpeg: str, tmp_path: Path) -> None:
    odd = ["-f", "lavfi", "-i", "testsrc=s=161x121:r=30:d=1", "-c:v", "libx264", "-pix_fmt", "yuv444p"]
    source = source_of(ffmpeg, made(ffmpeg, tmp_path / "odd.mp4", *odd))
    assert (source.probe.width, source.probe.height) == (161, 121)
    assert "160x120" in describe(ffmpeg, rendered(ffmpeg, source, tmp_path))


def test_ten_bits_become_eight(ffmpeg: str, tmp_path: Path) -> None:
    deep = [
        "-c:v",
        "libx265",
        "-preset",
        "ultrafast",
        "-pix_fmt",
        "yuv420p10le",
        "-x265-params",
        "log-level=0",
    ]
    source = source_of(ffmpeg, made(ffmpeg, tmp_path / "deep.mp4", *TESTSRC, *deep))
    assert source.probe.hdr_transfer is None
    assert "yuv420p(" in describe(ffmpeg, rendered(ffmpeg, source, tmp_path))


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
@pytest.mark.parametrize("preset", [None, Preset.WEB_OPTIMIZED])
def test_hdr_is_tone_mapped(ffmpeg: str, tmp_path: Path, transfer: str, preset: Preset | None) -> None:
    tags = f"colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc:log-level=0"
    deep = ["-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le", "-x265-params", tags]
    gray = ["-f", "lavfi", "-i", "color=gray:s=160x120:r=30:d=0.5"]
    source = source_of(ffmpeg, made(ffmpeg, tmp_path / "hdr.mp4", *gray, *deep))
    assert source.probe.hdr_transfer == transfer
    path = rendered(ffmpeg, source, tmp_path, PLAIN if preset is None else None, preset)
    said = describe(ffmpeg, path)
    assert "bt2020" not in said
    assert transfer not in said
    light, u, v = pixel(ffmpeg, path, at_s=0.2)
    if transfer == "smpte2084":
        assert light > 136  # the code values of PQ mean another light; those of HLG nearly the same
    assert max(abs(u - 128), abs(v - 128)) <= 2


def test_interlaced_footage_becomes_whole_frames(ffmpeg: str, tmp_path: Path) -> None:
    fields = [
        "-vf",
        "tinterlace=interleave_top,fieldorder=tff",
        "-flags",
        "+ildct+ilme",
        "-x264opts",
        "tff=1",
    ]
    path = made(ffmpeg, tmp_path / "fields.mp4", *TESTSRC, *FAST, *fields)
    source = source_of(ffmpeg, path)
    assert source.probe.is_interlaced
    assert "progressive)" in describe(ffmpeg, rendered(ffmpeg, source, tmp_path))


def test_of_several_sounds_the_first_is_kept(ffmpeg: str, tmp_path: Path) -> None:
    second = ["-f", "lavfi", "-i", "anullsrc=d=2"]
    maps = ["-map", "0", "-map", "1", "-map", "2", "-shortest"]
    source = source_of(ffmpeg, made(ffmpeg, tmp_path / "two.mp4", *TESTSRC, *TONE, *second, *maps, *FAST))
    path = rendered(ffmpeg, source, tmp_path)
    assert describe(ffmpeg, path).count("Audio:") == 1
    command = [ffmpeg, "-i", str(path), "-af", "volumedetect", "-f", "null", "-"]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stderr
    loudest = re.search(r"max_volume: (-?[\d.]+) dB", said)
    assert loudest
    assert float(loudest[1]) > -30


def test_a_silent_source_stays_silent(ffmpeg: str, tmp_path: Path) -> None:
    source = source_of(ffmpeg, make_clip(ffmpeg, tmp_path / "silent.mp4", sound=False))
    assert "Audio" not in describe(ffmpeg, rendered(ffmpeg, source, tmp_path))


@pytest.mark.parametrize(("late", "shifts"), [("v", ["0.5", "0"]), ("a", ["0", "0.5"])])
def test_a_stream_that_starts_late_keeps_its_place(
    ffmpeg: str, tmp_path: Path, late: str, shifts: list[str]
) -> None:
    clip = make_clip(ffmpeg, tmp_path / "clip.mp4", seconds=2)
    inputs = [arg for shift in shifts for arg in ("-itsoffset", shift, "-i", str(clip))]
    path = made(ffmpeg, tmp_path / "late.mp4", *inputs, *["-map", "0:v", "-map", "1:a", "-c", "copy"])
    output = rendered(ffmpeg, source_of(ffmpeg, path), tmp_path)
    starts = starts_s(ffmpeg, output)
    assert starts["v"] == pytest.approx(0, abs=0.05)
    assert starts["a"] == pytest.approx(0, abs=0.05)
    if late == "v":  # its first frame is shown until it moves
        assert apart(ffmpeg, output, 0.05, 0.4) < 8
        assert apart(ffmpeg, output, 0.05, 1.2) > 16


def test_an_edit_list_that_cuts_the_start_is_obeyed(ffmpeg: str, tmp_path: Path) -> None:
    red = [
        "-f",
        "lavfi",
        "-i",
        "color=red:s=160x120:r=30:d=1[a];color=blue:s=160x120:r=30:d=2[b];[a][b]concat[out0]",
    ]
    whole = made(ffmpeg, tmp_path / "whole.mp4", *red, *FAST, "-g", "300")
    cut = made(ffmpeg, tmp_path / "cut.mp4", "-ss", "1.5", "-i", str(whole), "-c", "copy")
    source = source_of(ffmpeg, cut)
    assert source.probe.duration_s == pytest.approx(1.5, abs=0.1)
    output = rendered(ffmpeg, source, tmp_path)
    _, u, v = pixel(ffmpeg, output, at_s=0)
    assert u > 200 > v  # blue from the first frame on


def test_a_phone_clip_on_its_side_comes_out_upright(ffmpeg: str, tmp_path: Path) -> None:
    clip = make_clip(ffmpeg, tmp_path / "clip.mp4")
    turned = made(ffmpeg, tmp_path / "turned.mp4", "-display_rotation", "90", "-i", str(clip), "-c", "copy")
    for recipe, preset in ((PLAIN, None), (None, Preset.WEB_OPTIMIZED)):
        said = describe(ffmpeg, rendered(ffmpeg, source_of(ffmpeg, turned), tmp_path, recipe, preset))
        assert "120x160" in said
        assert "rotation" not in said
