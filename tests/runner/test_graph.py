"""The arguments of one output: pure checks, and FFmpeg's results of them."""

from __future__ import annotations

import math
import re
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

from runner import graph
from runner.commands import Lead, Other, lead_of, others_args, variation_args
from runner.contract import Effects, Quality, Style
from runner.graph import Probe, drawn, standard, timed
from runner.limits import ALLOCATION_BYTES_MAX
from runner.media import SOURCE_PIXELS_MAX
from tests.support.clips import PLAIN, describe, make_clip

SOURCE = Probe(width=320, height=180, duration_s=1, has_audio=True)
EXTREMES = [
    {"rotation_rad": 0.01},
    {"rotation_rad": -0.01, "zoom": 1.05},
    {"rotation_rad": 0.01, "zoom": 1.05, "mirror": True},
    {"zoom": 1.03},
    {"mirror": True},
    {"rotation_rad": -0.01, "mirror": True},
]
SHIFTS = [
    {"rotation_rad": 0.01, "zoom": 1.05, "shift_x": 1.0, "shift_y": -1.0},
    {"rotation_rad": -0.01, "zoom": 1.05, "shift_x": -1.0, "shift_y": 1.0, "mirror": True},
    {"zoom": 1.05, "shift_x": 1.0, "shift_y": 1.0},
]


def video_filters(wanted: Effects, found: Probe) -> str:
    return ",".join([*timed(wanted, found), *standard(found), *drawn(wanted, found)])


def effects(**changes: object) -> Effects:
    return PLAIN.model_copy(update=changes)


def ffmpeg_says(ffmpeg: str, *args: str) -> str:
    command = [ffmpeg, "-hide_banner", "-nostdin", *args]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stderr


def similarity_db(ffmpeg: str, ours: str, plain: str) -> float:
    """Return the PSNR of two chains over the inner 90 % of a smooth picture without symmetry."""
    inner = "crop=iw*0.9:ih*0.9"
    picture = "testsrc2=s=640x360:r=30000/1001:d=0.1,gblur=sigma=2,format=yuv420p,split[a][b]"
    compared = f"{picture};[a]{ours},{inner}[c];[b]{plain},{inner}[d];[c][d]psnr[e]"
    said = ffmpeg_says(ffmpeg, "-filter_complex", compared, "-map", "[e]", "-f", "null", "-")
    found = re.search(r"average:(\S+)", said)
    assert found
    return float(found[1])


def plain_chain(wanted: Effects) -> str:
    zoom = f"scale=iw*{wanted.zoom}:ih*{wanted.zoom}:flags=bicubic,crop=640:360"
    return f"rotate={wanted.rotation_rad}:bilinear=1,{zoom}{',hflip' if wanted.mirror else ''}"


@pytest.mark.parametrize("changes", EXTREMES)
def test_the_picture_equals_the_plain_chain(ffmpeg: str, changes: dict[str, object]) -> None:
    wanted, large = effects(**changes), Probe(width=640, height=360, duration_s=1, has_audio=False)
    same_db = similarity_db(ffmpeg, video_filters(wanted, large), plain_chain(wanted))
    untouched_db = similarity_db(ffmpeg, video_filters(wanted, large), "null")
    assert same_db > 38
    assert untouched_db < same_db - 5


def test_a_mirror_is_exact_in_light_and_colour(ffmpeg: str) -> None:
    large = Probe(width=640, height=360, duration_s=1, has_audio=False)
    assert similarity_db(ffmpeg, video_filters(effects(mirror=True), large), "hflip") == math.inf


@pytest.mark.parametrize("changes", [*EXTREMES, *SHIFTS])
def test_no_corner_turns_black(ffmpeg: str, changes: dict[str, object], tmp_path: Path) -> None:
    chain = video_filters(effects(**changes), SOURCE)
    white = f"color=white:s=320x180:r=30000/1001:d=0.1,format=yuv420p,{chain}"
    frame = tmp_path / "frame.raw"
    ffmpeg_says(ffmpeg, "-f", "lavfi", "-i", white, "-frames:v", "1", "-f", "rawvideo", str(frame))
    pixels = frame.read_bytes()
    assert min(pixels[: 320 * 180]) >= 234  # white is 235
    assert all(abs(chroma - 128) <= 1 for chroma in pixels[320 * 180 :])


