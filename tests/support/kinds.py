"""Files as people's phones, recorders and editors write them, made with FFmpeg, and what is right for each.

FFmpeg writes most of them; the rest are FFmpeg's files with boxes changed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.boxes import HOLDS_BOXES, boxes
from tests.support.generated import generated

FRAGMENTS = "-movflags frag_keyframe+empty_moov+default_base_moof"
X264 = "-c:v libx264 -preset ultrafast -crf 16 -pix_fmt yuv420p -g 30"
X265 = "-c:v libx265 -preset ultrafast -crf 14 -x265-params log-level=none"
AAC = "-c:a aac -b:a 160k"
PICTURE = "-f lavfi -i testsrc2=s={size}:r={rate}:d={seconds}"
TONE = "-f lavfi -i sine=f=440:r={hz}:d={seconds}"
INSIDE = HOLDS_BOXES | {b"moof", b"traf", b"mvex"}

Edit = Callable[[bytes], bytes]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How a file is made and what is right: it is refused with these words, or it has this length.

    `reference` are FFmpeg's filters from what the source shows to what the output has to show; None where
    other tests compare the picture.
    """

    file: str
    args: str = ""
    edit: Edit = lambda data: data
    again: str = ""  # arguments of a second FFmpeg, which copies what the first wrote
    before: str = ""  # the arguments of that second one before its input
    picture_s: float = 2.0
    sound_s: float | None = None
    reference: str | None = "null"
    is_turned: bool = False  # the reference starts from pictures as they are stored
    loudness: str = "anull"  # FFmpeg's filters from the source's sound to one as loud as the output's
    refused: str = ""
    noted: str = ""


def source(
    size: str = "320x180", rate: str = "30", seconds: float = 2.0, sound: bool = True, hz: int = 48000
) -> str:
    picture = PICTURE.format(size=size, rate=rate, seconds=seconds)
    return picture + (" " + TONE.format(hz=hz, seconds=seconds) if sound else "")


def made(ffmpeg: str, kind: Kind, folder: Path) -> Path:
    """Write the file of a kind into the folder."""
    path = folder / kind.file
    container = {"": "mp4", ".avi": "mp4"}.get(path.suffix)
    ending = ["-f", container] if container else []
    (folder / "chapters.txt").write_text(CHAPTERS)
    (folder / "subtitles.srt").write_text(SUBTITLES)
    first = folder / f"first-{kind.file}" if kind.again else path
    _run(ffmpeg, [*kind.args.split(), *ending], first)
    if kind.again:
        again = kind.again.replace("FOLDER", str(folder)).split()
        _run(ffmpeg, [*kind.before.split(), "-i", str(first), *again, *ending], path)
        first.unlink()
    path.write_bytes(kind.edit(path.read_bytes()))
    return path


def _run(ffmpeg: str, args: list[str], path: Path) -> None:
    if args:
        path.write_bytes(generated(ffmpeg, args, path.name))
    else:
        path.write_bytes(b"")


# --- edits of boxes -----------------------------------------------------------------------------------


def edited(data: bytes, change: Callable[[bytes, bytes], bytes | None]) -> bytes:
    """Return the file with each box as `change(kind, content)` gives it whole; None leaves it as it is.

    Lengths must stay, or media must come before the index.
    """
    made = b""
    for kind, body in boxes(data):
        new = change(kind, body)
        if new is None:
            inner = edited(body, change) if kind in INSIDE else body
            new = struct.pack(">I4s", len(inner) + 8, kind) + inner
        made += new
    return made


def renamed(old: bytes) -> Edit:
    """Make a box of this kind one that readers skip."""

    def change(kind: bytes, body: bytes) -> bytes | None:
        return struct.pack(">I4s", len(body) + 8, b"free") + body if kind == old else None

    return lambda data: edited(data, change)


def with_64_bit_sizes(data: bytes) -> bytes:
    """Give the media a header of 16 bytes, as for files above 4 GiB: FFmpeg leaves 8 bytes of room for it."""
    at = data.index(b"mdat") - 4
    (size,) = struct.unpack_from(">I", data, at)
    assert data[at - 8 : at] == b"\0\0\0\x08free"
    return data[: at - 8] + struct.pack(">I4sQ", 1, b"mdat", size + 8) + data[at + 8 :]


