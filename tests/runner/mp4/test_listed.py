"""The check at upload accepts every codec of the list, and refuses the others by name with a remedy."""

from __future__ import annotations

import struct

import pytest

from runner.media import PICTURE_CODECS, SOUND_CODECS
from runner.mp4 import tracks
from runner.mp4.boxes import Box, File
from runner.mp4.codecs import picture_codec, picture_refusal, sound_codec, sound_refusal
from runner.mp4.movie import NotPlayable, look_into
from tests.support.codec_files import NOT_TAKEN, PICTURES, SOUNDS, made

TAKEN = {**PICTURES, **SOUNDS}
ENTRY = 78  # bytes of a sample entry of pictures before its boxes
SOUND_ENTRY = 28


def track(data: bytes, kind: bytes) -> tracks.Track:
    """Return the first track of a kind."""
    file = File(lambda start, stop: data[start:stop], len(data))
    moov = file.find(Box(b"", 0, len(data)), b"moov")
    assert moov
    all_tracks = (tracks.read(file, box) for box in file.children(moov) if box.kind == b"trak")
    return next(track for track in all_tracks if track.kind == kind)


@pytest.mark.parametrize("name", TAKEN)
def test_each_codec_of_the_list_is_taken_with_its_true_length(ffmpeg: str, name: str) -> None:
    data = made(ffmpeg, name, TAKEN[name])
    found = look_into(lambda start, stop: data[start:stop], size_bytes=len(data))
    assert found.duration_s == pytest.approx(0.4, abs=0.02)
    assert found.notes == ()


def test_a_file_of_every_codec_of_the_list_is_made(ffmpeg: str) -> None:
    pictures = [track(made(ffmpeg, *each), b"vide") for each in PICTURES.items()]
    sounds = [track(made(ffmpeg, *each), b"soun") for each in SOUNDS.items()]
    assert {picture_codec(each.tag, each.entry) for each in pictures} == set(PICTURE_CODECS)
    assert {sound_codec(each.tag, each.entry) for each in sounds} == set(SOUND_CODECS)


@pytest.mark.parametrize("name", NOT_TAKEN)
def test_another_codec_is_refused_by_name_with_what_to_export(ffmpeg: str, name: str) -> None:
    data = made(ffmpeg, *NOT_TAKEN[name])
    with pytest.raises(NotPlayable) as refused:
        look_into(lambda start, stop: data[start:stop], size_bytes=len(data))
    assert f" is coded as {name}, which is not supported. Export it " in str(refused.value)


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


@pytest.mark.parametrize(
    ("tag", "boxes", "named"),
    [
        ("dav1", b"", "AV1 with Dolby Vision"),
        ("av01", box(b"dvvC", bytes([1, 0, 10 << 1, 0x05, 0x00])), "Dolby Vision profile 10"),
        ("dvh1", box(b"dvcC", bytes([1, 0, 5 << 1, 0x05, 0x00])), "Dolby Vision profile 5"),
        ("hvc1", box(b"hvcC", bytes(17) + b"\xff\xff"), "HEVC of 15 bit"),
        ("aprh", b"", "ProRes RAW HQ"),
        ("Hap7", b"", "HAP R"),
        ("vp08", b"", "VP8"),
        ("mp4v", box(b"esds", b"\0\0\0\0\x03\x19\0\0\0\x04\x11\xa3" + bytes(12)), "VC-1"),
        ("mp4v", box(b"esds", b"\0\0\0\0\x03\x19\0\0\0\x04\x11\x77" + bytes(12)), "type 0x77"),
        ("\x01\xff?!", b"", "0x01ff3f21"),
    ],
)
def test_a_kind_of_picture_that_nothing_here_can_decode_is_named(tag: str, boxes: bytes, named: str) -> None:
    said = picture_refusal(tag, bytes(ENTRY) + boxes)
    assert f"coded as {named}" in said or f"object {named}" in said
    assert said.endswith("Export it as H.264, HEVC or ProRes.")


def test_dolby_vision_with_a_base_layer_is_taken() -> None:
    hlg, hdr10 = bytes([1, 0, 8 << 1, 0x0D, 0x40]), bytes([1, 0, 10 << 1, 0x0D, 0x10])
    assert picture_refusal("hvc1", bytes(ENTRY) + box(b"dvvC", hlg)) == ""
    assert picture_refusal("av01", bytes(ENTRY) + box(b"dvvC", hdr10)) == ""


def aac(config: bytes, object_type: int = 0x40) -> bytes:
    decoder = bytes([0x04, 15 + len(config), object_type]) + bytes(12) + bytes([0x05, len(config)]) + config
    return bytes(SOUND_ENTRY) + box(b"esds", bytes(4) + bytes([0x03, 3 + len(decoder), 0, 0, 0]) + decoder)


@pytest.mark.parametrize("kind", [2, 5, 29, 39, 42])
def test_each_kind_of_aac_is_taken(kind: int) -> None:
    config = kind << 11 if kind < 31 else 31 << 11 | (kind - 32) << 5
    assert sound_refusal("mp4a", aac(struct.pack(">H", config))) == ""


def test_sound_of_mpeg_4_that_is_not_aac_is_refused() -> None:
    als = struct.pack(">H", 31 << 11 | (36 - 32) << 5)
    assert "coded as MPEG-4 sound of object type 36" in sound_refusal("mp4a", aac(als))
    assert "coded as QCELP" in sound_refusal("mp4a", aac(b"", 0xE1))
    assert "coded as Apple Positional Audio" in sound_refusal("apac", bytes(SOUND_ENTRY))


def lpcm(bits: int, flags: int) -> bytes:
    start = bytes(8) + struct.pack(">HHIHHHHI", 2, 0, 0, 3, 16, 0xFFFE, 0, 65536)
    return start + struct.pack(">IdIIIIII", 72, 48000.0, 2, 0x7F000000, bits, flags, 0, 1)


def test_pcm_of_a_width_that_no_decoder_has_is_refused() -> None:
    integer, is_float = 4, 1
    for bits, flags in ((8, integer), (16, integer), (20, integer), (32, integer), (64, is_float)):
        assert sound_refusal("lpcm", lpcm(bits, flags)) == ""
    assert "PCM of 64 bit integer" in sound_refusal("lpcm", lpcm(64, integer))
    assert "PCM of 16 bit float" in sound_refusal("lpcm", lpcm(16, is_float))


def test_protected_sound_is_refused() -> None:
    assert "sound is copy-protected" in sound_refusal("enca", bytes(SOUND_ENTRY))
