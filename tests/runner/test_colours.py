"""Colour and shape: an output without effects shows what the source shows, and its tags say so.

The reference is made another way: by zimg and `overlay`, or from the picture before it was encoded, where the
runner uses swscale and `premultiply`.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass
from math import exp, log, log10
from pathlib import Path

import pytest

from tests.support.clips import describe
from tests.support.kinds import with_dolby_vision
from tests.support.making import made, raw, rendered, source_of

SIZE = "320x180"
PICTURE = "testsrc2=s={size}:r=25:d=0.2,gblur=sigma=1.5:steps=2"
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-qp", "4"]
X265 = ["-c:v", "libx265", "-preset", "ultrafast", "-tag:v", "hvc1"]
PRORES = ["-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le", "-alpha_bits", "16"]
CLOUD = "format=gbrap,geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='255*X/W'"
OVER_BLACK = (
    "format=gbrap,split[x][y];[x]drawbox=c=black:t=fill:replace=1,format=gbrp[b];[b][y]overlay=format=gbrp"
)


def tags(matrix: str, primaries: str, transfer: str) -> list[str]:
    named = ["-colorspace", matrix, "-color_primaries", primaries, "-color_trc", transfer]
    return [*named, "-movflags", "+write_colr"]


def setparams(matrix: str, primaries: str, transfer: str, levels: str = "tv") -> str:
    return f"setparams=colorspace={matrix}:color_primaries={primaries}:color_trc={transfer}:range={levels}"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A source, and how what it shows is found by the reference."""

    args: list[str]  # filters and encoder
    said: str  # range and tags of the output, in FFmpeg's words
    reference: str  # filters from the decoded source to 4:2:0, video range
    size: str = SIZE
    db: float = 36.0


TO_420 = "zscale=r=limited,format=yuv420p"
BT709, BT601 = ("bt709", "bt709", "bt709"), ("smpte170m", "smpte170m", "smpte170m")
PAL = ("bt470bg", "bt470bg", "smpte170m")
BT2020 = ("bt2020nc", "bt2020", "bt2020-10")
P3 = ("bt709", "smpte432", "bt709")


def tagged(kind: tuple[str, str, str], pixels: str, levels: str = "tv", codec: list[str] = X264) -> list[str]:
    return [
        "-vf",
        f"format=gbrp,zscale=m={kind[0]}:r=limited,format={pixels},{setparams(*kind, levels)}",
        *codec,
        *tags(*kind),
    ]


