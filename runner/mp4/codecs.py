"""Refuses the codecs that `runner/media.py` does not list, by name and with a remedy. Pure.

Sample entries: ISO/IEC 14496-12 (2022), 8.5.2 and 12; QuickTime File Format Specification (2012-08), "Sound
Sample Descriptions". `esds`: ISO/IEC 14496-1 (2010), 7.2.6. Dolby Vision: "Dolby Vision Streams Within the
ISO Base Media File Format", 2.0.
"""

from __future__ import annotations

import struct

from runner.media import PICTURE_CODECS, SOUND_CODECS, Codec, found

HEVC_BITS_MAX = 12  # FFmpeg decodes no more
AAC_OBJECT_TYPES = (1, 2, 4, 5, 17, 23, 29, 39, 42)  # Main, LC, LTP, HE, ER LC, LD, HE v2, ELD, USAC

PICTURE_REMEDY = "Export it as H.264, HEVC or ProRes."
SOUND_REMEDY = (
    "Export it with AAC or PCM sound, or convert only the sound: ffmpeg -i in.mp4 -c:v copy -c:a aac out.mp4"
)
PROTECTED = "copy-protected. Upload a video without protection."

OTHER_PICTURES = {
    "vvc1": "H.266 (VVC)",
    "vvi1": "H.266 (VVC)",
    "dav1": "AV1 with Dolby Vision",
    "vp08": "VP8",
    "aprn": "ProRes RAW",
    "aprh": "ProRes RAW HQ",
    "apv1": "APV",
    "Hap7": "HAP R",
    "HapH": "HAP HDR",
    "mjpb": "Motion JPEG B",
    "icod": "Apple Intermediate Codec",
    "SVQ1": "Sorenson Video",
    "SVQ3": "Sorenson Video 3",
    "cvid": "Cinepak",
    "rpza": "Apple Video",
    "smc ": "Apple Graphics",
    "8BPS": "Planar RGB",
    "vc-1": "VC-1 (Windows Media)",
    "FFV1": "FFV1",
    "tiff": "TIFF pictures",
    "gif ": "GIF pictures",
}
OTHER_SOUNDS = {
    "dtsc": "DTS",
    "dtsh": "DTS-HD",
    "dtsl": "DTS-HD Master Audio",
    "dtse": "DTS Express",
    "DTS ": "DTS",
    "mlpa": "Dolby TrueHD",
    "ac-4": "Dolby AC-4",
    "mha1": "MPEG-H",
    "mhm1": "MPEG-H",
    "apac": "Apple Positional Audio (APAC)",
    "QDM2": "QDesign Music",
    "QDMC": "QDesign Music",
    "Qclp": "QCELP",
    "sqcp": "QCELP",
    "sevc": "EVRC",
    "MAC3": "MACE 3:1",
    "MAC6": "MACE 6:1",
    "agsm": "GSM",
}
OTHER_OBJECT_TYPES = {0xA3: "VC-1 (Windows Media)", 0xA9: "DTS", 0xDD: "Vorbis", 0xD1: "EVRC", 0xE1: "QCELP"}


def picture_codec(tag: str, entry: bytes) -> Codec | None:
    """Return the listed codec of a sample entry of pictures; `entry` is its content."""
    return found(PICTURE_CODECS, tag, _decoder_of(entry)[0] if tag == "mp4v" else None)


def sound_codec(tag: str, entry: bytes) -> Codec | None:
    """Return the listed codec of a sample entry of sound."""
    return found(SOUND_CODECS, tag, _decoder_of(entry)[0] if tag == "mp4a" else None)


def picture_refusal(tag: str, entry: bytes) -> str:
    """Return why pictures of this sample entry are not taken; empty if they are."""
    if tag in ("encv", "drmi"):
        return f"The video is {PROTECTED}"
    name = _other_picture(entry)
    if not name and picture_codec(tag, entry) is None:
        name = OTHER_PICTURES.get(tag) or _unlisted(tag, entry)
    return f"The video is coded as {name}, which is not supported. {PICTURE_REMEDY}" if name else ""


