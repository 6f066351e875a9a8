"""What the kernel says of recipes on raw frames (runner/kernel/effects.c)."""

from __future__ import annotations

import subprocess
from pathlib import Path

from runner.kernel.build import PROGRAM


def distances(
    frames: bytes, width: int, height: int, *words: str, path: str = "", program: Path = PROGRAM
) -> dict[str, int]:
    """Return the numbers of each recipe before `compared`, in millionths; the drawn frames are dropped."""
    command = [str(program), *([path] if path else []), str(width), str(height), *words]
    moves = " ".join(f"{4 + n}>/dev/null" for n in range(words.index("compared")))
    script = ["bash", "-c", f'exec "$0" "$@" 3<&0 {moves}', *command]
    said = subprocess.run(script, input=frames, capture_output=True, check=True, timeout=60).stdout.decode()
    return {name: int(value) for name, value in (line.split("=") for line in said.splitlines())}
