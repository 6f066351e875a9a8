"""A tiny video of every codec that FFmpeg can write into MP4 or MOV: what is taken, and what is not.

FFmpeg has no encoder for AMR-WB and HAP Q Alpha.
"""

from __future__ import annotations

from functools import cache

from tests.support.generated import generated

SMALL, PAL, HD, HDV = "96x64", "720x576", "1280x720", "1440x1080"
H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"
QUIET = "-x265-params log-level=none -preset ultrafast"


def _video(file: str, arguments: str, size: str = SMALL) -> tuple[str, str]:
    return file, f"-f lavfi -i testsrc2=s={size}:r=25:d=0.4 {arguments}"


def _sound(file: str, arguments: str) -> tuple[str, str]:
    tone = "-f lavfi -i sine=d=0.4:r=48000"
    return file, f"-f lavfi -i testsrc2=s={SMALL}:r=25:d=0.4 {tone} {H264} {arguments}"


# File name to FFmpeg's arguments.
PICTURES = dict(
    [
        _video("h264.mp4", H264),
        _video("h264-10-bit-422.mov", "-c:v libx264 -pix_fmt yuv422p10le"),
        _video("h264-444.mov", "-c:v libx264 -pix_fmt yuv444p"),
        _video("hevc.mp4", f"-c:v libx265 -tag:v hvc1 {QUIET}"),
        _video("hevc-10-bit.mov", f"-c:v libx265 -pix_fmt yuv420p10le {QUIET}"),
        _video("hevc-12-bit-444.mp4", f"-c:v libx265 -pix_fmt yuv444p12le {QUIET}"),
        _video("hevc-12-bit-422.mov", f"-c:v libx265 -pix_fmt yuv422p12le {QUIET}"),
        _video("av1.mp4", "-c:v libsvtav1 -preset 12"),
        _video("av1-10-bit.mp4", "-c:v libsvtav1 -preset 12 -pix_fmt yuv420p10le"),
        _video("vp9.mp4", "-c:v libvpx-vp9 -deadline realtime"),
        _video("mpeg4.mp4", "-c:v mpeg4"),
        _video("mpeg2.mp4", "-c:v mpeg2video"),
        _video("xdcam.mov", "-c:v mpeg2video -tag:v xd5c"),
        _video("mpeg1.mp4", "-c:v mpeg1video"),
        _video("h263.3gp", "-c:v h263", "176x144"),
        *[_video(f"prores-{number}.mov", f"-c:v prores_ks -profile:v {number}") for number in range(6)],
        _video("prores-alpha.mov", "-c:v prores_ks -profile:v 4 -pix_fmt yuva444p10le"),
        _video("dnxhd.mov", "-c:v dnxhd -b:v 90M -pix_fmt yuv422p", HD),
        _video("dnxhr-hqx.mov", "-c:v dnxhd -profile:v dnxhr_hqx -pix_fmt yuv422p10le", "256x120"),
        _video("dnxhr-444.mov", "-c:v dnxhd -profile:v dnxhr_444 -pix_fmt yuv444p10le", "256x120"),
        _video("cineform.mov", "-c:v cfhd -pix_fmt yuv422p10le"),
        _video("cineform-alpha.mov", "-c:v cfhd -pix_fmt gbrap12le"),
        _video("animation.mov", "-c:v qtrle -pix_fmt rgb24"),
        _video("animation-alpha.mov", "-c:v qtrle -pix_fmt argb"),
        _video("animation-gray.mov", "-c:v qtrle -pix_fmt gray"),
        _video("png.mov", "-c:v png"),
        _video("png-alpha.mov", "-c:v png -pix_fmt rgba"),
        _video("png-16-bit.mov", "-c:v png -pix_fmt rgb48be"),
        _video("png-gray.mov", "-c:v png -pix_fmt gray"),
        _video("png-palette.mov", "-c:v png -pix_fmt pal8"),
        _video("png.mp4", "-c:v png"),
        _video("jpeg2000.mov", "-c:v jpeg2000"),
        _video("jpeg2000-10-bit.mov", "-c:v jpeg2000 -pix_fmt yuv422p10le"),
        _video("jpeg2000.mp4", "-c:v jpeg2000"),
        _video("hap.mov", "-c:v hap"),
        _video("hap-alpha.mov", "-c:v hap -format hap_alpha"),
        _video("hap-q.mov", "-c:v hap -format hap_q"),
        _video("photo-jpeg.mov", "-c:v mjpeg -pix_fmt yuvj420p"),
        _video("photo-jpeg-422.mov", "-c:v mjpeg -pix_fmt yuvj422p"),
        _video("mjpeg.mp4", "-c:v mjpeg -pix_fmt yuvj420p"),
        _video("dv.mov", "-c:v dvvideo -pix_fmt yuv420p", PAL),
        _video("dv-50.mov", "-c:v dvvideo -pix_fmt yuv422p", PAL),
        _video("dvcpro-hd.mov", "-c:v dvvideo -pix_fmt yuv422p", HDV),
        _video("2vuy.mov", "-c:v rawvideo -pix_fmt uyvy422"),
        _video("yuvs.mov", "-c:v rawvideo -pix_fmt yuyv422"),
        _video("rgb.mov", "-c:v rawvideo -pix_fmt rgb24"),
        _video("bgra.mov", "-c:v rawvideo -pix_fmt bgra"),
        _video("rgb-16-bit.mov", "-c:v rawvideo -pix_fmt rgb48be"),
        _video("v210.mov", "-c:v v210"),
        _video("r210.mov", "-c:v r210"),
        _video("r10k.mov", "-c:v r10k"),
    ]
)
PCM = ["s8", "u8", "s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "f32be", "f64le", "f64be"]
SOUNDS = dict(
    [
        _sound("aac.mp4", "-c:a aac"),
        _sound("aac-5.1.mov", "-c:a aac -ac 6"),
        _sound("aac-8-khz.mov", "-c:a aac -ar 8000"),
        _sound("mp3.mp4", "-c:a libmp3lame"),
        _sound("mp3.mov", "-c:a libmp3lame"),
        _sound("mp2.mp4", "-c:a mp2"),
        _sound("ac3.mp4", "-c:a ac3"),
        _sound("ac3.mov", "-c:a ac3"),
        _sound("ac3-5.1.mov", "-c:a ac3 -ac 6"),
        _sound("eac3.mp4", "-c:a eac3"),
        _sound("eac3-5.1.mov", "-c:a eac3 -ac 6"),
        _sound("alac.mov", "-c:a alac"),
        _sound("alac-stereo.mov", "-c:a alac -ac 2"),
        _sound("flac.mp4", "-c:a flac"),
        _sound("opus.mp4", "-c:a libopus"),
        *[_sound(f"pcm-{kind}.mov", f"-c:a pcm_{kind}") for kind in PCM],
        *[_sound(f"pcm-{kind}.mp4", f"-c:a pcm_{kind}") for kind in ("s16le", "s24be", "f32le", "f64be")],
        _sound("pcm-192-khz.mov", "-c:a pcm_s24le -ar 192000"),
        _sound("pcm-16-channels.mov", "-c:a pcm_s16le -af pan=16c|c0=c0|c1=c0"),
        _sound("a-law.mov", "-c:a pcm_alaw"),
        _sound("a-law-8-khz.mov", "-c:a pcm_alaw -ar 8000"),
        _sound("mu-law.mov", "-c:a pcm_mulaw"),
        _sound("ima4.mov", "-c:a adpcm_ima_qt"),
        _sound("ima-wav.mov", "-c:a adpcm_ima_wav"),
        _sound("adpcm-ms.mov", "-c:a adpcm_ms"),
        _sound("amr-nb.3gp", "-c:a libopencore_amrnb -ar 8000 -ac 1"),
    ]
)
# The name in the refusal to a file.
NOT_TAKEN = {
    "H.266 (VVC)": _video("vvc.mp4", "-c:v libvvenc -pix_fmt yuv420p10le -preset faster -strict -2"),
    "Sorenson Video": _video("svq1.mov", "-c:v svq1"),
    "Cinepak": _video("cinepak.mov", "-c:v cinepak"),
    "FFV1": _video("ffv1.mov", "-c:v ffv1 -strict -2"),
    "Apple Video": _video("rpza.mov", "-c:v rpza"),
    "TIFF pictures": _video("tiff.mov", "-c:v tiff"),
    "'M8RG'": _video("magicyuv.mov", "-c:v magicyuv -pix_fmt gbrp"),
    "'yuv4'": _video("yuv4.mov", "-c:v yuv4"),
    "DTS": _sound("dts.mp4", "-c:a dca -strict -2"),
    "Dolby TrueHD": _sound("truehd.mp4", "-c:a truehd -strict -2"),
    "Vorbis": _sound("vorbis.mp4", "-ac 2 -c:a vorbis -strict -2"),
}

# For tests that damage files: one for each decoder, but for those of H.264 and AAC.
ONE_FOR_EACH_DECODER = [
    *["hevc-10-bit.mov", "av1-10-bit.mp4", "vp9.mp4", "mpeg4.mp4", "mpeg2.mp4", "mpeg1.mp4", "h263.3gp"],
    *["prores-alpha.mov", "dnxhr-hqx.mov", "cineform-alpha.mov", "animation-alpha.mov", "png.mov"],
    *["jpeg2000.mov", "hap-alpha.mov", "photo-jpeg.mov", "dv.mov", "2vuy.mov", "v210.mov", "r210.mov"],
    *["r10k.mov", "mp3.mov", "mp2.mp4", "ac3.mp4", "eac3.mp4", "alac.mov", "flac.mp4", "opus.mp4"],
    *[f"pcm-{kind}.mov" for kind in PCM],
    *["a-law.mov", "mu-law.mov", "ima4.mov", "ima-wav.mov", "adpcm-ms.mov", "amr-nb.3gp"],
]


@cache
def made(ffmpeg: str, file: str, arguments: str) -> bytes:
    """Return the bytes of a file that FFmpeg writes."""
    return generated(ffmpeg, [*arguments.split(), "-shortest"], file)
