"""Long runs that go on where they were stopped: `kills --kills 2000 --ledger FILE --minutes 60`."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import imageio_ffmpeg

from tests.chaos.kills import killed
from tests.chaos.ledger import Ledger
from tests.support.clips import make_clip

PIECE = 40  # kills


def kills(ledger: Ledger, folder: Path, wanted: int, until: float) -> int:
    """Kill until so many kills are in the ledger or the time is over. Return how many pieces failed."""
    clip = make_clip(imageio_ffmpeg.get_ffmpeg_exe(), folder / "clip.mp4", size="64x64").read_bytes()
    while sum(line["kills"] for line in ledger.lines) < wanted and time.monotonic() < until:
        seed = ledger.next_seed
        here = folder / f"kills-{seed}"
        here.mkdir()
        piece = killed(here, clip, seed=seed, kills=PIECE)
        ledger.add(piece.line)
        if not (piece.lost or piece.faults):
            shutil.rmtree(here)
        print(f"seed {seed}: lost {piece.lost or 'nothing'}, {len(piece.faults)} faults", flush=True)
        print(_summary(ledger), flush=True)
    return sum(bool(line["lost"] or line["faults"]) for line in ledger.lines)


def _summary(ledger: Ledger) -> str:
    done, acknowledged = sum(line["kills"] for line in ledger.lines), Counter[str]()
    for line in ledger.lines:
        acknowledged.update(line["acknowledged"])
    lost = sum(len(line["lost"]) for line in ledger.lines)
    cpu_s, wall_s = (sum(line[name] for line in ledger.lines) / done for name in ("cpu_s", "wall_s"))
    return (
        f"{done} kills, {wall_s:.2f} s each ({cpu_s:.2f} s of control's CPU), "
        f"acknowledged {dict(acknowledged)}, lost {lost}"
    )


def main() -> int:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("what", choices=["kills"])
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--folder", type=Path, help="where failed pieces stay; default: a temporary one")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    return min(1, kills(Ledger(asked.ledger), folder, asked.kills, time.monotonic() + asked.minutes * 60))


if __name__ == "__main__":
    sys.exit(main())