def test_zoom_that_covers_the_rotation_shows_nothing_of_the_edge() -> None:
    turned = effects(rotation_rad=0.01, zoom=1.05)
    inner = [graph._origin(turned, x, y, width=1280, height=720) for x in (0, 1280) for y in (0, 720)]
    assert all(0 <= u <= 1280 and 0 <= v <= 720 for u, v in inner)


@pytest.mark.parametrize("changes", SHIFTS)
def test_a_whole_shift_reaches_the_edge_of_the_source_and_never_passes_it(changes: dict[str, object]) -> None:
    corners = [(x, y) for x in (0, 1279) for y in (0, 719)]
    shown = [graph._origin(effects(**changes), x, y, width=1280, height=720) for x, y in corners]
    across, down = [u for u, _ in shown], [v for _, v in shown]
    for found, longest, side in ((across, 1279, changes["shift_x"]), (down, 719, changes["shift_y"])):
        assert min(found) >= -1
        assert max(found) <= longest + 0.5
        assert (max(found) >= longest - 1) if side == 1.0 else (min(found) <= 0.5)


def test_without_zoom_there_is_no_room_to_shift() -> None:
    moved = graph._origin(effects(shift_x=1.0, shift_y=-1.0), 5, 7, width=320, height=180)
    assert moved == graph._origin(effects(), 5, 7, width=320, height=180)


@pytest.mark.parametrize(("shift", "left", "top"), [((1, 1), 32, 18), ((-1, 0), 0, 9), ((0.5, -1), 24, 0)])
def test_a_shifted_picture_equals_a_crop_of_that_part(
    ffmpeg: str, shift: tuple[float, float], left: int, top: int
) -> None:
    large = Probe(width=640, height=360, duration_s=1, has_audio=False)
    wanted = effects(zoom=1.05, shift_x=shift[0], shift_y=shift[1])
    cropped = f"scale=iw*1.05:ih*1.05:flags=bicubic,crop=640:360:{left}:{top}"
    middle = "scale=iw*1.05:ih*1.05:flags=bicubic,crop=640:360"
    same_db = similarity_db(ffmpeg, video_filters(wanted, large), cropped)
    assert same_db > 38
    assert similarity_db(ffmpeg, video_filters(wanted, large), middle) < same_db - 10


def test_a_positive_angle_turns_clockwise() -> None:
    u, v = graph._origin(effects(rotation_rad=math.pi / 2), 100, 50, width=100, height=100)
    assert (round(u), round(v)) == (50, 0)


def test_effects_are_written_as_drawn() -> None:
    chain = video_filters(effects(brightness=-0.05, contrast=1.0321, saturation=0.95, speed=1.03), SOURCE)
    assert chain.startswith("setpts=PTS/1.03,fps=30000/1001:start_time=0,")
    assert "lutyuv=y=round((val-128)*1.0321+128+255*-0.05):u=round((val-128)*0.95+128):" in chain
    assert "noise" not in chain
    assert video_filters(effects(noise=8), SOURCE).endswith("noise=alls=8:allf=t")


def test_tiny_numbers_have_no_exponent() -> None:
    assert "e-" not in video_filters(effects(rotation_rad=1e-7, brightness=1e-5), SOURCE)


def test_odd_dimensions_become_even() -> None:
    odd = Probe(width=161, height=91, duration_s=1, has_audio=False)
    assert "scale=160:90" in video_filters(PLAIN, odd)
    assert "scale" not in video_filters(PLAIN, SOURCE)


def test_no_sound_is_requested_of_a_silent_source() -> None:
    silent = Probe(width=320, height=180, duration_s=1, has_audio=False)
    args = variation_args(PLAIN, silent, source="in", output="out")
    assert "-af" not in args
    assert "0:a:0" not in args


