"""The quality of a picture: VMAF of a file against the same effects without encoding."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

EVERY = 3  # frames: VMAF takes longer than rendering
# Raw frames have no tags. FFmpeg would convert the colours of inputs whose tags differ: VMAF lost up to 5.
TAGS = "setparams=range=tv:colorspace=bt709:color_primaries=bt709:color_trc=bt709"
ALIKE = f"setpts=PTS-STARTPTS,{TAGS}"


@dataclass(frozen=True)
class Picture:
    """VMAF over a clip, 0..100."""

    mean: float
    fifth_percentile: float


def picture(program: str, output: Path, *, drawn: Sequence[str], chain: str) -> Picture:
    """Return the VMAF of `output` against the input of the arguments `drawn`, through `chain`."""
    log = output.with_suffix(".json")
    measured = f"libvmaf=log_fmt=json:log_path={log}:n_threads=2:n_subsample={EVERY}"
    compared = f"[0:v]{ALIKE}[d];[1:v]{chain},{ALIKE}[r];[d][r]{measured}"
    command = [program, "-nostdin", "-v", "error", "-i", str(output), *drawn]
    subprocess.run([*command, "-filter_complex", compared, "-f", "null", "-"], check=True)
    frames = sorted(frame["metrics"]["vmaf"] for frame in json.loads(log.read_text())["frames"])
    return Picture(mean=statistics.fmean(frames), fifth_percentile=frames[len(frames) // 20])
