"""x264's analysis, turned around for mirrored outputs."""

from __future__ import annotations

import subprocess
from array import array
from pathlib import Path

import pytest

from runner.analysis import tree_of, turn
from runner.plain_files import NotPlain

WIDTH, HEIGHT = 40, 24  # three macroblocks in a row, two rows
SIX = [0x0100, 0x0201, 0x0302, 0x1103, 0x1204, 0x1305]


def analysed(folder: Path, tree: bytes) -> Path:
    stats = folder / "stats"
    stats.write_text("#options: 40x24\n")
    tree_of(stats).write_bytes(tree)
    return stats


def frame(kind: int, *values: int) -> bytes:
    return bytes([kind]) + array("H", values).tobytes()


def test_the_values_of_each_row_are_turned_around_and_those_of_each_frame_stay_in_it(tmp_path: Path) -> None:
    a, b, c, d, e, f = SIX
    stats = analysed(tmp_path, frame(2, *SIX) + frame(1, f, e, d, c, b, a))
    turned = turn(stats, width=WIDTH, height=HEIGHT, frames=2)
    assert tree_of(turned).read_bytes() == frame(2, c, b, a, f, e, d) + frame(1, d, e, f, a, b, c)
    assert turned.read_text() == stats.read_text()


@pytest.mark.parametrize("tree", [frame(1, *SIX)[:-1], frame(1, *SIX) * 3, frame(1, *SIX) * 2 + b"\1"])
def test_an_analysis_of_another_size_or_of_too_many_frames_is_refused(tmp_path: Path, tree: bytes) -> None:
    with pytest.raises(NotPlain, match="of another size"):
        turn(analysed(tmp_path, tree), width=WIDTH, height=HEIGHT, frames=2)


@pytest.mark.peer
def test_x264_gives_a_mirrored_picture_the_turned_values_of_the_picture(ffmpeg: str, tmp_path: Path) -> None:
    still, moving = "color=gray:s=96x128:r=25:d=1", "testsrc2=s=96x128:r=25:d=1"
    found = []
    for name, sides in (("plain", f"{moving}[a];{still}[b]"), ("mirrored", f"{still}[a];{moving},hflip[b]")):
        stats = tmp_path / name
        graph = f"{sides};[a][b]hstack"
        x264 = ["-c:v", "libx264", "-threads:v", "1", "-x264-params", f"pass=1:bframes=0:stats={stats}"]
        command = [ffmpeg, "-v", "error", "-filter_complex", graph, *x264, "-f", "null", "-"]
        subprocess.run(command, check=True, timeout=60)
        found.append(stats)
    turned = turn(found[0], width=192, height=128, frames=25)
    ways = [array("h", tree_of(stats).read_bytes()[1 : 1 + 2 * 96]) for stats in (*found, turned)]
    for way in ways:
        way.byteswap()
    plain, mirrored, back = ([value / 256 for value in way] for way in ways)
    assert apart(back, mirrored) < apart(plain, mirrored) / 4


def apart(one: list[float], other: list[float]) -> float:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))
