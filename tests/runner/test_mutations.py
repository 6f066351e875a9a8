"""Damaged videos by the hundred, through one whole runner: each ends as an output or as a reason.

200 in a short run; `make soak` takes 2,000 (HOSTILE_FULL).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from runner.contract import Exit, OutputFault
from tests.runner.test_codecs import PICTURES, SOUNDS, written
from tests.support.clips import PLAIN
from tests.support.damaged_videos import footage, mutated
from tests.support.fake_control import fake_control

COUNT = 2000 if os.environ.get("HOSTILE_FULL") else 200
SEEDS = 20 if os.environ.get("HOSTILE_FULL") else 2  # of a file for each codec
SECONDS_MAX = 3600
EFFECTS = PLAIN.model_copy(update={"rotation_rad": 0.01, "zoom": 1.05})


def test_the_same_seed_does_the_same_damage() -> None:
    sound = bytes(range(256)) * 20
    assert mutated(sound, 1) == mutated(sound, 1) != mutated(sound, 2)


def made_of(sources: dict[str, bytes], work: Path) -> dict[str, str]:
    """Let one runner make an output of each source, and return how each one ended."""
    work.mkdir()
    with fake_control() as control:
        control.run_timeout_s = SECONDS_MAX
        control.sources = sources
        control.outputs = [(f"of-{source}", source, EFFECTS) for source in control.sources]
        env = {**control.env(), "TMPDIR": str(work), "RUN_TIMEOUT_S": str(SECONDS_MAX)}
        runner = subprocess.run(
            [sys.executable, "-m", "runner"],
            env=env,
            cwd=Path(__file__).parents[2],
            stderr=subprocess.PIPE,
            timeout=SECONDS_MAX,
            check=False,
        )
    assert runner.returncode == Exit.OK, runner.stderr[-2000:]
    assert control.finish
    assert (control.finish.outcome, control.finish.reason) == ("ok", None)
    ends = control.statuses()
    assert ends.keys() == {output_id for output_id, _, _ in control.outputs}
    assert set(ends.values()) <= {"ready", *(fault.value for fault in OutputFault)}
    assert OutputFault.RENDER_TIMEOUT not in ends.values()
    assert {f"output/{key}" for key, end in ends.items() if end == "ready"} == control.objects.keys()
    assert control.violations == []
    assert list(work.iterdir()) == []
    return ends


def test_no_damaged_video_hangs_or_kills_the_runner(ffmpeg: str, tmp_path: Path) -> None:
    sound = footage(ffmpeg, tmp_path / "sound.mp4")
    sources = {f"s{seed}": mutated(sound, seed) for seed in range(COUNT)} | {"sound": sound}
    ends = made_of(sources, tmp_path / "work")
    assert ends["of-sound"] == "ready"
    assert {"ready", "source_unplayable"} < set(ends.values())  # the damage is neither nothing nor everything


def test_no_damaged_file_of_any_decoder_hangs_or_kills_the_runner(ffmpeg: str, tmp_path: Path) -> None:
    files = [written(ffmpeg, kind, tmp_path / str(n)) for n, kind in enumerate([*PICTURES, *SOUNDS])]
    sources = {
        f"s{n}-{seed}": mutated(path.read_bytes(), seed)
        for n, path in enumerate(files)
        for seed in range(SEEDS)
    }
    ends = made_of(sources, tmp_path / "work")
    assert "ready" in ends.values()
