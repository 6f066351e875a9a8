"""An FFmpeg that a video has taken over: it makes what its arguments ask for, and then does harm.

Run in FFmpeg's place with nothing but the standard library. Arguments: the harm, the part of the work that it
is done in (probe, render, check, poster), the path of a file that it must not get at, then FFmpeg's own
arguments. It ends with an error where it is refused something.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress

HARM, WHERE, SECRET, ARGS = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]


def path_of(argument: str) -> str:
    return argument.removeprefix("file:")


def is_output(at: int) -> bool:
    """Return whether the argument names a file to write: the one that ends a group of options."""
    return path_of(ARGS[at]).startswith("/") and ARGS[at - 1] != "-i"


OUTPUTS = [path_of(ARGS[at]) for at in range(1, len(ARGS)) if is_output(at)]
STATS = next((arg.partition("stats=")[2].partition(":")[0] for arg in ARGS if "stats=" in arg), "")
PACKETS = "#tb 0: 1/25\n#media_type 0: video\n#codec_id 0: h264\n0, 0, 0, 50, 9, 0x1\n"
PART = "poster" if "mjpeg" in ARGS else "render"
if "framecrc" in ARGS:
    PART = "check" if "null" in ARGS else "probe"


def put(path: str, content: str) -> None:
    with open(path, "w") as file:
        file.write(content)


def work() -> None:
    """Do what FFmpeg would have done, as it looks from outside."""
    for path in OUTPUTS:
        put(path, PACKETS if path.endswith("packets") else "YUV4MPEG2 W320 H180 F25:1 \n")
    if "pass=1" in " ".join(ARGS):
        put(STATS, "in:0 out:0 type:I tex:1000 mv:10 misc:10\n")
        put(f"{STATS}.mbtree", "tree")
    print("frame=50\nout_time_us=2000000\nprogress=end", flush=True)
    said = "  Duration: 00:00:02.00, start: 0\n  Stream #0:0: Video: h264 (High), yuv420p(tv), 320x180\n"
    sys.stderr.write(said + "[Parsed_showinfo_0 @ 0x1] n:0 i:P color_trc:bt709\n")


def instead(make: Callable[[str], object]) -> None:
    """Put something else in the place of each output."""
    work()
    for path in OUTPUTS:
        os.unlink(path)
        make(path)


def folder() -> str:
    return os.path.dirname(OUTPUTS[-1])


def tree_linked() -> None:
    work()
    if "pass=1" in " ".join(ARGS):
        os.unlink(f"{STATS}.mbtree")
        os.symlink("/", f"{STATS}.mbtree")


def say_numbers() -> None:
    huge = "9" * 5000
    sys.stderr.write(f"  Duration: {huge}:00:00.00, start: 0\n")
    for value in ("nan", "-5", "inf", huge, "1e9", "0x10", "\0", "", "-" + huge):
        for name in ("frame", "out_time_us", "total_size"):
            print(f"{name}={value}")
    work()


def play_on() -> None:
    """Leave a process behind that holds the pipes open and keeps putting a link in the output's place."""
    work()
    if os.fork() == 0:
        os.setsid()
        for _ in range(100):
            for path in OUTPUTS:
                with suppress(OSError):
                    os.symlink(SECRET, path + ".next")
                    os.rename(path + ".next", path)
            time.sleep(0.05)
        os._exit(0)


HARMS: dict[str, Callable[[], object]] = {
    "a link": lambda: instead(lambda path: os.symlink(SECRET, path)),
    "a second name": lambda: instead(lambda path: os.link(SECRET, path)),
    "a pipe": lambda: instead(os.mkfifo),
    "a folder": lambda: instead(os.mkdir),
    "a link to all files": tree_linked,
    "a link under another name": lambda: (work(), os.symlink(SECRET, folder() + "/named.m3u8")),
    "a name of odd bytes": lambda: (work(), put(folder() + "/\udcff\x1b[2J\n", "")),
    "many files": lambda: (work(), [put(f"{folder()}/{n}", "") for n in range(100)]),
    "no rights": lambda: (work(), os.chmod(OUTPUTS[-1], 0), os.chmod(folder(), 0)),
    "rights for everyone": lambda: (work(), os.chmod(OUTPUTS[-1], 0o6777)),
    "nothing at all": lambda: None,
    "numbers without end": say_numbers,
    "the exit code of a jail": lambda: os._exit(125),
    "its source": lambda: (work(), put(path_of(ARGS[ARGS.index("-i") + 1]), "changed")),
    "a process": play_on,
    "a standstill": lambda: time.sleep(600),
    "signs that steer a screen": lambda: sys.exit("\x1b]0;title\x07\x1b[2Jred\u202etxt.exe\x9b"),
}

if "-version" not in ARGS:
    (HARMS[HARM] if PART == WHERE else work)()
