"""The program that draws effects: against FFmpeg's filters, path against path, and within its memory.

`SOAK_FULL=1` draws many more pictures and much larger ones.
"""

from __future__ import annotations

import fcntl
import os
import random
import subprocess
from math import log10
from pathlib import Path

import pytest

from runner.contract import Effects
from runner.ffmpeg_program import find_ffmpeg
from runner.graph import Probe, drawn
from runner.kernel.build import PROGRAM, build
from runner.recipe import is_drawable, recipe_of
from tests.support.clips import PLAIN
from tests.support.distances import distances

IS_LONG = os.environ.get("SOAK_FULL") == "1"
SIDES = [16, 18, 34, 50, 130, 322, 640, 1922, 8192] if IS_LONG else [16, 18, 34, 130, 322]
FUZZED = 4000 if IS_LONG else 120
# Undefined behaviour ends the program; so does a touch beyond its memory.
GUARDED = ("-O1", "-fsanitize=undefined", "-fsanitize-trap=undefined")

ENDS = [
    {},
    {"rotation_rad": 0.01, "zoom": 1.05},
    {"rotation_rad": -0.01, "zoom": 1.05, "mirror": True},
    {"rotation_rad": 0.01},
    {"rotation_rad": -0.01},
    {"rotation_rad": 0.001, "zoom": 1.001},
    {"zoom": 1.05},
    {"mirror": True},
    {"brightness": 0.05, "contrast": 1.05, "saturation": 1.05},
    {"brightness": -0.05, "contrast": 0.95, "saturation": 0.95},
    {"brightness": 0.05, "contrast": 0.95, "saturation": 1.05, "mirror": True, "rotation_rad": 0.007},
]

pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="the kernel was not built (SKIP_KERNEL)")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two programs that end at once when they touch what is not theirs: after a block, or before it."""
    folder = tmp_path_factory.mktemp("guarded")
    programs = [folder / "after", folder / "before"]
    build(programs[0], GUARDED)
    build(programs[1], [*GUARDED, "-DAT_THE_START"])
    return programs


def effects(**changes: object) -> Effects:
    return PLAIN.model_copy(update=changes)


def picture(width: int, height: int, *, frames: int = 1, seed: int = 1) -> bytes:
    """Return frames in which each pixel counts: smooth ones, with blocks of noise."""
    dice = random.Random(seed)
    plain = []
    for wide, high in [(width, height), (width // 2, height // 2), (width // 2, height // 2)]:
        across, down, start = dice.randint(1, 9), dice.randint(1, 9), dice.randint(0, 255)
        row = bytes((start + x * across // 4) % 256 for x in range(wide + 256))
        plain += [row[y * down % 256 :][:wide] for y in range(high)]
    frame = bytearray(b"".join(plain))
    for _ in range(4):
        at = dice.randrange(len(frame))
        frame[at : at + 64] = dice.randbytes(len(frame[at : at + 64]))
    return bytes(frame) * frames


def by_kernel(
    frames: bytes, width: int, height: int, *recipes: str, path: str = "", program: Path = PROGRAM
) -> list[bytes]:
    """Return the frames of each recipe. They go to files, since a pipe holds only so much."""
    files = [os.memfd_create("frames") for _ in recipes]
    high = [fcntl.fcntl(file, fcntl.F_DUPFD, 100) for file in files]  # clear of those that are set
    named = "3<&0 " + " ".join(f"{4 + n}>&{descriptor}" for n, descriptor in enumerate(high))
    words = [str(program), *([path] if path else []), str(width), str(height), *recipes]
    command = ["bash", "-c", f'exec "$0" "$@" {named}', *words]
    done = subprocess.run(
        command, input=frames, stderr=subprocess.PIPE, pass_fds=high, timeout=300, check=False
    )
    found = [os.pread(file, os.fstat(file).st_size, 0) for file in files]
    for descriptor in files + high:
        os.close(descriptor)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr.decode()}"
    return found


def by_filters(frames: bytes, width: int, height: int, wanted: Effects) -> bytes:
    found = Probe(width=width, height=height, duration_s=1, has_audio=False)
    raw = ["-f", "rawvideo", "-pix_fmt", "yuv420p"]
    command = [find_ffmpeg(), "-v", "error", *raw, "-video_size", f"{width}x{height}", "-i", "pipe:0"]
    chain = ",".join(drawn(wanted, found))
    command += ["-vf", chain, "-f", "rawvideo", "pipe:1"]
    return subprocess.run(command, input=frames, capture_output=True, check=True, timeout=300).stdout


def difference(one: bytes, other: bytes) -> tuple[float, int]:
    """Return the PSNR in decibels and the greatest difference of a pixel."""
    assert len(one) == len(other) > 0
    apart = [abs(a - b) for a, b in zip(one, other, strict=True) if a != b]
    if not apart:
        return 99.0, 0
    return 10 * log10(255**2 * len(one) / sum(d * d for d in apart)), max(apart)


@pytest.mark.parametrize("changes", ENDS, ids=str)
def test_each_effect_at_both_ends_is_the_picture_of_the_filters(changes):
    wanted = effects(**changes)
    frame = picture(322, 242)
    alike_db, apart = difference(
        by_kernel(frame, 322, 242, recipe_of(wanted))[0], by_filters(frame, 322, 242, wanted)
    )
    assert alike_db > 58
    assert apart <= 4  # where noise is, an eighth of a pixel counts


@pytest.mark.parametrize("side", SIDES)
def test_large_and_small_pictures_are_those_of_the_filters_to_their_corners(side):
    wanted = effects(rotation_rad=-0.01, zoom=1.02, mirror=True, contrast=1.05)
    for width, height in [(side, 16), (16, side), (side, min(side, 322))]:
        frame = picture(width, height)
        alike_db, _ = difference(
            by_kernel(frame, width, height, recipe_of(wanted))[0], by_filters(frame, width, height, wanted)
        )
        assert alike_db > 52, (width, height)  # a tiny picture is all edge


def test_colour_alone_is_that_of_the_filters_to_the_last_pixel():
    every = bytes(range(256)) * (256 * 384 // 256)
    for changes in ENDS[8:10]:
        wanted = effects(**changes)
        assert by_kernel(every, 256, 256, recipe_of(wanted)) == [by_filters(every, 256, 256, wanted)]


def test_no_effect_changes_nothing():
    frame = picture(322, 242)
    assert by_kernel(frame, 322, 242, recipe_of(effects())) == [frame]


@pytest.mark.parametrize("strength", [1, 4, 8])
def test_noise_is_as_strong_as_that_of_the_filters_and_new_in_each_frame(strength):
    grey = bytes([128]) * (128 * 128 * 3 // 2)
    wanted = effects(noise=strength)
    ours = by_kernel(grey * 2, 128, 128, recipe_of(wanted))[0]
    theirs = by_filters(grey * 2, 128, 128, wanted)
    assert deviation(ours) == pytest.approx(deviation(theirs), rel=0.08)
    assert abs(sum(ours) / len(ours) - 128) < 0.4  # of some 1,100 draws
    assert ours[: len(grey)] != ours[len(grey) :]


def deviation(values: bytes) -> float:
    return (sum((value - 128) ** 2 for value in values) / len(values)) ** 0.5


def test_a_shift_moves_the_picture_within_the_room_and_shows_no_edge():
    """Columns grow brighter to the right: a shift moves which of them are seen, and no edge repeats."""
    row = bytes(20 + x * 200 // 640 for x in range(640))
    frame = row * 360 + bytes([128]) * (320 * 180 * 2)
    left, middle, right = (
        by_kernel(frame, 640, 360, recipe_of(effects(zoom=1.05, shift_x=shift)))[0] for shift in (-1, 0, 1)
    )
    assert left[:2] == row[:2]
    assert right[638:640] == row[638:640]
    assert middle[320] == pytest.approx(row[320], abs=1)
    assert left[320] < middle[320] < right[320]


def test_the_same_recipe_gives_the_same_bytes_with_any_siblings():
    frame = picture(130, 98, frames=3)
    one, other = recipe_of(effects(noise=5, rotation_rad=0.004)), recipe_of(effects(noise=5, mirror=True))
    alone = [by_kernel(frame, 130, 98, recipe)[0] for recipe in (one, other)]
    assert by_kernel(frame, 130, 98, one, other) == alone
    assert by_kernel(frame, 130, 98, other, one) == alone[::-1]
    assert alone[0] != alone[1]


def random_recipe(dice: random.Random) -> str:
    """Return any recipe that the program takes, often at an end of a range."""
    ranges = [(-0.1, 0.1), (1, 1.1), (-1, 1), (-1, 1), (0, 0), (-0.5, 0.5), (0.5, 1.5), (0, 1.5), (0, 50)]
    values = [dice.choice([low, high, dice.uniform(low, high)]) for low, high in ranges]
    values[1] = dice.choice([values[1], 1 + dice.random() * 0.06, dice.uniform(1, 4)])
    values[4] = dice.randint(0, 1)
    values[8] = dice.choice([0, values[8]])
    return ":".join(f"{value:.6f}" for value in values)


def random_side(dice: random.Random) -> int:
    return 2 * dice.choice([dice.randint(1, 12), dice.randint(1, 90), dice.randint(1, 300)])


def cells(frame: bytes, width: int, height: int) -> list[float]:
    """Return the mean brightness of 32x18 equal parts of a frame whose sides they divide."""
    across, down = (32, 18) if width >= height else (18, 32)
    wide, high = width // across, height // down
    assert (wide * across, high * down) == (width, height)
    return [
        sum(frame[(y * high + row) * width + x * wide + n] for row in range(high) for n in range(wide))
        / (wide * high)
        for y in range(down)
        for x in range(across)
    ]


def apart(one: list[float], other: list[float]) -> float:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True)) / len(one) / 219


@pytest.mark.parametrize(("width", "height"), [(640, 360), (288, 512)])
def test_the_distances_are_those_of_the_pictures_that_are_drawn_in_full(width, height):
    frame = picture(width, height)
    wanted = [
        effects(rotation_rad=0.01, zoom=1.03, noise=4),
        effects(brightness=0.05, contrast=1.05),
        effects(mirror=True, zoom=1.05, shift_x=0.9, shift_y=-1),
        effects(zoom=1.02, shift_x=-1, brightness=-0.03),
    ]
    recipes = list(map(recipe_of, wanted))
    found = distances(frame, width, height, *recipes[:2], "compared", "1", *recipes[2:])
    source, *drawn_in_full = (
        cells(one, width, height) for one in (frame, *by_kernel(frame, width, height, *recipes))
    )
    for n in (0, 1):
        mine = drawn_in_full[n]
        nearest = min(apart(mine, other) for m, other in enumerate(drawn_in_full) if m != n)
        assert found[f"source_{n}"] / 1e6 == pytest.approx(apart(mine, source), rel=0.05, abs=0.001)
        assert found[f"sibling_{n}"] / 1e6 == pytest.approx(nearest, rel=0.05, abs=0.001)


def test_the_distances_of_a_recipe_do_not_depend_on_which_others_are_drawn_with_it():
    frames = b"".join(picture(130, 98, seed=seed) for seed in range(10))
    a, b, c = (recipe_of(effects(zoom=1 + n / 50, mirror=n == 1, noise=n)) for n in range(3))
    alone = distances(frames, 130, 98, a, "compared", "3", c, b)
    together = distances(frames, 130, 98, b, a, "compared", "3", c)
    assert alone["source_0"] == together["source_1"] == 0
    assert alone["sibling_0"] == together["sibling_1"] > 0


def test_nothing_is_said_of_what_was_not_compared():
    frame, recipe = picture(34, 34), recipe_of(effects(mirror=True))
    assert set(distances(frame, 34, 34, recipe, "compared", "1")) == {"source_0"}
    assert distances(frame, 34, 34, recipe, "compared", "9", recipe) == {}
    assert distances(b"", 34, 34, recipe, "compared", "1", recipe) == {}


@pytest.mark.parametrize("part", range(4))
def test_all_paths_agree_and_stay_within_their_memory_for_any_recipe(guarded, part):
    for seed in range(part, FUZZED, 4):
        dice = random.Random(seed)
        width, height = random_side(dice), random_side(dice)
        frame = dice.randbytes(width * height * 3 // 2)
        recipes = [random_recipe(dice) for _ in range(dice.randint(1, 3))]
        case = (seed, width, height, recipes)
        plain = by_kernel(frame, width, height, *recipes, path="scalar", program=guarded[seed // 4 % 2])
        assert by_kernel(frame, width, height, *recipes, program=guarded[seed // 4 % 2]) == plain, case
        assert by_kernel(frame, width, height, *recipes, path="base") == plain, case
        assert by_kernel(frame, width, height, *recipes) == plain, case
        compared = [*recipes, "compared", "1", *(random_recipe(dice) for _ in range(dice.randint(0, 3)))]
        told = distances(frame, width, height, *compared, program=guarded[seed // 4 % 2])
        assert distances(frame, width, height, *compared, path="scalar") == told, case
        assert all(0 <= value <= 1_000_000 for value in told.values()), case


def test_the_largest_pictures_stay_within_their_memory(guarded):
    for width, height in [(8192, 2), (2, 8192), (8192, 64)]:
        frame = picture(width, height)
        recipe = recipe_of(effects(rotation_rad=0.01, zoom=1.001, noise=8, mirror=True))
        for program in guarded:
            assert by_kernel(frame, width, height, recipe, program=program) == by_kernel(
                frame, width, height, recipe, path="scalar"
            )


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["16"],
        ["16", "16"],
        ["17", "16", recipe_of(PLAIN)],
        ["16", "0", recipe_of(PLAIN)],
        ["16", "8194", recipe_of(PLAIN)],
        ["-16", "16", recipe_of(PLAIN)],
        ["16", "16", "0:1"],
        ["16", "16", recipe_of(PLAIN) + ":1"],
        ["16", "16", recipe_of(PLAIN).replace("1", "nan", 1)],
        ["16", "16", "0:0.5:0:0:0:0:1:1:0"],
        ["strange", "16", "16", recipe_of(PLAIN)],
        ["16", "16", *[recipe_of(PLAIN)] * 17],
        ["16", "16", "compared", "1"],
        ["16", "16", recipe_of(PLAIN), "compared"],
        ["16", "16", recipe_of(PLAIN), "compared", "0"],
        ["16", "16", recipe_of(PLAIN), "compared", "1.5"],
        ["16", "16", recipe_of(PLAIN), "compared", "1", "0:1"],
        ["16", "16", recipe_of(PLAIN), "compared", "1", *[recipe_of(PLAIN)] * 129],
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_wrong_arguments_are_refused_with_a_line(words):
    done = subprocess.run([PROGRAM, *words], input=b"", capture_output=True, check=False, timeout=10)
    assert done.returncode == 1
    assert done.stderr.startswith(b"effects: ")
    assert done.stderr.count(b"\n") == 1


def test_a_frame_that_is_cut_off_and_an_output_that_is_not_read_are_errors():
    frame = picture(16, 16)
    with pytest.raises(AssertionError, match="1: effects: a frame is cut off"):
        by_kernel(frame + frame[:-1], 16, 16, recipe_of(PLAIN))
    words = ["bash", "-c", 'exec "$0" "$@" 3<&0 4>&-', PROGRAM, "16", "16", recipe_of(PLAIN)]
    closed = subprocess.run(words, input=frame, capture_output=True, check=False)
    assert closed.returncode == 1
    assert b"an output is closed" in closed.stderr


def test_effects_beyond_what_it_draws_well_are_left_to_the_filters():
    assert is_drawable(effects(rotation_rad=0.01, zoom=1.05), width=8192, height=2)
    assert not is_drawable(effects(rotation_rad=0.2), width=640, height=360)
    assert not is_drawable(effects(zoom=0.9), width=640, height=360)
    assert not is_drawable(effects(contrast=2), width=640, height=360)
    assert not is_drawable(effects(), width=8194, height=360)


def test_the_program_is_built_the_same_each_time(tmp_path):
    build(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == PROGRAM.read_bytes()


@pytest.mark.parametrize(("machine", "elf_machine"), [("x86_64", 62), ("aarch64", 183)])
def test_it_is_built_for_each_machine_that_has_a_jail(tmp_path, machine, elf_machine):
    build(tmp_path / "program", machine=machine)
    assert (tmp_path / "program").read_bytes()[18] == elf_machine


def test_nothing_is_left_of_a_build_that_fails(tmp_path):
    with pytest.raises(subprocess.CalledProcessError):
        build(tmp_path / "broken", ["-DLANES="])
    assert list(tmp_path.iterdir()) == []
