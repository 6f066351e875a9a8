"""Finds the pinned FFmpeg without importing its package."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

VERSION_MIN = (8, 1, 2)  # CVE-2026-8461: earlier, a MagicYUV file of 50 kB writes beyond its memory


def find_ffmpeg() -> str:
    """Return the path of the pinned FFmpeg. Raises RuntimeError when there is none, or an unsafe one.

    To import the package would take longer than to import this whole program.
    """
    spec = find_spec("imageio_ffmpeg")
    folders = (spec and spec.submodule_search_locations) or []
    for folder in folders:
        for program in sorted(Path(folder, "binaries").glob("ffmpeg-*")):
            if _version(program.name) < VERSION_MIN:
                raise RuntimeError(f"{program.name} is too old to read files of unknown people")
            return str(program)
    raise RuntimeError("the imageio-ffmpeg package holds no FFmpeg for this platform")


def _version(name: str) -> tuple[int, ...]:
    """Return the version in the name of the package's binary: `ffmpeg-linux-x86_64-v9.0.2`."""
    return tuple(int(number) for number in re.findall(r"\d+", name.rpartition("-v")[2]))
