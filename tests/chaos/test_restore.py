"""The restore drill, once: `python -m tests.chaos restores` repeats it and measures."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.restores import restored

LOST_S_MAX = 2.0


def test_a_lost_volume_costs_two_seconds_of_writes_and_every_job_that_was_kept_ends(
    tmp_path: Path, tiny: Path
) -> None:
    drill = restored(tmp_path, tiny.read_bytes(), seed=1)
    assert drill.wrong == []
    assert drill.missing < drill.acknowledged
    assert drill.lost_s <= LOST_S_MAX