@pytest.mark.parametrize(
    "disguise", ["#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n", "ffconcat version 1.0\nfile "]
)
def test_a_playlist_that_names_a_neighbour_is_refused(ffmpeg: str, disguise: str, tmp_path: Path) -> None:
    make_clip(ffmpeg, tmp_path / "secret.mp4")
    playlist = tmp_path / "video.mp4"
    playlist.write_text(disguise + "secret.mp4\n")
    args = variation_args(PLAIN, SOURCE, source=str(playlist), output=str(tmp_path / "out.mp4"))
    done = subprocess.run([ffmpeg, *args], capture_output=True, check=False, timeout=60)
    assert done.returncode != 0
    assert not (tmp_path / "out.mp4").exists()


def render(ffmpeg: str, source: Path, output: Path, wanted: Effects, found: Probe) -> bytes:
    args = variation_args(wanted, found, source=str(source), output=str(output))
    subprocess.run([ffmpeg, *args], check=True, capture_output=True, timeout=60)
    return output.read_bytes()


def test_nothing_of_the_sources_metadata_nor_of_the_encoder_is_written(ffmpeg: str, tmp_path: Path) -> None:
    source = make_clip(
        ffmpeg,
        tmp_path / "source.mp4",
        *["-metadata", "title=SecretTitle", "-metadata", "creation_time=2020-01-02T03:04:05Z"],
        *["-metadata", "location=+52.1+13.1/", "-metadata:s:v:0", "handler_name=SecretHandler"],
        *["-metadata:s:a:0", "language=fra", "-metadata:s:v:0", "language=fra"],
        size="320x180",
    )
    written = render(ffmpeg, source, tmp_path / "out.mp4", effects(speed=1.02, noise=3), SOURCE)
    said = describe(ffmpeg, tmp_path / "out.mp4")
    for word in ("Secret", "creation_time", "location", "(fra)", "handler_name", "encoder", "Chapter"):
        assert word not in said
    for tag in (b"Secret", b"x264", b"Lavc", b"Lavf", b"Handler"):
        assert tag not in written
    assert written.index(b"moov") < written.index(b"mdat")


def test_full_range_and_rotated_phone_footage_comes_out_upright_in_video_range(
    ffmpeg: str, tmp_path: Path
) -> None:
    upright = make_clip(ffmpeg, tmp_path / "upright.mp4", "-pix_fmt", "yuvj420p", size="160x90")
    turned = tmp_path / "turned.mp4"
    command = [
        ffmpeg,
        "-v",
        "error",
        "-display_rotation",
        "90",
        "-i",
        str(upright),
        "-c",
        "copy",
        str(turned),
    ]
    subprocess.run(command, check=True, timeout=60)
    found = Probe(width=90, height=160, duration_s=1, has_audio=True)
    render(ffmpeg, turned, tmp_path / "out.mp4", PLAIN, found)
    said = describe(ffmpeg, tmp_path / "out.mp4")
    assert "90x160" in said
    assert "yuv420p(" in said
    assert "rotation" not in said


def stats_of(*quantisers: float) -> list[str]:
    return [f"in:{n} q:{q:.2f} aq:9.00 tex:900000 mv:90000 misc:10000" for n, q in enumerate(quantisers)]


def followed(lead: Lead, noise: int = 0, found: Probe = SOURCE) -> list[str]:
    other = Other(PLAIN.model_copy(update={"noise": noise}), "o")
    return others_args([other], found, source="in", first="f", stats={False: "s"}, lead=lead)


def test_siblings_get_the_bits_that_the_first_one_had_even_if_its_start_was_above_the_cap() -> None:
    lead = lead_of(stats_of(30, 30, 31, 30, 30, 30), 2.0)
    assert lead == Lead(kbps=3000, is_uneven=False)
    assert option(followed(lead), "-b:v") == option(followed(lead, noise=8), "-b:v") == "3000k"
    assert "-maxrate" not in followed(lead)
    large = Probe(width=1920, height=1080, duration_s=1, has_audio=True)
    assert option(followed(lead, found=large), "-b:v") == "3000k"
    assert option(followed(lead, noise=8, found=large), "-b:v") == "2670k"


