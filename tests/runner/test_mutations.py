"""Damaged videos by the hundred, through one whole runner: each ends as an output or as a reason.

Half of them are footage in H.264, the others go through the files of all other decoders.

One run of a runner; ten in `make soak` (HOSTILE_FULL).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.contract import Exit, OutputFault
from tests.support.clips import PLAIN
from tests.support.codec_files import ONE_FOR_EACH_DECODER, PICTURES, SOUNDS, made
from tests.support.damaged_videos import footage, mutated
from tests.support.fake_control import fake_control

RUNS = 10 if os.environ.get("HOSTILE_FULL") else 1
DAMAGED = 199 if RUNS > 1 else 90  # one of each kind; a job has 200 outputs at most
SECONDS_MAX = 3600
EFFECTS = PLAIN.model_copy(update={"rotation_rad": 0.01, "zoom": 1.05})


def test_the_same_seed_does_the_same_damage() -> None:
    sound = bytes(range(256)) * 20
    assert mutated(sound, 1) == mutated(sound, 1) != mutated(sound, 2)


@pytest.mark.parametrize("run", range(RUNS))
def test_no_damaged_video_hangs_or_kills_the_runner(ffmpeg: str, tmp_path: Path, run: int) -> None:
    sound = footage(ffmpeg, tmp_path / "sound.mp4")
    work = tmp_path / "work"
    work.mkdir()

    def damaged(seed: int) -> bytes:
        name = ONE_FOR_EACH_DECODER[seed // 2 % len(ONE_FOR_EACH_DECODER)]
        whole = made(ffmpeg, name, {**PICTURES, **SOUNDS}[name]) if seed % 2 else sound
        return mutated(whole, seed)

    with fake_control() as control:
        control.run_timeout_s = SECONDS_MAX
        seeds = range(run * DAMAGED, (run + 1) * DAMAGED)
        control.sources = {f"s{seed}": damaged(seed) for seed in seeds} | {"sound": sound}
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
    assert ends["of-sound"] == "ready"
    assert {"ready", "source_unplayable"} < set(ends.values())  # the damage is neither nothing nor everything
    assert control.violations == []
    assert list(work.iterdir()) == []
