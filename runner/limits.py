"""FFmpeg's options that limit what a source can make it do. Pure.

FFmpeg reads one container (the MP4 family), uses only the decoders of `runner/media.py`, opens no other file
and no network, and stops at a number of pixels and streams. The jail limits what a hostile file can reach;
these options limit what it can make FFmpeg do.
"""

from __future__ import annotations

from runner.media import (
    DEMUXERS,
    FRAMES_MAX,
    SOURCE_FRAME,
    SOURCE_PIXELS_MAX,
    SOURCE_S_MAX,
    SOURCE_SIDE_MAX,
    STREAMS_MAX,
    decoders,
)

# Each decoder is one more part of FFmpeg that a hostile file can reach: CVE-2026-8461 was a 50 KB file for a
# decoder (MagicYUV) that no user needs.
DECODERS = ",".join(decoders())
ALLOCATION_BYTES_MAX = 576 << 20  # of one block: for the largest frame `perspective` has a table of 540 MiB

# These stand before `-i` of every file of a user. The forced format refuses playlists and scripts that name
# other files, whatever the name of the file is.
INPUT_OPTIONS = [
    *["-protocol_whitelist", "file", "-format_whitelist", DEMUXERS, "-codec_whitelist", DECODERS],
    *["-max_pixels", str(SOURCE_PIXELS_MAX), "-max_streams", str(STREAMS_MAX), "-f", "mov"],
]
GLOBAL_OPTIONS = ["-nostdin", "-max_alloc", str(ALLOCATION_BYTES_MAX)]

_LIMITS_IN_FFMPEGS_WORDS = {
    "exceeds max_streams": f"more than {STREAMS_MAX} streams",
    "exceeds specified max pixel count": f"larger frames than {SOURCE_FRAME}",
    "Picture size": f"larger frames than {SOURCE_FRAME}",  # av_image_check_size, of absurd sizes
}


def excess(*, width: int, height: int, duration_s: float, frames: int) -> str:
    """Return which limit a video exceeds, in words that follow "This video has"; empty if none."""
    if max(width, height) > SOURCE_SIDE_MAX:
        return f"larger frames than {SOURCE_FRAME}"
    if duration_s > SOURCE_S_MAX:
        return f"more than {SOURCE_S_MAX / 3600:.0f} hours"
    if frames > FRAMES_MAX:
        return f"more than {FRAMES_MAX:,} frames"
    return ""


def excess_in(said: str) -> str:
    """Return which limit the video exceeds according to FFmpeg's last messages; empty if they name none."""
    return next((what for words, what in _LIMITS_IN_FFMPEGS_WORDS.items() if words in said), "")