def sound_refusal(tag: str, entry: bytes) -> str:
    """Return why sound of this sample entry is not taken; empty if it is."""
    if tag in ("enca", "drms"):
        return f"The sound is {PROTECTED}"
    name = _other_sound(tag, entry)
    if not name and sound_codec(tag, entry) is None:
        name = OTHER_SOUNDS.get(tag) or _unlisted(tag, entry)
    return f"The sound is coded as {name}, which is not supported. {SOUND_REMEDY}" if name else ""


def _unlisted(tag: str, entry: bytes) -> str:
    object_type = _decoder_of(entry)[0] if tag in ("mp4v", "mp4a") else None
    if object_type is not None:
        return OTHER_OBJECT_TYPES.get(object_type, f"MPEG-4 object type {object_type:#04x}")
    if tag.isascii() and tag.isprintable():
        return f"'{tag.strip()}'"
    return "0x" + tag.encode("latin-1").hex()


def _other_picture(entry: bytes) -> str:
    """Return the name of a profile that is not taken although its codec is listed; empty if it is taken."""
    for kind in (b"dvcC", b"dvvC", b"dvwC"):
        box = _inside(entry, kind)
        if len(box) >= 5 and not box[4] >> 4:  # no player without Dolby Vision can show it
            return f"Dolby Vision profile {box[2] >> 1}, which has no HDR10, HLG or SDR picture in it"
    hevc = _inside(entry, b"hvcC")
    if len(hevc) > 18:
        bits = 8 + max(hevc[17] & 7, hevc[18] & 7)
        if bits > HEVC_BITS_MAX:
            return f"HEVC of {bits} bit"
    return ""


def _other_sound(tag: str, entry: bytes) -> str:
    object_type, config = _decoder_of(entry) if tag == "mp4a" else (None, b"")
    if object_type == 0x40 and config:
        kind = _aac_object_type(config)
        if kind not in AAC_OBJECT_TYPES:
            return f"MPEG-4 sound of object type {kind}"
    if tag == "lpcm" and len(entry) >= 56 and entry[8:10] == b"\0\2":
        bits, flags = struct.unpack_from(">II", entry, 48)
        is_float, is_signed = flags & 1, flags & 4
        is_known = bits in (32, 64) if is_float else bits <= 8 or (bits <= 32 and is_signed)
        if not is_known:
            return f"PCM of {bits} bit {'float' if is_float else 'integer'}"
    return ""


def _aac_object_type(config: bytes) -> int:
    """Return the object type in an AudioSpecificConfig: its first 5 bits, or 32 + the next 6 after 31."""
    start = int.from_bytes(config[:2].ljust(2, b"\0"), "big")
    return start >> 11 if start >> 11 != 31 else 32 + (start >> 5 & 0x3F)


def _inside(entry: bytes, kind: bytes) -> bytes:
    """Return the content of the box of a kind; it may be inside another box (`wave` in QuickTime)."""
    at = entry.find(kind, 20)
    if at < 4:
        return b""
    (size,) = struct.unpack_from(">I", entry, at - 4)
    return entry[at + 4 : at - 4 + size]


def _decoder_of(entry: bytes) -> tuple[int | None, bytes]:
    """Return the object type and the decoder's configuration of an entry's `esds`, if they are there."""
    esds = _inside(entry, b"esds")
    try:
        at = _descriptor(esds, 4, 0x03)
        flags = esds[at + 2]
        at += 3 + (2 if flags & 0x80 else 0) + (1 + esds[at + 3] if flags & 0x40 else 0)
        at = _descriptor(esds, at + (2 if flags & 0x20 else 0), 0x04)
        object_type = esds[at]
    except IndexError:
        return None, b""
    try:
        return object_type, esds[_descriptor(esds, at + 13, 0x05) :]
    except IndexError:
        return object_type, b""


def _descriptor(esds: bytes, at: int, tag: int) -> int:
    """Return where the content of the descriptor at `at` starts. Raises IndexError for another tag."""
    if esds[at] != tag:
        raise IndexError
    at += 1
    while esds[at] & 0x80:
        at += 1
    return at + 1
