"""Files that FFmpeg generates out of nothing, kept in the clone: the same arguments give the same file.

Each is generated once for all tests, worker processes and later runs.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

KEPT = Path(__file__).parents[2] / ".pytest_cache/generated"


def generated(ffmpeg: str, arguments: Sequence[str], name: str) -> bytes:
    """Return the bytes of the file of this name that FFmpeg writes with these arguments.

    What is made of a file, and not by generators alone, is made anew each time.
    """
    key = hashlib.sha256(json.dumps([Path(ffmpeg).name, *arguments, name]).encode()).hexdigest()
    kept = KEPT / key
    if kept.exists():
        return kept.read_bytes()
    KEPT.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=KEPT) as folder:
        path = Path(folder) / name
        command = [ffmpeg, "-v", "error", "-nostdin", "-y", *arguments, str(path)]
        subprocess.run(command, check=True, timeout=120)
        content = path.read_bytes()
        if not any("/" in argument and Path(argument).exists() for argument in arguments):
            path.replace(kept)  # at once: another worker may have made the same
    return content
