"""Turns x264's analysis of a picture around, for outputs that mirror it.

x264 keeps its analysis in two files: `STATS`, with the bits of each frame, and `STATS.mbtree`, with a value
for each macroblock of each reference frame. The values of an output that is mirrored, where the analysed one
is not, or the other way around, are those of the other side of the picture. `python -m runner.analysis STATS
WIDTH HEIGHT` writes `STATS-turned` as the runner does, to make such an output again by its arguments.
"""

from __future__ import annotations

import os
import sys
from array import array
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from runner.plain_files import NotPlain, opened

BLOCK = 16  # pixels of a macroblock's side
OTHER_SIZE = "FFmpeg left an analysis of another size"
VALUE_BYTES, KIND_BYTES = 2, 1  # of a macroblock; of a frame, before its values


def tree_of(stats: Path) -> Path:
    """Return the file of the macroblocks that belongs to a file of statistics."""
    return stats.with_name(f"{stats.name}.mbtree")


def turned_of(stats: Path) -> Path:
    """Return the name of the statistics of the mirrored picture."""
    return stats.with_name(f"{stats.name}-turned")


def turn(stats: Path, *, width: int, height: int, frames: int) -> Path:
    """Write the analysis of the mirrored picture beside that of the picture; return its statistics.

    `frames` is the largest number of frames that are read. Raises NotPlain if FFmpeg left something else than
    whole frames of this size, or more of them.
    """
    turned = turned_of(stats)
    with opened(tree_of(stats)) as read, tree_of(turned).open("wb") as written:
        for frame in _turned(read, -(-width // BLOCK), -(-height // BLOCK), frames):
            written.write(frame)
    with suppress(FileExistsError):
        os.link(stats, turned, follow_symlinks=False)  # sizes of frames are those of the first picture
    return turned


def _turned(tree: BinaryIO, wide: int, high: int, frames: int) -> Iterator[bytes]:
    row_bytes, frame_bytes = wide * VALUE_BYTES, wide * high * VALUE_BYTES
    for _ in range(frames):
        frame = tree.read(KIND_BYTES + frame_bytes)
        if not frame:
            return
        if len(frame) != KIND_BYTES + frame_bytes:
            raise NotPlain(OTHER_SIZE)
        values = array("H", frame[KIND_BYTES:])
        values.reverse()  # all rows in turn, from the last to the first one
        backwards = values.tobytes()
        starts = range(frame_bytes - row_bytes, -1, -row_bytes)
        yield frame[:KIND_BYTES] + b"".join(backwards[start : start + row_bytes] for start in starts)
    if tree.read(1):
        raise NotPlain(OTHER_SIZE)


if __name__ == "__main__":
    turn(Path(sys.argv[1]), width=int(sys.argv[2]), height=int(sys.argv[3]), frames=1 << 30)
