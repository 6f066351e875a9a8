"""Colour and shape: an output without effects shows what the source shows, and its tags say so.

The reference is made another way: by zimg and `overlay`, or from the picture before it was encoded, where the
runner uses swscale and `premultiply`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.clips import describe
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


FIRST_RGB = ["-frames:v", "1", "-vf", "scale=out_color_matrix=bt709,format=rgb24", "-f", "rawvideo"]
HDR_COLOURS = {"red": "100", "lime": "010", "blue": "001", "yellow": "110", "gray": "111"}


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_colours_stay_the_same_colours(ffmpeg: str, transfer: str, tmp_path: Path) -> None:
    inputs = "".join(
        f"color={colour}:s=64x64:r=25:d=0.2,format=gbrp[c{n}];" for n, colour in enumerate(HDR_COLOURS)
    )
    screen = "setparams=color_primaries=bt709:color_trc=bt709:colorspace=gbr"
    stacked = inputs + "".join(f"[c{n}]" for n in range(len(HDR_COLOURS))) + f"hstack={len(HDR_COLOURS)}"
    hdr = f"{stacked},{screen},zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt2020"
    hdr += f",zscale=t={transfer}:m=bt2020nc:r=limited:npl=100,format=yuv420p10le"
    hdr += f",setparams=colorspace=bt2020nc:color_primaries=bt2020:color_trc={transfer}:range=tv[out0]"
    named = f"colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc:log-level=0"
    path = made(
        ffmpeg, tmp_path / "hdr.mp4", "-f", "lavfi", "-i", hdr, *X265, "-crf", "4", "-x265-params", named
    )
    source = source_of(ffmpeg, path)
    assert source.probe.hdr_transfer == transfer
    output = rendered(ffmpeg, source, tmp_path, quality="high")
    shown = raw(ffmpeg, output, *FIRST_RGB)
    for n, lit in enumerate(HDR_COLOURS.values()):
        place = 3 * (32 * 64 * len(HDR_COLOURS) + 64 * n + 32)
        levels = shown[place : place + 3]
        bright = [level for level, is_lit in zip(levels, lit, strict=True) if is_lit == "1"]
        dark = [level for level, is_lit in zip(levels, lit, strict=True) if is_lit == "0"]
        assert min(bright) > 80
        assert max(bright) - min(bright) < 6
        assert max(dark, default=0) < 25
