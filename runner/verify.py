"""Check that this installation can render: the version of FFmpeg and its encoder.

The build of the runner's image runs this, so a fault fails the build and no machine.
"""

from __future__ import annotations

import re
import subprocess
import sys

from runner.ffmpeg_program import VERSION_MIN, find_ffmpeg


def faults() -> list[str]:
    """Return a sentence for each fault; an empty list if there is none."""
    program = find_ffmpeg()
    wrong = []
    banner = _said(program, "-version")
    found = re.search(r"ffmpeg version n?(\d+)\.(\d+)(?:\.(\d+))?", banner)
    if not found or tuple(int(n or 0) for n in found.groups()) < VERSION_MIN:
        wrong.append(f"FFmpeg is too old: {banner.splitlines()[0] if banner else 'it does not run'}")
    if "libx264" not in _said(program, "-encoders"):
        wrong.append("FFmpeg has no libx264")
    return wrong


def _said(program: str, option: str) -> str:
    answer = subprocess.run([program, "-hide_banner", option], capture_output=True, text=True, check=False)
    return answer.stdout


if __name__ == "__main__":
    sys.exit("\n".join(faults()) or None)