def with_edits(*rows: tuple[int, int]) -> Edit:
    """Give the first track this list of edits: (length in the movie's time, start in the track's time)."""
    table = b"".join(struct.pack(">IiI", length, start, 1 << 16) for length, start in rows)
    elst = struct.pack(">I4sII", 16 + len(table), b"elst", 0, len(rows)) + table

    def change(kind: bytes, body: bytes) -> bytes | None:
        return struct.pack(">I4s", len(elst) + 8, b"edts") + elst if kind == b"edts" else None

    return lambda data: edited(data, change)


def with_dolby_vision(data: bytes) -> bytes:
    """Say in the sample entry that this HLG picture is Dolby Vision 8.4, as an iPhone does."""
    config = struct.pack(">BBHB", 1, 0, 8 << 9 | 4 << 3 | 0b101, 4 << 4) + bytes(19)
    box = struct.pack(">I4s", len(config) + 8, b"dvvC") + config

    def change(kind: bytes, body: bytes) -> bytes | None:
        if kind != b"stsd" or b"hvcC" not in body:
            return None
        (size,) = struct.unpack_from(">I", body, 8)
        entry = struct.pack(">I", size + len(box)) + body[12 : 8 + size] + box
        return struct.pack(">I4s", len(body) + len(box) + 8, kind) + body[:8] + entry + body[8 + size :]

    return edited(data, change)


def cut(share: float) -> Edit:
    return lambda data: data[: round(len(data) * share)]


def promising(seconds: int) -> Edit:
    """Say in the header of the movie that it lasts so long."""

    def change(kind: bytes, body: bytes) -> bytes | None:
        if kind != b"mvhd":
            return None
        (scale,) = struct.unpack_from(">I", body, 12)
        return (
            struct.pack(">I4s", len(body) + 8, kind)
            + body[:16]
            + struct.pack(">I", seconds * scale)
            + body[20:]
        )

    return lambda data: edited(data, change)


# --- the kinds ----------------------------------------------------------------------------------------

HLG = f"-pix_fmt yuv420p10le {X265}:colorprim=bt2020:transfer=arib-std-b67:colormatrix=bt2020nc -tag:v hvc1"
PQ = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:hdr10=1"
HDR10 = f"-pix_fmt yuv420p10le {X265}:{PQ} -tag:v hvc1"
FRAGMENTED_S = 2 + 1024 / 48000  # without a list of edits the silence that AAC begins with is shown
CLOUD = "format=gbrap,geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='255*X/W'"
OVER_BLACK = (
    "format=gbrap,split[x][y];[x]drawbox=c=black:t=fill:replace=1,format=gbrp[b];[b][y]overlay=format=gbrp"
)
UPRIGHT = {"90": "transpose=cclock", "180": "hflip,vflip", "270": "transpose=clock"}
VFR = "-vf select='not(mod(n\\,7))+lt(mod(n\\,7)\\,2)' -fps_mode vfr"
CHAPTER = "[CHAPTER]\nTIMEBASE=1/10\nSTART={start}\nEND={end}\ntitle=Part\n"
CHAPTERS = ";FFMETADATA1\n" + CHAPTER.format(start=0, end=10) + CHAPTER.format(start=10, end=20)
SUBTITLES = "1\n00:00:00,000 --> 00:00:01,000\nHello\n"

