"""Each accepted codec that FFmpeg can write, through probe, render and check in the jail."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from runner.contract import OutputFault
from runner.media import PICTURE_CODECS, SOUND_CODECS, Codec
from runner.probe import OutputFailure, probe
from runner.stop import Stop
from tests.support.clips import describe
from tests.support.making import made, picture_s, rendered, source_of

PICTURE = ["-f", "lavfi", "-i", "testsrc2=s=160x128:r=25:d=0.4"]
TONE = ["-f", "lavfi", "-i", "sine=d=0.4"]
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
QUIET = ["-x265-params", "log-level=0"]
DEEP_AV1 = ["-c:v", "libaom-av1", "-cpu-used", "8", "-pix_fmt", "yuv420p10le"]
DNXHR = ["-c:v", "dnxhd", "-s", "256x128"]
PAL_DV = ["-c:v", "dvvideo", "-s", "720x576"]

# By the beginning of the codec's name. FFmpeg has no encoder for AMR-WB and HAP Q Alpha.
PICTURES: dict[str, dict[str, list[str]]] = {
    "H.264": {
        "8 bit": X264,
        "4:2:2, 10 bit": ["-c:v", "libx264", "-pix_fmt", "yuv422p10le"],
        "4:4:4": ["-c:v", "libx264", "-pix_fmt", "yuv444p"],
    },
    "HEVC": {
        "8 bit": ["-c:v", "libx265", "-pix_fmt", "yuv420p", *QUIET],
        "10 bit": ["-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-tag:v", "hvc1", *QUIET],
        "12 bit, 4:2:2": ["-c:v", "libx265", "-pix_fmt", "yuv422p12le", *QUIET],
    },
    "AV1": {
        "8 bit": ["-c:v", "libaom-av1", "-cpu-used", "8", "-pix_fmt", "yuv420p"],
        "10 bit": DEEP_AV1,
    },
    "VP9": {"8 bit": ["-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p", "-cpu-used", "8"]},
    "MPEG-4": {"simple": ["-c:v", "mpeg4"]},
    "MPEG-2": {"MPEG-2": ["-c:v", "mpeg2video"], "MPEG-1": ["-c:v", "mpeg1video"]},
    "H.263": {"CIF": ["-c:v", "h263", "-s", "352x288"]},
    "ProRes": {
        "422 HQ": ["-c:v", "prores_ks", "-profile:v", "hq", "-pix_fmt", "yuv422p10le"],
        "4444 with alpha": ["-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le"],
        "4444 XQ": ["-c:v", "prores_ks", "-profile:v", "4444xq", "-pix_fmt", "yuv444p10le"],
    },
    "DNxHD": {
        "HD": ["-c:v", "dnxhd", "-s", "1280x720", "-b:v", "90M", "-pix_fmt", "yuv422p"],
        "HR HQX": [*DNXHR, "-profile:v", "dnxhr_hqx", "-pix_fmt", "yuv422p10le"],
        "HR 444": [*DNXHR, "-profile:v", "dnxhr_444", "-pix_fmt", "yuv444p10le"],
    },
    "CineForm": {
        "4:2:2": ["-c:v", "cfhd", "-pix_fmt", "yuv422p10le"],
        "RGB with alpha": ["-c:v", "cfhd", "-pix_fmt", "gbrap12le"],
    },
    "Animation": {
        "RGB": ["-c:v", "qtrle", "-pix_fmt", "rgb24"],
        "with alpha": ["-c:v", "qtrle", "-pix_fmt", "argb"],
        "gray": ["-c:v", "qtrle", "-pix_fmt", "gray"],
    },
    "PNG": {
        "with alpha": ["-c:v", "png", "-pix_fmt", "rgba"],
        "16 bit": ["-c:v", "png", "-pix_fmt", "rgb48be"],
        "gray": ["-c:v", "png", "-pix_fmt", "gray"],
        "palette": ["-c:v", "png", "-pix_fmt", "pal8"],
    },
    "JPEG 2000": {
        "RGB": ["-c:v", "jpeg2000", "-pix_fmt", "rgb24"],
        "4:2:2, 10 bit": ["-c:v", "jpeg2000", "-pix_fmt", "yuv422p10le"],
    },
    "HAP": {
        "HAP": ["-c:v", "hap"],
        "Alpha": ["-c:v", "hap", "-format", "hap_alpha"],
        "Q": ["-c:v", "hap", "-format", "hap_q"],
    },
    "Motion JPEG": {"full range": ["-c:v", "mjpeg", "-pix_fmt", "yuvj422p"]},
    "DV": {
        "PAL": [*PAL_DV, "-pix_fmt", "yuv420p"],
        "50": [*PAL_DV, "-pix_fmt", "yuv422p"],
    },
    "Uncompressed": {
        "2vuy": ["-c:v", "rawvideo", "-pix_fmt", "uyvy422", "-tag:v", "2vuy"],
        "yuvs": ["-c:v", "rawvideo", "-pix_fmt", "yuyv422", "-tag:v", "yuvs"],
        "RGB": ["-c:v", "rawvideo", "-pix_fmt", "rgb24"],
        "BGRA": ["-c:v", "rawvideo", "-pix_fmt", "bgra"],
        "v210": ["-c:v", "v210", "-pix_fmt", "yuv422p10le"],
        "r210": ["-c:v", "r210", "-pix_fmt", "gbrp10le"],
    },
}
SOUNDS: dict[str, dict[str, list[str]]] = {
    "AAC": {
        "LC": ["-c:a", "aac"],
        "5.1": ["-c:a", "aac", "-ac", "6"],
        "8 kHz": ["-c:a", "aac", "-ar", "8000"],
    },
    "MP3": {"MP3": ["-c:a", "libmp3lame"], "MP2": ["-c:a", "mp2", "-f", "mp4"]},
    "AC-3": {"5.1": ["-c:a", "ac3", "-ac", "6"]},
    "E-AC-3": {"5.1": ["-c:a", "eac3", "-ac", "6"]},
    "ALAC": {"stereo": ["-c:a", "alac", "-ac", "2"]},
    "FLAC": {"mono": ["-c:a", "flac", "-f", "mp4"]},
    "Opus": {"mono": ["-c:a", "libopus", "-f", "mp4"]},
    "PCM": {
        **{name: ["-c:a", f"pcm_{name}"] for name in ("s8", "u8", "s16le", "s16be", "s24le", "s24be")},
        **{name: ["-c:a", f"pcm_{name}"] for name in ("s32le", "s32be", "f32le", "f32be", "f64le", "f64be")},
        "192 kHz": ["-c:a", "pcm_s24le", "-ar", "192000"],
        "16 channels": ["-c:a", "pcm_s16le", "-af", "pan=16c|c0=c0|c1=c0"],
    },
    "A-law": {"8 kHz": ["-c:a", "pcm_alaw", "-ar", "8000"]},
    "mu-law": {"8 kHz": ["-c:a", "pcm_mulaw", "-ar", "8000"]},
    "IMA ADPCM": {"QuickTime": ["-c:a", "adpcm_ima_qt"]},
    "IMA and": {
        "WAV": ["-c:a", "adpcm_ima_wav"],
        "Microsoft": ["-c:a", "adpcm_ms"],
    },
    "AMR": {"NB": ["-c:a", "libopencore_amrnb", "-ar", "8000", "-b:a", "12.2k", "-f", "3gp"]},
}
PICTURE_CASES = [(kind, case) for kind, cases in PICTURES.items() for case in cases]
SOUND_CASES = [(kind, case) for kind, cases in SOUNDS.items() for case in cases]


@pytest.mark.parametrize(("codecs", "tried"), [(PICTURE_CODECS, PICTURES), (SOUND_CODECS, SOUNDS)])
def test_every_codec_of_the_list_is_tried(codecs: Iterable[Codec], tried: dict[str, object]) -> None:
    begins = tuple(tried)
    assert [codec.name for codec in codecs if not codec.name.startswith(begins)] == []
    assert len(tried) == len(list(codecs))


def written(ffmpeg: str, kind: str, case: str, path: Path) -> Path:
    """Write a short source."""
    if kind in SOUNDS:
        args = [*PICTURE, *TONE, *X264, *SOUNDS[kind][case]]
    else:
        args = [*PICTURE, *PICTURES[kind][case]]
    container = "mp4" if kind in ("AV1", "VP9") else "mov"
    return made(ffmpeg, path, *args, *([] if "-f" in args[args.index("-c:v") :] else ["-f", container]))


@pytest.mark.parametrize(("kind", "case"), PICTURE_CASES)
def test_a_picture_codec_is_made_into_a_variation(ffmpeg: str, kind: str, case: str, tmp_path: Path) -> None:
    source = source_of(ffmpeg, written(ffmpeg, kind, case, tmp_path / "source"))
    output = rendered(ffmpeg, source, tmp_path)
    assert picture_s(ffmpeg, output) == pytest.approx(0.4, abs=0.035)


@pytest.mark.parametrize(("kind", "case"), SOUND_CASES)
def test_a_sound_codec_is_made_into_a_variation(ffmpeg: str, kind: str, case: str, tmp_path: Path) -> None:
    source = source_of(ffmpeg, written(ffmpeg, kind, case, tmp_path / "source"))
    assert "Audio: aac (LC)" in describe(ffmpeg, rendered(ffmpeg, source, tmp_path))


@pytest.mark.parametrize("name", ["vorbis", "dca", "truehd"])
def test_a_sound_codec_that_is_not_taken_is_refused_in_words(ffmpeg: str, name: str, tmp_path: Path) -> None:
    coded = ["-c:a", name, "-strict", "-2", "-ac", "2", "-ar", "48000", "-f", "mp4"]
    path = made(ffmpeg, tmp_path / "source", *PICTURE, *TONE, *X264, *coded)
    with pytest.raises(OutputFailure, match="which is not accepted") as caught:
        probe(ffmpeg, path, stop=Stop())
    assert caught.value.code is OutputFault.SOURCE_UNPLAYABLE
    assert "AAC" in caught.value.message