def test_siblings_are_held_to_the_cap_where_the_first_one_needed_much_coarser_frames_for_it() -> None:
    assert not lead_of(stats_of(*[30] * 20, *[37.9] * 10, 45), 2.0).is_uneven
    assert not lead_of(stats_of(*[30] * 30, 45), 2.0).is_uneven, "a few frames at the end"
    assert not lead_of([], 2.0).is_uneven
    assert lead_of(stats_of(*[30] * 10, *[38] * 20), 2.0).is_uneven
    assert option(followed(Lead(kbps=900, is_uneven=True)), "-maxrate") == "2500k"
    assert option(followed(Lead(kbps=2900, is_uneven=True)), "-maxrate") == "2900k"


def test_grain_is_predicted_from_the_last_frame_alone() -> None:
    for noise, is_grainy in ((0, False), (2, False), (3, True), (8, True)):
        recipe = PLAIN.model_copy(update={"noise": noise})
        first = variation_args(recipe, SOURCE, source="in", output="out")
        for args in (first, followed(Lead(kbps=9, is_uneven=False), noise)):
            # x264 refuses statistics of other kinds of frames
            assert ("bframes=0" in option(args, "-x264-params")) is is_grainy


def test_motion_is_searched_for_finely_where_there_is_noise_except_in_siblings() -> None:
    for noise, search in ((0, "subme=2"), (1, "subme=4"), (8, "subme=4")):
        recipe = PLAIN.model_copy(update={"noise": noise})
        assert search in option(variation_args(recipe, SOURCE, source="in", output="out"), "-x264-params")
        others = followed(Lead(kbps=9, is_uneven=False), noise)
        assert "subme=2" in option(others, "-x264-params")


def option(args: list[str], name: str) -> str:
    return args[args.index(name) + 1]


@pytest.mark.parametrize(
    ("width", "height", "quality", "crf", "cap", "buffer"),
    [
        (320, 180, "standard", "23", "2500k", "4000k"),
        (1920, 1080, "standard", "23", "2500k", "4000k"),
        (1080, 1920, "high", "19", "7500k", "12000k"),
        (3840, 2160, "standard", "23", "7071k", "11314k"),
        (3840, 2160, "high", "19", "21213k", "33941k"),
    ],
)
def test_the_cap_grows_with_the_frame_and_the_quality(
    width: int, height: int, quality: Quality, crf: str, cap: str, buffer: str
) -> None:
    found = Probe(width=width, height=height, duration_s=1, has_audio=False)
    style = Style(quality=quality)
    args = variation_args(PLAIN, found, source="in", output="out", style=style)
    assert (option(args, "-crf"), option(args, "-maxrate"), option(args, "-bufsize")) == (crf, cap, buffer)


@pytest.mark.parametrize(
    ("rate", "written"),
    [
        (Fraction(25), "25/1"),
        (Fraction(24000, 1001), "24000/1001"),
        (Fraction(120), "60/1"),
        (None, "30000/1001"),
    ],
)
def test_frame_rate_source_is_that_of_the_source_up_to_60(rate: Fraction | None, written: str) -> None:
    found = Probe(width=320, height=180, duration_s=1, has_audio=False, rate=rate)
    style = Style(frame_rate="source")
    args = variation_args(PLAIN, found, source="in", output="out", style=style)
    assert f"fps={written}:start_time=0" in option(args, "-vf")
    assert "fps=30000/1001:" in option(variation_args(PLAIN, found, source="in", output="out"), "-vf")


def test_the_bit_rate_of_a_picture_without_a_length_is_that_of_one_frame() -> None:
    assert lead_of(["in:0 tex:1000 mv:0 misc:0;"], 0).kbps == 60


def test_the_table_of_perspective_for_the_largest_frame_may_be_allocated() -> None:
    """FFmpeg's `perspective` has two numbers of 32 bits for each pixel of two planes' sizes."""
    assert 16 * SOURCE_PIXELS_MAX < ALLOCATION_BYTES_MAX
