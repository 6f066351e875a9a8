"""Opens files that FFmpeg wrote, without trusting them.

A video may have taken over FFmpeg, so its files may be anything. Must never follow a link that it made, wait
for a pipe that it made, or read without a limit. `take` must be called first, when FFmpeg has ended.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO

TEXT_BYTES_MAX = 4 << 20  # a playlist of four hours has 300 KB
LINE_BYTES_MAX = 1 << 16
LINES_BYTES_MAX = 512 << 20  # x264's statistics of 500,000 frames have 60 MB
ROOM_BYTES_MIN = 1 << 20


class NotPlain(Exception):
    """FFmpeg did not leave exactly the expected files. The message names none: FFmpeg chose the names."""


def take(files: Sequence[Path]) -> None:
    """Take ownership of the files and their folders, so that no other FFmpeg can change them.

    Raises NotPlain unless each folder holds its files and nothing else, all of them regular and without a
    second name.
    """
    for folder in dict.fromkeys(path.parent for path in files):
        try:
            _take_folder(folder, {path.name for path in files if path.parent == folder})
        except OSError as error:
            raise NotPlain(f"FFmpeg left a folder that cannot be read ({error.strerror})") from None


def opened(name: str | Path, *, folder: int | None = None) -> BinaryIO:
    """Return the regular file, open for reading; `folder` is the descriptor that `name` starts from.

    Raises NotPlain if it is anything else, or cannot be read. Never waits.
    """
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = open(os.open(name, flags, dir_fd=folder), "rb")  # noqa: PTH123, SIM115 - the caller closes it
    except OSError as error:
        raise NotPlain(f"FFmpeg left something else than a file ({error.strerror})") from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise NotPlain("FFmpeg left something else than a file")
    return file


def size_bytes(path: Path) -> int:
    """Return the size of a regular file. Raises NotPlain."""
    with opened(path) as file:
        return os.fstat(file.fileno()).st_size


def text(path: Path) -> str:
    """Return the text of a regular file, or the beginning of a very long one. Raises NotPlain."""
    with opened(path) as file:
        return file.read(TEXT_BYTES_MAX).decode(errors="replace")


def lines(path: Path) -> Iterator[str]:
    """Yield the lines of a regular file: long lines in pieces, and only the start of a very long file."""
    left = LINES_BYTES_MAX
    with opened(path) as file:
        while left > 0 and (line := file.readline(LINE_BYTES_MAX)):
            left -= len(line)
            yield line.decode(errors="replace")


def remove(folder: Path) -> None:
    """Remove a folder and its content. The rest is removed with the workspace."""
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def removed_unless_well(*paths: Path) -> Iterator[None]:
    """Remove the folders of these paths if the block fails, since they take memory."""
    try:
        yield
    except BaseException:
        for path in paths:
            remove(path.parent)
        raise


def is_full(folder: Path) -> bool:
    """Return whether the folder's file system is full. The folder need not exist."""
    try:
        room = os.statvfs(folder)
    except OSError:
        return False
    return room.f_bavail * room.f_frsize < ROOM_BYTES_MIN


def _take_folder(folder: Path, wanted: set[str]) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _own(descriptor, 0o700)
        with os.scandir(descriptor) as entries:
            names = {entry.name for entry in islice(entries, len(wanted) + 1)}
        if names - wanted:
            raise NotPlain("FFmpeg left files that it was not asked for")
        if wanted - names:
            raise NotPlain("FFmpeg did not write all files")
        for name in names:
            _take_file(name, descriptor)
    finally:
        os.close(descriptor)


def _take_file(name: str, folder: int) -> None:
    with opened(name, folder=folder) as file:
        if os.fstat(file.fileno()).st_nlink != 1:
            raise NotPlain("FFmpeg left a file with a second name")
        _own(file.fileno(), 0o644)


def _own(descriptor: int, mode: int) -> None:
    """Take ownership of a file or folder from the user that wrote it in the jail."""
    if os.fstat(descriptor).st_uid != os.geteuid():
        os.fchown(descriptor, os.geteuid(), os.getegid())
    os.fchmod(descriptor, mode)