KINDS = {
    "untagged, small": Kind(args=["-pix_fmt", "yuv420p", *X264], said="tv, smpte170m", reference=TO_420),
    "untagged, PAL": Kind(
        args=["-pix_fmt", "yuv420p", *X264],
        said="tv, bt470bg/bt470bg/smpte170m",
        reference=TO_420,
        size="720x576",
    ),
    "untagged, HD": Kind(
        args=["-pix_fmt", "yuv420p", *X264], said="tv, bt709", reference=TO_420, size="1280x720"
    ),
    "untagged, upright": Kind(
        args=["-pix_fmt", "yuv420p", *X264], said="tv, bt709", reference=TO_420, size="720x1280"
    ),
    "untagged, small and upright": Kind(
        args=["-pix_fmt", "yuv420p", *X264], said="tv, smpte170m", reference=TO_420, size="360x640"
    ),
    "BT.709 in a small picture": Kind(args=tagged(BT709, "yuv420p"), said="tv, bt709", reference=TO_420),
    "BT.601 in HD": Kind(
        args=tagged(BT601, "yuv420p"), said="tv, smpte170m", reference=TO_420, size="1280x720"
    ),
    "BT.2020": Kind(
        args=tagged(BT2020, "yuv420p10le", codec=X265),
        said="tv, bt2020nc/bt2020/bt2020-10",
        reference=TO_420,
    ),
    "P3": Kind(args=tagged(P3, "yuv420p"), said="tv, bt709/smpte432/bt709", reference=TO_420),
    "full range": Kind(
        args=[
            "-vf",
            f"format=gbrp,zscale=m=709:r=full,format=yuv420p,{setparams(*BT709, 'pc')}",
            *X264,
            *tags(*BT709),
        ],
        said="tv, bt709",
        reference=TO_420,
    ),
    "full range of a camera": Kind(
        args=["-c:v", "mjpeg", "-q:v", "1", "-pix_fmt", "yuvj420p"],
        said="tv, bt470bg/bt470bg/smpte170m",
        reference=TO_420,
    ),
    "4:2:2, 10 bit": Kind(args=tagged(BT709, "yuv422p10le"), said="tv, bt709", reference=TO_420),
    "4:4:4": Kind(args=tagged(BT709, "yuv444p"), said="tv, bt709", reference=TO_420),
    "4:4:4, 12 bit": Kind(args=tagged(BT709, "yuv444p12le", codec=X265), said="tv, bt709", reference=TO_420),
    "RGB": Kind(
        args=["-c:v", "qtrle", "-pix_fmt", "rgb24"],
        said="tv, smpte170m",
        reference="zscale=m=170m:r=limited,format=yuv420p",
    ),
    "RGB, HD": Kind(
        args=["-c:v", "qtrle", "-pix_fmt", "rgb24"],
        said="tv, bt709",
        reference="zscale=m=709:r=limited,format=yuv420p",
        size="1280x720",
    ),
    "RGB with alpha": Kind(
        args=["-vf", CLOUD, "-c:v", "qtrle", "-pix_fmt", "argb"],
        said="tv, smpte170m",
        reference=f"{OVER_BLACK},zscale=m=170m:r=limited,format=yuv420p",
    ),
    "ProRes with alpha": Kind(
        args=["-vf", f"{CLOUD},zscale=m=709:r=limited,format=yuva444p10le", *PRORES, *tags(*BT709)],
        said="tv, bt709",
        reference=f"zscale=min=709,{OVER_BLACK},zscale=m=709:r=limited,format=yuv420p",
    ),
}


def psnr_db(ffmpeg: str, output: Path, source: Path, reference: str, folder: Path) -> float:
    """Return how near the first picture of the output is to that of the source."""
    shown = made(ffmpeg, folder / "shown.y4m", "-i", str(output), "-frames:v", "1", "-pix_fmt", "yuv420p")
    right = made(ffmpeg, folder / "right.y4m", "-i", str(source), "-vf", reference, "-frames:v", "1")
    both = ["-i", str(shown), "-i", str(right), "-lavfi", "psnr=f=-", "-f", "null"]
    found = re.search(r"psnr_avg:(\S+)", raw(ffmpeg, shown, *both[2:]).decode())
    assert found
    return float(found[1])


