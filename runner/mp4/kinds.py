"""Names the kind of a file that is no MP4 or MOV by its first bytes, and says what to do instead. Pure."""

from __future__ import annotations

CONVERT = "Convert it to MP4 first."
NOT_A_VIDEO = "Upload an MP4 or MOV video."

_STARTS = {
    b"\x1aE\xdf\xa3": f"This is a Matroska file (MKV). {CONVERT}",
    b"FLV\x01": f"This is a Flash video. {CONVERT}",
    b"\x30\x26\xb2\x75": f"This is a Windows Media file. {CONVERT}",
    b"\0\0\x01\xba": f"This is an MPEG program stream. {CONVERT}",
    b"\0\0\x01\xb3": f"This is a bare MPEG video stream. {CONVERT}",
    b"\0\0\0\x01": f"This is a bare video stream without a container. {CONVERT}",
    b"OggS": f"This is an Ogg file. {CONVERT}",
    b"#EXTM3U": "This is an HLS playlist: it only names the video. Upload the video itself as MP4 or MOV.",
    b"ID3": f"This is an MP3: it has sound but no video. {NOT_A_VIDEO}",
    b"\xff\xfb": f"This is an MP3: it has sound but no video. {NOT_A_VIDEO}",
    b"\xff\xf1": f"This is an AAC file: it has sound but no video. {NOT_A_VIDEO}",
    b"#!AMR": f"This is an AMR recording: it has sound but no video. {NOT_A_VIDEO}",
    b"FORM": f"This is an AIFF file: it has sound but no video. {NOT_A_VIDEO}",
    b"fLaC": f"This is a FLAC file: it has sound but no video. {NOT_A_VIDEO}",
    b"\x89PNG": f"This is a PNG picture. {NOT_A_VIDEO}",
    b"\xff\xd8\xff": f"This is a JPEG picture. {NOT_A_VIDEO}",
    b"GIF8": f"This is a GIF picture. {CONVERT}",
    b"II*\0": f"This is a TIFF or RAW picture. {NOT_A_VIDEO}",
    b"MM\0*": f"This is a TIFF or RAW picture. {NOT_A_VIDEO}",
    b"%PDF": f"This is a PDF document. {NOT_A_VIDEO}",
    b"PK\x03\x04": "This is a ZIP. Unpack it and upload the videos in it.",
    b"Rar!": "This is a RAR archive. Unpack it and upload the videos in it.",
    b"7z\xbc\xaf": "This is a 7z archive. Unpack it and upload the videos in it.",
    b"\x1f\x8b": "This is a gzip archive. Unpack it and upload the videos in it.",
}
_RIFF = {
    b"AVI ": f"This is an AVI. {CONVERT}",
    b"WAVE": f"This is a WAV file: it has sound but no video. {NOT_A_VIDEO}",
    b"WEBP": f"This is a WebP picture. {NOT_A_VIDEO}",
}
_PICTURE_BRANDS = (b"heic", b"heix", b"mif1", b"msf1", b"avif")
_FIRST_BOXES = (
    b"ftyp",
    b"moov",
    b"mdat",
    b"free",
    b"skip",
    b"wide",
    b"pnot",
    b"uuid",
    b"styp",
    b"sidx",
    b"moof",
    b"pdin",
    b"meta",
    b"emsg",
    b"prft",
)


def refusal(head: bytes) -> str:
    """Return why a file with these first bytes is not taken; empty if it may be an MP4 or MOV."""
    if head[4:8] == b"ftyp" and head[8:12] in _PICTURE_BRANDS:
        return f"This is a HEIC or AVIF picture. {NOT_A_VIDEO}"
    return "" if head[4:8] in _FIRST_BOXES else _other_kind(head)


def _other_kind(head: bytes) -> str:
    if head.startswith(b"\x1aE\xdf\xa3") and b"webm" in head[:64]:
        return f"This is a WebM. {CONVERT}"
    if head.startswith(b"RIFF") and head[8:12] in _RIFF:
        return _RIFF[head[8:12]]
    if b"GGG" in (
        head[0:377:188],
        head[4:389:192],
    ):  # sync bytes of three packets; cameras put 4 bytes before each
        return f"This is an MPEG transport stream (TS). {CONVERT}"
    for start, sentence in _STARTS.items():
        if head.startswith(start):
            return sentence
    if _is_text(head):
        return f"This is a text file. {NOT_A_VIDEO}"
    return f"This is not an MP4 or MOV file. {NOT_A_VIDEO}"


def _is_text(head: bytes) -> bool:
    text = head[:1024].decode("utf-8", "ignore")
    return len(text.encode()) >= min(len(head), 1024) - 3 and all(
        c.isprintable() or c.isspace() for c in text
    )
