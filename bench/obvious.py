"""The obvious way to render N variations: one FFmpeg after another, plain filters, preset medium."""

from __future__ import annotations

from pathlib import Path

from runner.contract import Effects
from runner.graph import Probe


def chain(effects: Effects, probe: Probe) -> str:
    """Return the plain chain of filters."""
    wide, high = (2 * round(length * effects.zoom / 2) for length in (probe.width, probe.height))
    colour = f"brightness={effects.brightness}:contrast={effects.contrast}:saturation={effects.saturation}"
    steps = [
        *[f"setpts=PTS/{effects.speed}", "fps=30000/1001", f"rotate={effects.rotation_rad}"],
        *[f"scale={wide}:{high}", f"crop={probe.width}:{probe.height}"],
        *(["hflip"] if effects.mirror else []),
        f"eq={colour}",
        *([f"noise=alls={effects.noise}:allf=t"] if effects.noise else []),
        "format=yuv420p",
    ]
    return ",".join(steps)


def args(effects: Effects, probe: Probe, *, source: Path, output: Path) -> list[str]:
    """Return the arguments of one output, with default threads."""
    return [
        *["-y", "-nostdin", "-v", "error", "-i", str(source), "-vf", chain(effects, probe)],
        *(["-af", f"atempo={effects.speed}", "-c:a", "aac", "-b:a", "128k"] if probe.has_audio else []),
        *["-c:v", "libx264", "-preset", "medium", "-crf", "23", "-maxrate", "2500k", "-bufsize", "4000k"],
        *["-movflags", "+faststart", str(output)],
    ]