@pytest.mark.parametrize("name", KINDS)
def test_an_output_shows_what_the_source_shows_and_says_so(ffmpeg: str, name: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    picture = ["-f", "lavfi", "-i", PICTURE.format(size=kind.size)]
    path = made(ffmpeg, tmp_path / "source", *picture, *kind.args, "-f", "mov")
    output = rendered(ffmpeg, source_of(ffmpeg, path), tmp_path, quality="high")
    said = re.search(r"Video: h264 .*?yuv420p\((.*?), progressive\)", describe(ffmpeg, output))
    assert said
    assert said[1] == kind.said
    assert psnr_db(ffmpeg, output, path, kind.reference, tmp_path) > kind.db


TURNS = {
    "90": (["-display_rotation", "90"], "transpose=cclock"),
    "180": (["-display_rotation", "180"], "hflip,vflip"),
    "270": (["-display_rotation", "270"], "transpose=clock"),
    "mirrored": (["-display_hflip"], "hflip"),
    "upside down": (["-display_vflip"], "vflip"),
    "90, mirrored": (["-display_rotation", "90", "-display_hflip"], "transpose=cclock,hflip"),
    "270, mirrored": (["-display_rotation", "270", "-display_hflip"], "transpose=clock,hflip"),
    "180, mirrored": (["-display_rotation", "180", "-display_hflip"], "vflip"),
}


@pytest.mark.parametrize("name", TURNS)
def test_a_display_matrix_is_obeyed(ffmpeg: str, name: str, tmp_path: Path) -> None:
    matrix, reference = TURNS[name]
    picture = ["-f", "lavfi", "-i", PICTURE.format(size="320x240"), "-pix_fmt", "yuv420p"]
    plain = made(ffmpeg, tmp_path / "plain.mp4", *picture, *X264)
    turned = made(ffmpeg, tmp_path / "turned.mp4", *matrix, "-i", str(plain), "-c", "copy")
    output = rendered(ffmpeg, source_of(ffmpeg, turned), tmp_path, quality="high")
    assert "displaymatrix" not in describe(ffmpeg, output)
    assert psnr_db(ffmpeg, output, plain, f"{reference},{TO_420}", tmp_path) > 36


@pytest.mark.parametrize(("size", "aspect"), [("720x576", "16:15"), ("720x480", "8:9"), ("1440x1080", "4:3")])
def test_pixels_that_are_not_square_stay_so(ffmpeg: str, size: str, aspect: str, tmp_path: Path) -> None:
    shape = ["-vf", f"setsar={aspect.replace(':', '/')}", "-pix_fmt", "yuv420p"]
    picture = ["-f", "lavfi", "-i", PICTURE.format(size=size)]
    path = made(ffmpeg, tmp_path / "source.mp4", *picture, *shape, *X264)
    output = rendered(ffmpeg, source_of(ffmpeg, path), tmp_path)
    assert f"{size} [SAR {aspect} DAR" in describe(ffmpeg, output)


@pytest.mark.parametrize("order", ["tff", "bff"])
def test_fields_of_both_orders_become_whole_pictures(ffmpeg: str, order: str, tmp_path: Path) -> None:
    moving = "testsrc2=s=320x240:r=50:d=0.6,gblur=sigma=1.5:steps=2,scroll=h=0.02,format=yuv420p"
    whole = made(ffmpeg, tmp_path / "whole.mp4", "-f", "lavfi", "-i", moving, *X264)
    woven = f"tinterlace=interleave_{'top' if order == 'tff' else 'bottom'},setfield={order}"
    coded = ["-vf", woven, "-flags", "+ildct+ilme", *X264, "-x264opts", order]
    fields = made(ffmpeg, tmp_path / "fields.mp4", "-i", str(whole), *coded)
    source = source_of(ffmpeg, fields)
    assert source.probe.is_interlaced
    output = rendered(ffmpeg, source, tmp_path, quality="high", frame_rate="source")
    at = "select='eq(n\\,{})'," + TO_420
    later = made(ffmpeg, tmp_path / "later.mp4", "-i", str(output), "-vf", at.format(6), *X264)
    right_db = psnr_db(ffmpeg, later, whole, at.format(12), tmp_path)
    woven_db = psnr_db(ffmpeg, later, fields, at.format(6), tmp_path)
    assert right_db > 28
    assert right_db > woven_db + 3


# HDR: the reference is made by the formulas of the standards, pixel by pixel, without FFmpeg's filters.

HDR_SIZE = (96, 54)
PEAK = 10.0  # of the tone mapping, in units of 100 nits
TO_709 = ((1.66049, -0.58764, -0.07285), (-0.12455, 1.1329, -0.00835), (-0.01815, -0.10058, 1.11873))
RGB = tuple[float, float, float]


def light_of_pq(code: float) -> float:
    """Return the light of a code value by SMPTE ST 2084, in units of 100 nits."""
    m1, m2 = 2610 / 16384, 2523 / 32
    c1, c2, c3 = 3424 / 4096, 2413 / 128, 2392 / 128
    root = max(0.0, code) ** (1 / m2)
    return 100 * (max(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)


def light_of_hlg(codes: RGB) -> list[float]:
    """Return the light of code values by ITU-R BT.2100 on a screen of 1000 nits, in units of 100 nits."""
    a = 0.17883277
    b, c = 1 - 4 * a, 0.5 - a * log(4 * a)
    scene = [x * x / 3 if x <= 0.5 else (exp((x - c) / a) + b) / 12 for x in (max(0.0, x) for x in codes)]
    luminance = 0.2627 * scene[0] + 0.6780 * scene[1] + 0.0593 * scene[2]
    return [10 * luminance**0.2 * x for x in scene]


def hable(x: float) -> float:
    return (x * (x * 0.15 + 0.05) + 0.004) / (x * (x * 0.15 + 0.5) + 0.06) - 0.02 / 0.3


def shown_in_sdr(y: int, u: int, v: int, transfer: str) -> RGB:
    """Return red, green and blue, 0..1, of a pixel of BT.2020 with 10 bits after the tone mapping."""
    light, blue_less, red_less = (y - 64) / 876, (u - 512) / 896, (v - 512) / 896
    red, blue = light + 1.4746 * red_less, light + 1.8814 * blue_less
    codes = (red, (light - 0.2627 * red - 0.0593 * blue) / 0.6780, blue)
    wide = [light_of_pq(code) for code in codes] if transfer == "smpte2084" else light_of_hlg(codes)
    small = [sum(share * each for share, each in zip(row, wide, strict=True)) for row in TO_709]
    most = max(*small, 1e-6)
    mapped = (max(0.0, each * hable(most) / hable(PEAK) / most) for each in small)
    red, green, blue = (min(1.0, each ** (1 / 2.4)) for each in mapped)  # as BT.1886 shows it
    return red, green, blue


def shown_as_bt709(y: int, u: int, v: int) -> RGB:
    light, blue_less, red_less = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    green = light - 0.1873 * blue_less - 0.4681 * red_less
    red, green, blue = (
        min(1.0, max(0.0, each)) for each in (light + 1.5748 * red_less, green, light + 1.8556 * blue_less)
    )
    return red, green, blue


@pytest.mark.parametrize(("transfer", "db"), [("smpte2084", 31), ("arib-std-b67", 34)])
@pytest.mark.parametrize("nits", [100, 400])
def test_hdr_is_shown_as_the_standards_say(
    ffmpeg: str, transfer: str, db: float, nits: int, tmp_path: Path
) -> None:
    size = "x".join(map(str, HDR_SIZE))
    screen = "setparams=color_primaries=bt709:color_trc=bt709:colorspace=gbr:range=pc"
    hdr = f"testsrc2=s={size}:r=25:d=0.2,gblur=sigma=2:steps=2,format=gbrp,{screen},zscale=t=linear:npl=100"
    hdr += f",format=gbrpf32le,zscale=p=bt2020,zscale=t={transfer}:m=bt2020nc:r=limited:npl={nits}"
    hdr += f",format=yuv420p10le,{setparams('bt2020nc', 'bt2020', transfer)}[out0]"
    named = f"colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc:log-level=0"
    coded = [*X265, "-crf", "4", "-x265-params", named]
    path = made(ffmpeg, tmp_path / "hdr.mov", "-f", "lavfi", "-i", hdr, *coded)
    path.write_bytes(with_dolby_vision(path.read_bytes()))  # 8.4 has HLG in it; players without it see that
    source = source_of(ffmpeg, path)
    assert source.probe.hdr_transfer == transfer
    output = rendered(ffmpeg, source, tmp_path, quality="high")
    assert "yuv420p(tv, bt709, progressive)" in describe(ffmpeg, output)
    count = HDR_SIZE[0] * HDR_SIZE[1]
    first = ["-frames:v", "1", "-f", "rawvideo", "-pix_fmt"]
    there = array("H", raw(ffmpeg, path, *first, "yuv444p10le"))
    here = raw(ffmpeg, output, *first, "yuv444p")
    squares = 0.0
    for n in range(count):
        right = shown_in_sdr(*there[n::count], transfer)
        shown = shown_as_bt709(*here[n::count])
        squares += sum((one - other) ** 2 for one, other in zip(right, shown, strict=True))
    assert 10 * log10(3 * count / squares) > db
