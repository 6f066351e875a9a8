"""Real footage, damaged in every way that a seed comes up with."""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.support.boxes import headers
from tests.support.clips import make_clip

FOOTAGE = Path(__file__).parents[3] / "shared" / "clips" / "bunny-720p-5s.mp4"
EXTREMES = (0, 1, 7, 8, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def footage(ffmpeg: str, path: Path) -> bytes:
    """Return a short, small piece of real footage with sound, or of a generated clip where there is none."""
    source = FOOTAGE if FOOTAGE.exists() else make_clip(ffmpeg, path.with_name("clip.mp4"))
    small = ["-t", "0.3", "-vf", "scale=160:-2", "-c:v", "libx264", "-g", "4", "-c:a", "aac", "-ar", "44100"]
    command = [ffmpeg, "-v", "error", "-i", str(source), *small, "-fflags", "+bitexact", str(path)]
    subprocess.run(command, check=True, timeout=60)
    return path.read_bytes()


def mutated(sound: bytes, seed: int) -> bytes:
    """Return a damaged copy: the same for the same seed."""
    dice = random.Random(seed)
    damaged = bytearray(sound)
    for _ in range(dice.choice((1, 1, 2, 5))):
        dice.choice(WAYS)(damaged, dice)
    return bytes(damaged)


def _flip_bits(file: bytearray, dice: random.Random) -> None:
    for _ in range(dice.choice((1, 4, 64))):
        file[dice.randrange(len(file))] ^= 1 << dice.randrange(8)


def _flip_bits_of_the_index(file: bytearray, dice: random.Random) -> None:
    start = max(0, file.find(b"moov"))
    for _ in range(dice.choice((1, 4, 16))):
        file[dice.randrange(start, len(file))] ^= 1 << dice.randrange(8)


def _cut_off(file: bytearray, dice: random.Random) -> None:
    del file[max(64, len(file) * dice.randrange(1, 100) // 100) :]


def _cut_out(file: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(file))
    if len(file) > 1000:
        del file[start : start + dice.randrange(1, 500)]


def _repeat(file: bytearray, dice: random.Random) -> None:
    start = dice.randrange(len(file))
    file[start:start] = file[start : start + dice.randrange(1, 500)]


def _resize_a_box(file: bytearray, dice: random.Random) -> None:
    at = dice.choice(_headers(file))
    struct.pack_into(">I", file, at, dice.choice(EXTREMES))


def _rename_a_box(file: bytearray, dice: random.Random) -> None:
    names = [bytes(file[at + 4 : at + 8]) for at in _headers(file)]
    at = dice.choice(_headers(file))
    file[at + 4 : at + 8] = dice.choice([*names, b"free", b"moof", b"uuid", b"cmov"])


def _exaggerate(file: bytearray, dice: random.Random) -> None:
    """Put an extreme into a box: counts, sizes, offsets, durations."""
    at = dice.choice(_headers(file)) + dice.randrange(8, 40, 4)
    if at + 4 <= len(file):
        struct.pack_into(">I", file, at, dice.choice(EXTREMES))


def _headers(file: bytearray) -> list[int]:
    try:
        return list(headers(bytes(file)))[:200]
    except struct.error:  # of what was damaged before
        return [0]


WAYS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip_bits,
    _flip_bits_of_the_index,
    _cut_off,
    _cut_out,
    _repeat,
    _resize_a_box,
    _rename_a_box,
    _exaggerate,
    _exaggerate,
)
