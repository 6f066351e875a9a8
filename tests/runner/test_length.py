"""Every source has its true length, and every output keeps it, the duration of the last picture included."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest

from runner.contract import OutputSpec, Preset
from runner.timing import output_rate_of, stream_times
from tests.support.clips import PLAIN
from tests.support.making import made, picture_s, rendered, renderer_in, source_of

FRAME_S = 1001 / 30000
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
B_FRAMES = ["-bf", "3", "-b_strategy", "0"]
FINE = ["-enc_time_base", "1:1000"]
UNEVEN = "setpts='if(lt(N,3),N,if(lt(N,6),3+(N-3)*2,9+(N-6)*0.2))/TB'"


def pictures(rate: str, count: int) -> list[str]:
    return ["-f", "lavfi", "-i", f"testsrc2=s=160x120:r={rate}", "-frames:v", str(count)]


KINDS: dict[str, tuple[list[str], float]] = {
    "1 fps": ([*pictures("1", 4), *X264], 4),
    "1 fps with B-frames": ([*pictures("1", 6), *X264, *B_FRAMES], 6),
    "3 s per picture": ([*pictures("1/3", 3), *X264], 9),
    "5 fps": ([*pictures("5", 10), *X264], 2),
    "10 fps with B-frames": ([*pictures("10", 25), *X264, *B_FRAMES], 2.5),
    "one picture of 2 s": ([*pictures("1/2", 1), *X264], 2),
    "one picture of a frame": ([*pictures("30", 1), *X264], 1 / 30),
    "one picture of 1/120 s": ([*pictures("120", 1), *X264], 1 / 120),
    "half a second": ([*pictures("30", 15), *X264, *B_FRAMES], 0.5),
    "uneven": ([*pictures("1", 12), "-vf", UNEVEN, "-fps_mode", "vfr", *FINE, *X264, "-bf", "0"], 11),
    "uneven with B-frames": (
        [*pictures("1", 12), "-vf", UNEVEN, "-fps_mode", "vfr", *FINE, *X264, *B_FRAMES],
        11,
    ),
    "fragmented without an index": (
        [*pictures("2", 6), *X264, "-g", "2", "-movflags", "+frag_keyframe+empty_moov+default_base_moof"],
        3,
    ),
    "60 fps": ([*pictures("60", 90), *X264, *B_FRAMES], 1.5),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_silent_source_has_its_length_and_its_output_keeps_it(
    ffmpeg: str, kind: str, tmp_path: Path
) -> None:
    args, seconds = KINDS[kind]
    source = source_of(ffmpeg, made(ffmpeg, tmp_path / "source.mp4", *args))
    assert source.probe.duration_s == pytest.approx(seconds, abs=0.002)
    output = rendered(ffmpeg, source, tmp_path, PLAIN.model_copy(update={"speed": 0.97}))
    assert picture_s(ffmpeg, output) == pytest.approx(max(FRAME_S, seconds / 0.97), abs=FRAME_S)


@pytest.mark.parametrize("preset", [Preset.WEB_OPTIMIZED, Preset.HLS, Preset.COPY])
@pytest.mark.parametrize(
    "kind", ["1 fps with B-frames", "one picture of 2 s", "uneven", "uneven with B-frames"]
)
def test_a_preset_keeps_the_length_too(ffmpeg: str, kind: str, preset: Preset, tmp_path: Path) -> None:
    args, seconds = KINDS[kind]
    source = source_of(ffmpeg, made(ffmpeg, tmp_path / "source.mp4", *args))
    output = rendered(ffmpeg, source, tmp_path, None, preset)
    assert picture_s(ffmpeg, output) == pytest.approx(seconds, abs=FRAME_S)


def test_siblings_of_a_slideshow_keep_its_length(ffmpeg: str, tmp_path: Path) -> None:
    args, seconds = KINDS["1 fps with B-frames"]
    source = source_of(ffmpeg, made(ffmpeg, tmp_path / "source.mp4", *args))
    outputs = [
        OutputSpec(
            output_id=f"o{n}",
            source_id="s",
            effects=PLAIN.model_copy(update={"speed": 1.03, "zoom": 1 + n / 100}),
            put_url="",
            put_headers={},
        )
        for n in range(3)
    ]
    renderer = renderer_in(ffmpeg, tmp_path)
    first, shared = renderer.first(outputs[0], source)
    others = renderer.others(outputs[1:], source, shared)
    assert len(others) == 2
    for output in [first, *others]:
        assert picture_s(ffmpeg, output.path) == pytest.approx(seconds / 1.03, abs=FRAME_S)


def test_a_picture_that_ends_before_the_sound_is_not_held_until_its_end(ffmpeg: str, tmp_path: Path) -> None:
    tone = ["-f", "lavfi", "-i", "sine=d=3"]
    path = made(
        ffmpeg, tmp_path / "source.mp4", *tone, "-f", "lavfi", "-i", "testsrc2=s=160x120:r=5:d=1", *X264
    )
    source = source_of(ffmpeg, path)
    assert source.probe.duration_s == pytest.approx(3, abs=0.03)
    assert source.probe.picture_s == pytest.approx(1)
    assert picture_s(ffmpeg, rendered(ffmpeg, source, tmp_path)) == pytest.approx(1, abs=FRAME_S)


@pytest.mark.parametrize(
    ("rate", "kept"),
    [
        ("24000/1001", "24000/1001"),
        ("24", "24"),
        ("25", "25"),
        ("30", "30"),
        ("50", "50"),
        ("60000/1001", "60000/1001"),
        ("60", "60"),
        ("120", "60"),
        ("15", "15"),
        ("5", "5"),
        ("6", "6"),
        ("3", "6"),
        ("1/3", "5"),
    ],
)
def test_frame_rate_source_keeps_a_constant_rate_up_to_60(
    ffmpeg: str, rate: str, kept: str, tmp_path: Path
) -> None:
    path = made(ffmpeg, tmp_path / "source.mp4", *pictures(rate, 20), *X264)
    source = source_of(ffmpeg, path)
    speed = 1.03 if "/" in rate else 0.983
    effects = PLAIN.model_copy(update={"speed": speed})
    found = source_of(ffmpeg, rendered(ffmpeg, source, tmp_path, effects, frame_rate="source")).probe
    assert found.rate == Fraction(kept)
    length_s = source.probe.duration_s / speed
    assert found.picture_s == pytest.approx(length_s, abs=float(1 / Fraction(kept)))


def test_a_variable_rate_becomes_the_nearest_common_one(ffmpeg: str, tmp_path: Path) -> None:
    some_left_out = ["-vf", "select='mod(n\\,11)'", "-fps_mode", "vfr"]
    path = made(ffmpeg, tmp_path / "source.mp4", *pictures("30", 60), *some_left_out, *X264)
    assert source_of(ffmpeg, path).probe.rate == Fraction(30000, 1001)


def packets(*times: Sequence[int]) -> list[str]:
    header = ["#tb 0: 1/10", "#media_type 0: video"]
    return [
        *header,
        *(f"0, {dts}, {pts}, {lasts}, 9, 0xff, F=0x{flags:X}" for dts, pts, lasts, flags in times),
    ]


def test_packets_that_an_edit_cuts_away_do_not_count() -> None:
    (video,) = stream_times(packets((-10, -10, 10, 5), (0, 0, 10, 1), (10, 10, 10, 0), (20, 20, 10, 4)))
    assert (video.packets, video.shown, video.ends_s) == (4, 2, 2)


def test_a_list_that_a_hostile_ffmpeg_wrote_takes_no_memory() -> None:
    many = (f"#tb {n}: 1/10" for n in range(100_000))
    assert len(stream_times(many)) == 2


def test_two_pictures_in_an_hour_have_a_rate_that_frames_can_have() -> None:
    (video,) = stream_times(packets((0, 0, 18_000, 0), (18_000, 18_000, 18_000, 0)))
    rate = output_rate_of(video)
    assert rate
    assert 5 <= rate < 5.1


def test_lines_that_are_no_packets_are_left_out() -> None:
    assert stream_times(["", "0, 1, 2, 3, 4, 0xff", "#tb x: 1/2", "7, 1, 1, 1, 1,"]) == []
