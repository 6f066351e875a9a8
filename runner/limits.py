"""What we take from strangers, and how FFmpeg is told. Pure.

The MP4 family only, a short list of decoders, no other file, no network; so many pixels, streams, frames and
seconds. The jail bounds what a hostile file can reach; this bounds what it can make FFmpeg do at all.
"""

from __future__ import annotations

from runner.contract import SOURCE_FRAME, SOURCE_PIXELS_MAX, SOURCE_S_MAX, SOURCE_SIDE_MAX

# What people's cameras, phones and editors write into MP4 and MOV. Each further decoder is a further target:
# CVE-2026-8461 was a 50 KB file for one (MagicYUV) that nobody asked for.
DECODERS = ",".join(
    [
        *["h264", "hevc", "libdav1d", "vp9", "mpeg4", "mpeg2video", "h263", "mjpeg", "prores", "dnxhd"],
        *["aac", "mp3float", "mp3", "ac3", "eac3", "alac", "flac", "opus", "amrnb", "adpcm_ima_qt"],
        *["pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be"],
        *["pcm_f32le", "pcm_f32be", "pcm_s8", "pcm_u8", "pcm_alaw", "pcm_mulaw"],
    ]
)
DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2"  # one demuxer, by all its names

STREAMS_MAX = 16
FRAMES_MAX = 500_000  # four hours at nearly 35 frames a second; 8 MB can hold more
ALLOCATION_BYTES_MAX = 512 << 20  # of one block: the largest frame, 16 bits deep in full colour, has 212 MB

# Before `-i` of every file that is not ours. The forced format is what refuses playlists and scripts that
# name other files, whatever they are called.
INPUT_OPTIONS = [
    *["-protocol_whitelist", "file", "-format_whitelist", DEMUXERS, "-codec_whitelist", DECODERS],
    *["-max_pixels", str(SOURCE_PIXELS_MAX), "-max_streams", str(STREAMS_MAX), "-f", "mov"],
]
GLOBAL_OPTIONS = ["-nostdin", "-max_alloc", str(ALLOCATION_BYTES_MAX)]

_LIMITS_IN_FFMPEGS_WORDS = {
    "exceeds max_streams": f"more than {STREAMS_MAX} streams",
    "exceeds specified max pixel count": f"larger frames than {SOURCE_FRAME}",
    "Picture size": f"larger frames than {SOURCE_FRAME}",  # av_image_check_size, of what passes any sense
}


def excess(*, width: int, height: int, duration_s: float, frames: int) -> str:
    """Return what a video has too much of, in words that follow "This video has"; empty if nothing."""
    if max(width, height) > SOURCE_SIDE_MAX:
        return f"larger frames than {SOURCE_FRAME}"
    if duration_s > SOURCE_S_MAX:
        return f"more than {SOURCE_S_MAX / 3600:.0f} hours"
    if frames > FRAMES_MAX:
        return f"more than {FRAMES_MAX:,} frames"
    return ""


def excess_told(said: str) -> str:
    """Return, from FFmpeg's last words, what the video has too much of; empty if they name nothing."""
    return next((what for words, what in _LIMITS_IN_FFMPEGS_WORDS.items() if words in said), "")
