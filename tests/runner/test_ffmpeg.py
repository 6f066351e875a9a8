"""Running a process: floods, deadlines, kills. A shell plays FFmpeg, so that it misbehaves on demand.

Without a jail, in which a shell cannot start a process; `test_jail` looks at how one ends.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from runner import ffmpeg as runner_ffmpeg
from runner import jail
from runner.ffmpeg import FfmpegFailed, FfmpegTimedOut, OutOfMemory, run
from runner.stop import Stop, Stopped


@pytest.fixture(autouse=True)
def _without_a_jail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jail, "is_off", lambda: True)


def ignore(_: float) -> None:
    pass


def shell(
    script: str,
    *,
    makes: Sequence[Path] = (),
    timeout_s: float = 20,
    stop: threading.Event | None = None,
    on_progress: Callable[[float], None] = ignore,
    on_frames: Callable[[int], None] = ignore,
) -> str:
    return run(
        ["/bin/sh", "-c", script],
        reads=[],
        makes=makes,
        timeout_s=timeout_s,
        stop=stop or Stop(),
        on_progress=on_progress,
        on_frames=on_frames,
    )


def is_alive(pid: int) -> bool:
    """Return whether the process runs; a zombie that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_the_end_of(*pids: str) -> None:
    """Return when none lives; what was killed takes a moment to die."""
    deadline = time.monotonic() + 20
    while any(is_alive(int(pid)) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_pinned_ffmpeg_is_found_without_importing_its_package(ffmpeg: str) -> None:
    assert runner_ffmpeg.find_ffmpeg() == ffmpeg


def test_a_flood_on_both_pipes_neither_blocks_nor_fills_the_memory() -> None:
    said = shell("head -c 1000000000 /dev/zero >&2; head -c 50000000 /dev/zero; echo the end >&2")
    assert len(said) <= runner_ffmpeg.STDERR_BYTES_MAX
    assert said.endswith("the end\n")


def test_progress_is_told_in_seconds_and_frames() -> None:
    times_s: list[float] = []
    frames: list[int] = []
    script = "echo frame=45; echo out_time_us=1500000; echo out_time_us=N/A; echo progress=end"
    shell(script, on_progress=times_s.append, on_frames=frames.append)
    assert (times_s, frames) == ([1.5], [45])


def test_the_deadline_kills_the_whole_group(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with pytest.raises(FfmpegTimedOut, match="within 0 s"):
        shell(f"(sleep 60 & echo $! >>{pids}; sleep 60) & echo $! >>{pids}; sleep 60", timeout_s=0.4)
    assert len(pids.read_text().split()) == 2
    wait_for_the_end_of(*pids.read_text().split())


def test_what_a_finished_process_left_behind_dies_too(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    shell(f"sleep 60 & echo $! >{pids}")
    wait_for_the_end_of(pids.read_text())


def test_a_stop_ends_it_at_once() -> None:
    stop = Stop()
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(Stopped):
        shell("sleep 60", stop=stop)


def test_nothing_is_started_after_a_stop(tmp_path: Path) -> None:
    stop = Stop()
    stop.set()
    with pytest.raises(Stopped):
        shell(f"touch {tmp_path}/started", stop=stop)
    assert not (tmp_path / "started").exists()


def test_a_kill_from_outside_is_named() -> None:
    with pytest.raises(FfmpegFailed, match=signal.SIGKILL.name):
        shell("kill -KILL $$")


def test_a_kill_for_want_of_memory_is_told_apart_by_the_kernels_own_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert runner_ffmpeg._kills_for_memory() >= 0
    counts = iter((4, 5))
    monkeypatch.setattr(runner_ffmpeg, "_kills_for_memory", lambda: next(counts))
    with pytest.raises(OutOfMemory):
        shell("kill -KILL $$")


def test_an_error_says_what_ffmpeg_said_without_private_paths() -> None:
    with pytest.raises(FfmpegFailed) as caught:
        shell("echo '[in#0 @ 0x5f] Error opening file:/tmp/runner-x/y/source.mp4: no' >&2; exit 3")
    assert str(caught.value) == "FFmpeg ended with code 3: [in#0] Error opening source.mp4: no"


def test_the_process_gets_neither_our_environment_nor_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTEMPT_TOKEN", "canary")
    said = shell("/usr/bin/env >&2; cat; echo done >&2")
    assert "canary" not in said
    assert said.endswith("done\n")
