"""The one list of accepted videos: codecs, sizes, length, streams and frames. Pure.

Control checks uploads against it, and the runner builds FFmpeg's whitelist from it, so a machine refuses no
kind of video that was accepted at upload. `docs/inputs.md` shows the list to users.

A codec is found by the name of its sample entry, or by the object type in an `esds` where the sample entry is
`mp4v` or `mp4a`. The names are those that FFmpeg's demuxer knows (libavformat/isom_tags.c).

One file, since it is one list.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

# --- limits -----------------------------------------------------------------------------------------

SOURCE_S_MAX = 4 * 3600.0
SOURCE_SIDE_MIN = 16  # pixels
SOURCE_SIDE_MAX = 8192  # pixels
SOURCE_PIXELS_MAX = 8192 * 4320  # of a frame in either orientation: a small file may claim a huge frame
SOURCE_FRAME = "8192x4320"  # both limits of a frame in words
STREAMS_MAX = 16  # tracks of any kind
FRAMES_MAX = 500_000  # four hours at nearly 35 frames a second; an 8 MB file can hold more

DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2"  # one demuxer, by all its names

# --- codecs -----------------------------------------------------------------------------------------

Container = Literal["mp4", "mov"]


@dataclass(frozen=True, kw_only=True)
class Codec:
    """An accepted codec. `written_by` names programs and devices that write it into MP4 or MOV.

    `containers` are those that FFmpeg can copy it into, the usual one first; none: it can only be decoded.
    """

    name: str
    tags: tuple[str, ...]  # sample entries
    decoders: tuple[str, ...]  # of FFmpeg
    written_by: str
    object_types: tuple[int, ...] = ()
    containers: tuple[Container, ...] = ("mp4", "mov")


def _numbered(start: str, ends: str) -> tuple[str, ...]:
    return tuple(start + end for end in ends)


AVC_INTRA = (*_numbered("ai1", "pq2356"), *_numbered("ai5", "pq2356"))
XDCAM = (*_numbered("xd5", "1459abcdef"), *_numbered("xdv", "123456789abcdef"), "xdhd", "xdh2")
HDV = (*_numbered("hdv", "123456789a"), "m2v1", "mp2v")
IMX = ("mx5n", "mx5p", "mx4n", "mx4p", "mx3n", "mx3p", "AVmp")
RGB = ("raw ", "24BG", "BGRA", "RGBA", "ABGR", "b48r", "b64a")
DV = ("dvc ", "dvcp", "dvpp", "dv5p", "dv5n", "AVdv", "AVd1", "dvhq", "dvhp", *_numbered("dvh", "123456"))

PICTURE_CODECS = (
    Codec(
        name="H.264",
        tags=(
            "avc1",
            "avc2",
            "avc3",
            "avc4",
            "h264",
            "H264",
            "dva1",
            "dvav",
            "AVin",
            "aivx",
            "xalg",
            "avlg",
            *AVC_INTRA,
        ),
        object_types=(0x21,),
        decoders=("h264",),
        written_by="every phone, OBS, screen recorders, Premiere, Final Cut, Resolve, CapCut, Canva, cameras",
    ),
    Codec(
        name="HEVC (H.265), 8 to 12 bit, also Dolby Vision 8",
        tags=("hvc1", "hev1", "dvh1", "dvhe"),
        object_types=(0x23,),
        decoders=("hevc",),
        written_by="iPhone (High Efficiency), Samsung, Pixel, GoPro, DJI, Final Cut, Resolve",
    ),
    Codec(
        name="AV1, 8 and 10 bit",
        tags=("av01",),
        decoders=("libdav1d",),
        containers=("mp4",),
        written_by="OBS, Shutter Encoder, HandBrake, downloads of YouTube",
    ),
    Codec(
        name="VP9",
        tags=("vp09",),
        object_types=(0xB1,),
        decoders=("vp9",),
        containers=("mp4",),
        written_by="downloads of YouTube",
    ),
    Codec(
        name="MPEG-4 part 2",
        tags=("mp4v", "DIVX", "XVID"),
        object_types=(0x20,),
        decoders=("mpeg4",),
        written_by="older phones and cameras",
    ),
    Codec(
        name="MPEG-2 and MPEG-1 (XDCAM, HDV, IMX)",
        tags=(*XDCAM, *HDV, *IMX, "m1v ", "m1v1", "mp1v", "mpeg"),
        object_types=(0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x6A),
        decoders=("mpeg2video", "mpeg1video"),
        written_by="Sony and Canon camcorders, Final Cut 7",
    ),
    Codec(
        name="H.263",
        tags=("s263", "h263", "H263"),
        decoders=("h263",),
        containers=("mov",),
        written_by="phones of before 2010",
    ),
    Codec(
        name="ProRes (Proxy, LT, 422, HQ, 4444, 4444 XQ)",
        tags=("apco", "apcs", "apcn", "apch", "ap4h", "ap4x"),
        decoders=("prores",),
        containers=("mov",),
        written_by="Final Cut, Premiere, After Effects, Resolve, iPhone Pro, Atomos",
    ),
    Codec(
        name="DNxHD and DNxHR",
        tags=("AVdn", "AVdh"),
        decoders=("dnxhd",),
        containers=("mov",),
        written_by="Avid, Resolve, Premiere, After Effects",
    ),
    Codec(
        name="CineForm",
        tags=("CFHD",),
        decoders=("cfhd",),
        containers=("mov",),
        written_by="Premiere, After Effects, Resolve, GoPro Studio",
    ),
    Codec(
        name="Animation (QuickTime RLE)",
        tags=("rle ",),
        decoders=("qtrle",),
        containers=("mov",),
        written_by="After Effects, Final Cut 7, Blender",
    ),
    Codec(
        name="PNG",
        tags=("png ", "MNG "),
        object_types=(0x6D,),
        decoders=("png",),
        containers=("mov", "mp4"),
        written_by="After Effects, QuickTime Pro, Blender",
    ),
    Codec(
        name="JPEG 2000",
        tags=("mjp2",),
        object_types=(0x6E,),
        decoders=("jpeg2000",),
        containers=("mov", "mp4"),
        written_by="After Effects, Final Cut 7, Resolve",
    ),
    Codec(
        name="HAP (HAP, Alpha, Q, Q Alpha)",
        tags=("Hap1", "Hap5", "HapY", "HapM", "HapA"),
        decoders=("hap",),
        containers=("mov",),
        written_by="After Effects with the HAP exporter, TouchDesigner, Resolume",
    ),
    Codec(
        name="Motion JPEG, Photo JPEG",
        tags=("jpeg", "mjpa", "mjpg", "MJPG", "AVDJ", "AVRn", "dmb1"),
        object_types=(0x6C,),
        decoders=("mjpeg",),
        containers=("mov", "mp4"),
        written_by="older cameras, webcams, QuickTime Pro",
    ),
    Codec(
        name="DV, DVCPRO 50, DVCPRO HD",
        tags=DV,
        decoders=("dvvideo",),
        containers=("mov",),
        written_by="DV camcorders, iMovie, Final Cut 7",
    ),
    Codec(
        name="Uncompressed 4:2:2, 4:4:4 and RGB, 8 and 10 bit",
        tags=(
            "2vuy",
            "UYVY",
            "HDYC",
            "yuvs",
            "yuv2",
            "v308",
            "v408",
            "v410",
            "v210",
            "r210",
            "R10k",
            "R10g",
            *RGB,
        ),
        decoders=("rawvideo", "v210", "r210", "r10k"),
        containers=("mov",),
        written_by="Resolve, Premiere, After Effects, Final Cut, capture cards",
    ),
)

SOUND_CODECS = (
    Codec(
        name="AAC (LC, HE, HE v2, LD, ELD)",
        tags=("mp4a",),
        object_types=(0x40, 0x66, 0x67, 0x68),
        decoders=("aac",),
        written_by="every phone, recorder and editor",
    ),
    Codec(
        name="MP3, MP2",
        tags=(".mp3", ".mp2", "ms\0\x55", "ms\0\x50"),
        object_types=(0x69, 0x6B),
        decoders=("mp3float", "mp2float"),
        written_by="older editors, converters",
    ),
    Codec(
        name="AC-3 (Dolby Digital)",
        tags=("ac-3", "sac3", "ms\x20\0"),
        object_types=(0xA5,),
        decoders=("ac3",),
        written_by="Premiere, Compressor, camcorders",
    ),
    Codec(
        name="E-AC-3 (Dolby Digital Plus)",
        tags=("ec-3",),
        object_types=(0xA6,),
        decoders=("eac3",),
        written_by="Premiere, Compressor",
    ),
    Codec(name="ALAC", tags=("alac",), decoders=("alac",), written_by="Final Cut, QuickTime"),
    Codec(
        name="FLAC",
        tags=("fLaC",),
        object_types=(0xC1,),
        decoders=("flac",),
        containers=("mp4",),
        written_by="OBS, Resolve",
    ),
    Codec(
        name="Opus",
        tags=("Opus",),
        object_types=(0xAD,),
        decoders=("opus",),
        containers=("mp4",),
        written_by="OBS, browsers, downloads of YouTube",
    ),
    Codec(
        name="PCM, 8 to 32 bit, float of 32 and 64 bit, either byte order",
        tags=("lpcm", "ipcm", "fpcm", "sowt", "twos", "in24", "in32", "fl32", "fl64", "raw ", "NONE"),
        decoders=(
            *("pcm_s8", "pcm_u8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le"),
            *("pcm_s32be", "pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be"),
        ),
        containers=("mov",),
        written_by="Premiere, After Effects, Final Cut, Resolve, Avid, cameras",
    ),
    Codec(
        name="A-law",
        tags=("alaw", "ms\0\x06"),
        decoders=("pcm_alaw",),
        containers=("mov",),
        written_by="telephone recorders",
    ),
    Codec(
        name="mu-law",
        tags=("ulaw", "ms\0\x07"),
        decoders=("pcm_mulaw",),
        containers=("mov",),
        written_by="older cameras",
    ),
    Codec(
        name="IMA ADPCM (4:1)",
        tags=("ima4",),
        decoders=("adpcm_ima_qt",),
        containers=("mov",),
        written_by="QuickTime Pro, Final Cut 7",
    ),
    Codec(
        name="IMA and Microsoft ADPCM of WAV",
        tags=("ms\0\x11", "ms\0\x02"),
        decoders=("adpcm_ima_wav", "adpcm_ms"),
        containers=(),
        written_by="older cameras",
    ),
    Codec(
        name="AMR-NB, AMR-WB",
        tags=("samr", "sawb"),
        decoders=("amrnb", "amrwb"),
        containers=("mov",),
        written_by="phones (3GP), older Android recorders",
    ),
)


_CODECS = {"mp3float": "mp3", "mp2float": "mp2", "amrnb": "amr_nb", "amrwb": "amr_wb", "libdav1d": "av1"}


def refused(codecs: Sequence[str]) -> set[str]:
    """Return which codecs of a source are refused. The first is that of its picture, any other of its sound.

    All are given by FFmpeg's names. A codec of sounds is refused as that of a picture, and the other way
    round: an FFmpeg that a video has taken over may name any.
    """
    return (set(codecs[:1]) - _decoded(PICTURE_CODECS)) | (set(codecs[1:]) - _decoded(SOUND_CODECS))


def copied_into(picture: str, sound: str | None) -> tuple[Container, bool]:
    """Return the container of a copy, and whether the sound is copied into it as it is.

    Both codecs are given by FFmpeg's names, and must not be `refused`. A sound that fits into no container
    together with the picture is coded anew, without loss.
    """
    usual = _containers(PICTURE_CODECS, picture)
    if sound is None:
        return usual[0], True
    both = [container for container in usual if container in _containers(SOUND_CODECS, sound)]
    return (both or usual)[0], bool(both)


def _containers(codecs: Iterable[Codec], name: str) -> tuple[Container, ...]:
    return next(codec.containers for codec in codecs if name in _decoded([codec]))


def _decoded(codecs: Iterable[Codec]) -> set[str]:
    return {_decoded_by(decoder) for codec in codecs for decoder in codec.decoders}


def _decoded_by(decoder: str) -> str:
    return _CODECS.get(decoder, decoder)


def decoders() -> list[str]:
    """Return FFmpeg's names of every decoder that a source may need, each once."""
    return list(
        dict.fromkeys(chain.from_iterable(codec.decoders for codec in (*PICTURE_CODECS, *SOUND_CODECS)))
    )


def found(codecs: Iterable[Codec], tag: str, object_type: int | None = None) -> Codec | None:
    """Return the codec of a sample entry; the object type of its `esds` decides where it is known."""
    if object_type is not None:
        return next((codec for codec in codecs if object_type in codec.object_types), None)
    return next((codec for codec in codecs if tag in codec.tags), None)
