"""Long runs that go on where they were stopped.

`kills --times 2000 --ledger FILE --minutes 60` kills control; `restores --times 20 --ledger FILE` its host.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median

import imageio_ffmpeg

from tests.chaos.kills import killed
from tests.chaos.restores import restored
from tests.support.clips import make_clip
from tests.support.ledger import Ledger, code_of

PIECE = 40  # kills
JUDGED = ("control", "runner", "infra")


def kills(ledger: Ledger, folder: Path, wanted: int, until: float) -> int:
    """Kill until so many kills are in the ledger or the time is over. Return how many pieces failed."""
    clip = _clip(folder)
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


def restores(ledger: Ledger, folder: Path, wanted: int, until: float) -> int:
    """Do the drill until it is so often in the ledger or the time is over. Return how many drills failed."""
    clip = _clip(folder)
    while len(ledger.lines) < wanted and time.monotonic() < until:
        seed = ledger.next_seed
        here = folder / f"restore-{seed}"
        here.mkdir()
        drill = restored(here, clip, seed=seed)
        ledger.add(drill.line)
        if not drill.wrong:
            shutil.rmtree(here)
        print(drill, flush=True)
    for name, what in (("lost_s", "writes of the last"), ("back_s", "answers again after")):
        found = [line[name] for line in ledger.lines]
        print(f"{len(found)} drills: {what} {median(found):.2f} s in the median, {max(found):.2f} at most")
    return sum(bool(line["wrong"]) for line in ledger.lines)


def _clip(folder: Path) -> bytes:
    return make_clip(imageio_ffmpeg.get_ffmpeg_exe(), folder / "clip.mp4", size="64x64").read_bytes()


RUNS = {"kills": (kills, 2000), "restores": (restores, 20)}


def main() -> int:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("what", choices=RUNS)
    parser.add_argument("--times", type=int, help="kills, or drills, in all; default: 2000, or 20")
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--folder", type=Path, help="where failed ones stay; default: a temporary one")
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    run, times = RUNS[asked.what]
    failed = run(
        Ledger(asked.ledger, code_of(*JUDGED)),
        folder,
        asked.times or times,
        time.monotonic() + asked.minutes * 60,
    )
    return min(1, failed)


if __name__ == "__main__":
    sys.exit(main())
