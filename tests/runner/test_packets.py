"""The check by the sums of packets finds each damage that a full decoding finds."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from runner.check import Expected, check_output, digests
from runner.commands import Target, first_coding_args
from runner.graph import Probe
from runner.probe import OutputFailure
from runner.stop import Stop
from tests.support.clips import PLAIN, make_clip

DAMAGES = 2000 if os.environ.get("SOAK_FULL") == "1" else 60
SIZE = (320, 240)
WANTED = Expected(width=320, height=240, duration_s=2, picture_s=2, has_audio=True, is_coded_here=True)


@pytest.fixture(scope="module")
def coded(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an output as the runner codes it, and the sums of its packets."""
    folder = tmp_path_factory.mktemp("coded")
    source = make_clip(ffmpeg, folder / "source.mp4", size="320x240", seconds=2)
    frames = [ffmpeg, "-v", "error", "-i", str(source), "-vf", "fps=30000/1001", "-f", "rawvideo", "pipe:1"]
    raw = subprocess.run(frames, capture_output=True, check=True, timeout=60).stdout
    (folder / "frames").write_bytes(raw)
    target = Target(effects=PLAIN, path=str(folder / "out.mp4"), packets=str(folder / "packets"))
    probe = Probe(width=320, height=240, duration_s=2, picture_s=2, has_audio=True)
    args = first_coding_args(target, probe, source=str(source))
    command = ["bash", "-c", 'exec "$0" "$@" 4<frames', ffmpeg, *args]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    return folder


def is_found(ffmpeg: str, path: Path, packets: Path | None) -> bool:
    try:
        check_output(ffmpeg, path, WANTED, stop=Stop(), packets=packets)
    except OutputFailure:
        return True
    return False


def test_what_was_coded_is_good_by_its_packets_and_by_decoding(ffmpeg: str, coded: Path) -> None:
    by_packets = check_output(ffmpeg, coded / "out.mp4", WANTED, stop=Stop(), packets=coded / "packets")
    assert by_packets == check_output(ffmpeg, coded / "out.mp4", WANTED, stop=Stop())


def damaged(content: bytes, dice: random.Random) -> bytes:
    """Return the file with one damage: bits, bytes, zeros, a piece lost, moved or twice, or the end lost."""
    made, at = bytearray(content), dice.randrange(len(content))
    length = dice.choice([1, 2, 7, 64, 1500])
    kind = dice.randrange(7)
    if kind == 0:
        made[at] ^= 1 << dice.randrange(8)
    elif kind == 1:
        made[at : at + length] = dice.randbytes(len(made[at : at + length]))
    elif kind == 2:
        made[at : at + length] = bytes(len(made[at : at + length]))
    elif kind == 3:
        del made[at : at + length]
    elif kind == 4:
        made[at:at] = made[at : at + length]
    elif kind == 5:
        del made[at:]
    else:
        other = dice.randrange(len(content))
        made[at : at + length], made[other : other + length] = content[other:][:length], content[at:][:length]
    return bytes(made)


def test_no_damage_passes_that_decoding_all_of_it_finds(ffmpeg: str, coded: Path, tmp_path: Path) -> None:
    """Half of the damages are to the index, which is a small part of the file."""
    content = (coded / "out.mp4").read_bytes()
    index_bytes = content.index(b"mdat")
    place = tmp_path / "place"
    place.mkdir()
    found = 0
    for seed in range(DAMAGES):
        dice = random.Random(seed)
        if seed % 2:
            broken = damaged(content[:index_bytes], dice) + content[index_bytes:]
        else:
            broken = content[:index_bytes] + damaged(content[index_bytes:], dice)
        (place / "out.mp4").write_bytes(broken)
        is_told = is_found(ffmpeg, place / "out.mp4", coded / "packets")
        found += is_told
        assert is_told or not is_found(ffmpeg, place / "out.mp4", None), seed
    assert found > DAMAGES // 2


def test_a_packet_that_is_missing_late_or_changed_makes_another_digest(coded: Path) -> None:
    lines = (coded / "packets").read_text().splitlines()
    good = digests(lines)
    assert set(good) == {"0", "1"}
    packet = next(n for n, line in enumerate(lines) if line.startswith("0, ") and n > len(lines) // 2)
    fields = lines[packet].split(",")
    late = ",".join([*fields[:2], f" {int(fields[2]) + 1}", *fields[3:]])
    swapped = [*lines[:packet], late, *lines[packet + 1 :]]
    for changed in (lines[:packet] + lines[packet + 1 :], swapped, lines[:-1]):
        assert digests(changed) != good
    slower = [line.replace("#tb 0: 1001/30000", "#tb 0: 1/30") for line in lines]
    assert slower != lines
    assert digests(slower) != good


def test_the_packets_of_another_output_are_refused(ffmpeg: str, coded: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "out.mp4"
    other.parent.mkdir()
    command = [ffmpeg, "-v", "error", "-i", str(coded / "out.mp4"), "-c:a", "copy", "-crf", "40", str(other)]
    subprocess.run(command, check=True, timeout=60)
    with pytest.raises(OutputFailure, match="does not hold what was coded for it"):
        check_output(ffmpeg, other, WANTED, stop=Stop(), packets=coded / "packets")


def test_without_the_list_of_packets_nothing_is_good(ffmpeg: str, coded: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    shutil.copy(coded / "out.mp4", place / "out.mp4")
    (tmp_path / "packets").write_text("")
    assert is_found(ffmpeg, place / "out.mp4", tmp_path / "packets")
