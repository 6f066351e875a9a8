"""Tiny clips and effects for the runner's tests."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from runner.contract import Effects
from tests.support.generated import generated

PLAIN = Effects(
    rotation_rad=0, brightness=0, contrast=1, saturation=1, zoom=1, noise=0, speed=1, mirror=False
)


def make_clip(
    ffmpeg: str,
    path: Path,
    *extra: str,
    size: str = "160x120",
    rate: int = 30,
    seconds: float = 1,
    sound: bool = True,
    video: str = "testsrc2",
) -> Path:
    """Write a clip to `path`; `extra` are more output arguments."""
    picture = ["-f", "lavfi", "-i", f"{video}=s={size}:r={rate}:d={seconds}"]
    tone = ["-f", "lavfi", "-i", f"sine=d={seconds}", "-c:a", "aac"] if sound else []
    encoder = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
    path.write_bytes(generated(ffmpeg, [*picture, *tone, *encoder, *extra], path.name))
    return path


def describe(ffmpeg: str, path: Path) -> str:
    """Return what FFmpeg prints about a file."""
    command = [ffmpeg, "-hide_banner", "-i", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stderr


Clip = Callable[..., Path]
