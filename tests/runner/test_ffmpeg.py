"""Running a process: floods, deadlines, kills. A shell plays FFmpeg, so that it misbehaves on demand.

Without a jail, in which a shell cannot start a process; `test_jail` looks at how one ends.
"""

from __future__ import annotations

import os
import resource
import selectors
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from runner import ffmpeg as runner_ffmpeg
from runner import ffmpeg_program, jail, pulse
from runner.ffmpeg import FfmpegFailed, FfmpegHung, FfmpegTimedOut, OutOfMemory, run
from runner.stop import Stop, Stopped

pytestmark = pytest.mark.peer


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
    assert ffmpeg_program.find_ffmpeg() == ffmpeg


def test_a_flood_on_both_pipes_neither_blocks_nor_fills_the_memory() -> None:
    said = shell("head -c 1000000000 /dev/zero >&2; head -c 50000000 /dev/zero; echo the end >&2")
    assert len(said) <= 2 * runner_ffmpeg.STDERR_BYTES_MAX + len(runner_ffmpeg.CUT)
    assert said.endswith("the end\n")


def test_progress_is_reported_in_seconds_and_frames() -> None:
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


def test_a_kill_for_lack_of_memory_is_distinguished_by_the_kernels_own_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert runner_ffmpeg._kills_for_memory() >= 0
    counts = iter((4, 5))
    monkeypatch.setattr(runner_ffmpeg, "_kills_for_memory", lambda: next(counts))
    with pytest.raises(OutOfMemory):
        shell("kill -KILL $$")


def test_an_error_says_what_ffmpeg_printed_without_private_paths() -> None:
    with pytest.raises(FfmpegFailed) as caught:
        shell("echo '[in#0 @ 0x5f] Error opening file:/tmp/runner-x/y/source.mp4: no' >&2; exit 3")
    assert str(caught.value) == "FFmpeg ended with code 3: [in#0] Error opening source.mp4: no"


def test_the_process_gets_neither_our_environment_nor_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTEMPT_TOKEN", "canary")
    said = shell("/usr/bin/env >&2; cat; echo done >&2")
    assert "canary" not in said
    assert said.endswith("done\n")


def test_a_flood_of_progress_takes_no_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    most = [0.0]

    def keep(seconds: float) -> None:
        most[0] = max(most[0], seconds)

    shell("head -c 300000000 /dev/zero; echo; echo out_time_us=7000000", on_progress=keep)
    assert most == [7.0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB


@pytest.mark.parametrize("value", ["nan", "-1", "inf", "1e3", "", "9" * 5000, "0x1", "N/A", "\\0377"])
def test_a_progress_that_is_no_number_is_passed_over(value: str) -> None:
    times_s: list[float] = []
    frames: list[int] = []
    script = f"printf 'out_time_us={value}\nframe={value}\nout_time_us=2000000\nframe=5\n'"
    shell(script, on_progress=times_s.append, on_frames=frames.append)
    assert (times_s, frames) == ([2.0], [5])


def test_what_it_says_holds_nothing_that_steers_a_terminal() -> None:
    with pytest.raises(FfmpegFailed) as caught:
        shell(r"printf '\033]0;title\007\033[2Jbad \342\200\256gpj.exe\n' >&2; exit 1")
    assert str(caught.value) == "FFmpeg ended with code 1: ]0;title  [2Jbad  gpj.exe"


def test_who_leaves_the_group_and_holds_the_pipes_delays_nothing(tmp_path: Path) -> None:
    if not shutil.which("setsid"):
        pytest.skip("needs setsid")
    pid = tmp_path / "pid"
    shell(f"setsid sleep 60 & echo $! >{pid}; sleep 0.5")
    try:
        assert is_alive(int(pid.read_text())), "neither killed, as no member of the group, nor waited for"
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


def test_what_is_left_in_the_pipes_is_read_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []

    def more(*_: object) -> int:
        heard.append(runner_ffmpeg.CHUNK_BYTES)
        assert sum(heard) <= runner_ffmpeg.PIPE_BYTES_MAX
        return heard[-1]

    monkeypatch.setattr(runner_ffmpeg, "_read_pipes", more)
    with selectors.DefaultSelector() as pipes:
        runner_ffmpeg._drain(pipes)


def test_a_file_that_was_requested_must_be_there_and_be_a_file(tmp_path: Path) -> None:
    path = tmp_path / "out" / "file"
    path.parent.mkdir()
    with pytest.raises(FfmpegFailed, match="did not write all files"):
        shell("true", makes=[path])
    with pytest.raises(FfmpegFailed, match="something else than a file"):
        shell(f"mkfifo {path}", makes=[path])
    path.unlink()
    shell(f"echo content >{path}", makes=[path])
    assert path.read_text() == "content\n"


def test_a_full_folder_is_lack_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out" / "file"
    path.parent.mkdir()
    monkeypatch.setattr(runner_ffmpeg.plain_files, "is_full", lambda folder: folder == path.parent)
    with pytest.raises(OutOfMemory):
        shell("exit 1", makes=[path])
    shell(f"echo content >{path}", makes=[path])  # what ends well did find room


@pytest.fixture
def hangs_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "HANG_S", 2.4)


@pytest.mark.usefixtures("hangs_soon")
@pytest.mark.parametrize("script", ["kill -STOP $$", "echo frame=5; sleep 60", "exec sleep 60"])
def test_a_process_that_hangs_is_ended_long_before_its_limit(script: str) -> None:
    with pytest.raises(FfmpegHung, match="made no progress"):
        shell(script, timeout_s=60)


@pytest.mark.usefixtures("hangs_soon")
@pytest.mark.parametrize(
    "script",
    [
        "for n in 1 2 3 4 5; do echo frame=$n; sleep 0.8; done",
        "for n in 1 2 3 4 5; do echo out_time_us=${n}000000; sleep 0.8; done",
        "for n in 1 2 3 4 5; do echo total_size=$n; sleep 0.8; done",
        "end=$(($(date +%s) + 4)); while test $(date +%s) -lt $end; do :; done",
    ],
)
def test_a_process_that_reports_progress_or_works_is_waited_for(script: str) -> None:
    shell(script, timeout_s=60)