KINDS: Mapping[str, Kind] = {
    # phones
    "iPhone, HEVC, on its side": Kind(
        file="IMG_0001.MOV",
        args=f"{source()} -pix_fmt yuv420p {X265} -tag:v hvc1 {AAC}",
        before="-display_rotation 90",
        again="-c copy -tag:v hvc1",
        sound_s=2.0,
        is_turned=True,
        reference=UPRIGHT["90"],
    ),
    "iPhone, HLG": Kind(file="hlg.mov", args=f"{source()} {HLG} {AAC}", sound_s=2.0, reference=None),
    "iPhone, Dolby Vision 8.4": Kind(
        file="dolby.mov", args=f"{source()} {HLG} {AAC}", edit=with_dolby_vision, sound_s=2.0, reference=None
    ),
    "iPhone, slow motion of 240 fps": Kind(
        file="slow.mov", args=f"{source(rate='240', seconds=1)} {X264} {AAC}", picture_s=1, sound_s=1
    ),
    "iPhone, ProRes and PCM": Kind(
        file="pro.mov",
        args=f"{source()} -c:v prores_ks -profile:v 3 -c:a pcm_s24le -timecode 01:00:00:00",
        sound_s=2.0,
    ),
    "selfie, mirrored": Kind(
        file="selfie.mp4",
        args=f"{source()} {X264} {AAC}",
        before="-display_hflip",
        again="-c copy",
        sound_s=2.0,
        is_turned=True,
        reference="hflip",
    ),
    "Android, variable rate, on its side": Kind(
        file="VID_2.mp4",
        args=f"{source()} {VFR} {X264} {AAC} -video_track_timescale 90000",
        picture_s=58 / 30,
        before="-display_rotation 270",
        again="-c copy",
        sound_s=2.0,
        is_turned=True,
        reference=UPRIGHT["270"],
    ),
    "Android, HDR10": Kind(file="hdr10.mp4", args=f"{source()} {HDR10} {AAC}", sound_s=2.0, reference=None),
    "old phone, 3GP": Kind(
        file="MOV0001.3gp",
        args=f"{source(size='176x144', rate='15')} -c:v h263 -q:v 2 -c:a libopencore_amrnb -ar 8000 -ac 1",
        sound_s=2.0,
    ),
    "old camera, MPEG-4": Kind(
        file="old.mp4", args=f"{source(rate='15')} -c:v mpeg4 -q:v 2 {AAC}", sound_s=2.0
    ),
    # recorders
    "OBS, fragmented": Kind(
        file="obs.mp4",
        args=f"{source()} {X264} {AAC} {FRAGMENTS}",
        picture_s=FRAGMENTED_S,
        sound_s=FRAGMENTED_S,
    ),
    "OBS, fragmented, cut off": Kind(
        file="crash.mp4",
        args=f"{source(seconds=6)} {X264} {AAC} {FRAGMENTS}",
        edit=cut(0.75),
        picture_s=4.52,
        sound_s=4.03,
        noted="cut off",
    ),
    "fragmented, with sidx": Kind(
        file="dash.mp4",
        args=f"{source()} {X264} {AAC} -movflags +dash+global_sidx+frag_keyframe+empty_moov",
        picture_s=FRAGMENTED_S,
        sound_s=FRAGMENTED_S,
    ),
    "fragmented, without tfdt": Kind(
        file="no-tfdt.mp4",
        args=f"{source()} {X264} {AAC} {FRAGMENTS}",
        edit=renamed(b"tfdt"),
        picture_s=FRAGMENTED_S,
        sound_s=FRAGMENTED_S,
    ),
    "fragmented, a track in each fragment": Kind(
        file="separate.mp4",
        args=f"{source()} {X264} {AAC} {FRAGMENTS}+separate_moof",
        picture_s=FRAGMENTED_S,
        sound_s=FRAGMENTED_S,
    ),
    "OBS, three sounds": Kind(
        file="tracks.mp4",
        args=f"{source()} {TONE.format(hz=44100, seconds=2)} {TONE.format(hz=48000, seconds=2)}"
        f" -map 0 -map 1 -map 2 -map 3 {X264} {AAC}",
        sound_s=2.0,
    ),
    "OBS, AV1 and Opus": Kind(
        file="av1.mp4",
        args=f"{source()} -c:v libsvtav1 -preset 12 -crf 20 -c:a libopus -b:a 160k",
        sound_s=2.0,
    ),
    "screen, 5 fps, silent": Kind(file="screen.mp4", args=f"{source(rate='5', sound=False)} {X264}"),
    "screen, a picture that stays": Kind(
        file="still.mov",
        args=f"{source(sound=False, seconds=4)} -vf select='lt(n\\,30)+gte(n\\,119)' -fps_mode vfr"
        f" {X264} -bf 0",
        picture_s=4.0,
    ),
    "screen, 4:4:4, odd size": Kind(
        file="odd.mov",
        args=f"{source(size='321x181')} -c:v libx264 -preset ultrafast -crf 12 -pix_fmt yuv444p {AAC}",
        sound_s=2.0,
        reference="scale=320:180,format=yuv420p",
    ),
    "screen, 60 fps, no sound recorded": Kind(
        file="empty-sound.mp4",
        args=f"{source(rate='60')} {X264} {AAC} -af atrim=end=0.000001",
    ),
    "QuickTime, sound of 8 kHz mu-law": Kind(
        file="mulaw.mov", args=f"{source()} {X264} -c:a pcm_mulaw -ar 8000 -ac 1", sound_s=2.0
    ),
    # cameras
    "camcorder, PAL DV": Kind(
        file="dv.mov",
        args=f"{source(size='720x576', rate='25')} -c:v dvvideo -pix_fmt yuv420p -c:a pcm_s16le -ac 2",
        sound_s=2.0,
        reference="bwdif",
    ),
    "camcorder, XDCAM with four sounds": Kind(
        file="xdcam.mov",
        args=f"{source(size='1440x1080', rate='25', seconds=1)} {TONE.format(hz=48000, seconds=1)}"
        " -map 0 -map 1 -map 2 -c:v mpeg2video -pix_fmt yuv422p -q:v 2 -flags +ildct+ilme -tag:v xd5c"
        " -vf setfield=tff,setsar=4/3"
        " -c:a pcm_s24le -timecode 10:00:00:00",
        picture_s=1,
        sound_s=1,
        reference="bwdif,setparams=colorspace=bt709",
    ),
    "camera, Motion JPEG of full range": Kind(
        file="mjpeg.mov", args=f"{source()} -c:v mjpeg -q:v 2 -pix_fmt yuvj420p -c:a pcm_u8", sound_s=2.0
    ),
    "camera, HEVC 4:2:2 of 10 bit": Kind(
        file="x-t5.mov",
        args=f"{source()} -pix_fmt yuv422p10le {X265} -tag:v hvc1 -c:a pcm_s24be",
        sound_s=2.0,
    ),
    "camera, 23.976 fps": Kind(
        file="film.mp4",
        args=f"{source(rate='24000/1001', seconds=2.002)} {X264} -bf 2 {AAC}",
        picture_s=2.002,
        sound_s=2.0,
    ),
    # editors
    "Premiere, MXF-like DNxHR in MOV": Kind(
        file="dnxhr.mov",
        args=f"{source()} -c:v dnxhd -profile:v dnxhr_hq -pix_fmt yuv422p -c:a pcm_s16le",
        sound_s=2.0,
    ),
    "After Effects, Animation with alpha": Kind(
        file="animation.mov",
        args=f"{source(sound=False)} -vf {CLOUD} -c:v qtrle -pix_fmt argb",
        reference=f"{OVER_BLACK},format=yuv420p",
    ),
    "After Effects, HAP": Kind(
        file="hap.mov", args=f"{source(sound=False)} -c:v hap", reference="format=yuv420p"
    ),
    "Resolve, uncompressed 10 bit": Kind(
        file="v210.mov",
        args=f"{source(seconds=0.5)} -c:v v210 -c:a pcm_f32le -ar 96000",
        picture_s=0.5,
        sound_s=0.5,
    ),
    "Final Cut, CineForm, sound of 192 kHz": Kind(
        file="cfhd.mov",
        args=f"{source(hz=192000)} -c:v cfhd -pix_fmt yuv422p10le -c:a pcm_s24le",
        sound_s=2.0,
    ),
    "CapCut, with a cover": Kind(
        file="cover.mp4",
        args=f"{source()} -f lavfi -i color=red:s=64x64:d=0.04 -map 0 -map 1 -map 2 {X264} -c:v:1 png"
        f" -disposition:v:1 attached_pic {AAC}",
        sound_s=2.0,
    ),
    "HandBrake, chapters and subtitles": Kind(
        file="chapters.mp4",
        args=f"{source()} {X264} {AAC}",
        before="",
        again="-i FOLDER/chapters.txt -i FOLDER/subtitles.srt -map 0 -map 2 -map_metadata 1"
        " -c copy -c:s mov_text",
        sound_s=2.0,
    ),
    "YouTube, VP9": Kind(
        file="yt.mp4", args=f"{source()} -c:v libvpx-vp9 -deadline realtime -crf 20 -b:v 0 {AAC}", sound_s=2.0
    ),
    "5.1, AC-3": Kind(file="surround.mp4", args=f"{source()} {X264} -c:a ac3 -ac 6 -b:a 384k", sound_s=2.0),
    "5.1.4": Kind(
        file="atmos.mov",
        args=f"{source()} {X264} -c:a pcm_s16le -af pan=5.1.4|c0=c0|c1=c0|c9=c0",
        sound_s=2.0,
    ),
    # slides
    "PowerPoint, 1 fps": Kind(
        file="slides.mp4", args=f"{source(rate='1', seconds=4)} {X264} {AAC}", picture_s=4, sound_s=4
    ),
    "Canva, one picture of 5 s": Kind(
        file="one.mp4", args=f"{PICTURE.format(size='320x320', rate='1/5', seconds=5)} {X264}", picture_s=5
    ),
    "a single frame": Kind(
        file="frame.mp4", args=f"{source(sound=False)} -frames:v 1 {X264}", picture_s=1 / 30
    ),
    "under half a second": Kind(
        file="short.mp4", args=f"{source(seconds=0.4)} {X264} {AAC}", picture_s=0.4, sound_s=0.4
    ),
    # timing
    "picture starts late": Kind(
        file="late-picture.mp4",
        args=f"-itsoffset 0.5 {source(seconds=1.5)} {X264} {AAC}",
        sound_s=1.5,
    ),
    "sound starts late": Kind(
        file="late-sound.mp4",
        args=f"{source(sound=False)} -itsoffset 0.7 {TONE.format(hz=48000, seconds=1.3)} {X264} {AAC}",
        sound_s=2.0,
    ),
    "sound goes on after the picture": Kind(
        file="longer-sound.mp4",
        args=f"{source(sound=False, seconds=1)} {TONE.format(hz=44100, seconds=3)} {X264} {AAC}",
        picture_s=1,
        sound_s=3,
    ),
    "picture goes on after the sound": Kind(
        file="longer-picture.mp4",
        args=f"{source(sound=False, seconds=3)} {TONE.format(hz=44100, seconds=1)} {X264} {AAC}",
        picture_s=3,
        sound_s=1,
    ),
    "a gap in the sound": Kind(
        file="gap.mp4",
        args=f"{source(seconds=3)} -af aselect='not(between(t,1,2))' {X264} {AAC}",
        picture_s=3,
        sound_s=3,
    ),
    "trimmed by an edit list": Kind(
        file="trimmed.mp4",
        args=f"{source(seconds=4)} {X264} -g 300 {AAC}",
        before="-ss 1.5",
        again="-c copy",
        picture_s=2.5,
        sound_s=2.5,
    ),
    "an edit of no length before the whole": Kind(
        file="zero-edit.mov", args=f"{source(sound=False)} {X264} -bf 0", edit=with_edits((0, 0), (2000, 0))
    ),
    "edits that leave out the middle": Kind(
        file="two-edits.mov",
        args=f"{source(sound=False, seconds=3)} {X264} -bf 0 -video_track_timescale 600",
        edit=with_edits((1000, 0), (1000, 1200)),
        reference=None,
    ),
    "negative composition offsets": Kind(
        file="negative.mov",
        args=f"{source(sound=False)} -c:v libx264 -bf 2 -pix_fmt yuv420p -movflags negative_cts_offsets",
    ),
    # containers
    "no extension": Kind(file="noname", args=f"{source()} {X264} {AAC}", sound_s=2.0),
    "wrong extension": Kind(file="wrong.avi", args=f"{source()} {X264} {AAC}", sound_s=2.0),
    "sizes of 64 bits": Kind(
        file="large.mp4", args=f"{source()} {X264} {AAC}", edit=with_64_bit_sizes, sound_s=2.0
    ),
    "a header that promises more": Kind(
        file="promise.mp4",
        args=f"{source()} {X264} {AAC}",
        edit=promising(17),
        sound_s=2.0,
        noted="promises 17.0 s",
    ),
    "pixels that are not square": Kind(
        file="hdv.mov", args=f"{source(size='480x360')} -vf setsar=4/3 {X264} {AAC}", sound_s=2.0
    ),
    "the smallest picture": Kind(
        file="tiny.mp4", args=f"{source(size='16x16')} {X264} {AAC}", sound_s=2.0, reference=None
    ),
    # refused
    "cut off, plain": Kind(
        file="cut.mp4",
        args=f"{source()} {X264} {AAC} -movflags faststart",
        edit=cut(0.6),
        refused="cut short",
    ),
    "cut off before its index": Kind(
        file="no-index.mp4", args=f"{source()} {X264} {AAC}", edit=cut(0.6), refused="cut short"
    ),
    "Matroska": Kind(file="film.mkv.mp4", args=f"{source()} {X264} {AAC} -f matroska", refused="MKV"),
    "WebM": Kind(
        file="film.webm.mp4",
        args=f"{source(sound=False)} -c:v libvpx-vp9 -deadline realtime -f webm",
        refused="WebM",
    ),
    "a GIF": Kind(file="anim.gif.mp4", args=f"{source(sound=False, rate='5')} -f gif", refused="GIF"),
    "sound alone": Kind(
        file="voice.mp4", args=f"{TONE.format(hz=48000, seconds=1)} {AAC}", refused="no video"
    ),
    "DTS": Kind(file="dts.mp4", args=f"{source()} {X264} -c:a dca -strict -2", refused="DTS"),
    "nothing": Kind(file="empty.mp4", refused="empty"),
}
