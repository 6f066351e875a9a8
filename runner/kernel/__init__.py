"""The program that draws effects in one pass, if it was built (`build.py`)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

_PROGRAM = Path(__file__).with_name("effects")


@dataclass(frozen=True)
class Kernel:
    """The program and its digest: the same source and compiler always give the same bytes."""

    path: Path
    version: str


def find_kernel() -> Kernel | None:
    """Return the program, or None if it was not built: then FFmpeg's filters draw."""
    if not _PROGRAM.exists():
        return None
    return Kernel(_PROGRAM, hashlib.sha256(_PROGRAM.read_bytes()).hexdigest()[:12])
