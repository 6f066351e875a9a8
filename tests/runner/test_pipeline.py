"""Groups of outputs made by the whole runner: they share work, and a failure affects no other output."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from runner import jail
from runner.__main__ import ending
from runner.contract import Effects, Exit, JobSpec, OutputFile, OutputSpec, Reason, Variety
from runner.ffmpeg import FfmpegFailed, OutOfMemory
from runner.kernel import find_kernel
from runner.pipeline import failing, guarding
from runner.progress import Progress
from runner.stop import Stop
from tests.support.again import make_again
from tests.support.clips import PLAIN, make_clip
from tests.support.fake_control import FakeControl, fake_control
from tests.support.runner_process import ffmpegs_of, run, running, until

FOUR = [
    PLAIN.model_copy(update={"speed": 1.03, "noise": 2, **changes})
    for changes in (
        {"rotation_rad": 0.004, "brightness": 0.02},
        {"mirror": True, "zoom": 1.05},
        {"rotation_rad": -0.01, "saturation": 0.95},
        {"contrast": 1.05, "zoom": 1.02},
    )
]


@pytest.fixture(scope="module")
def clip(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_clip(ffmpeg, tmp_path_factory.mktemp("clips") / "clip.mp4", seconds=2).read_bytes()


@pytest.fixture(scope="module")
def long_clip(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clips") / "long.mp4"
    return make_clip(ffmpeg, path, size="640x360", seconds=3).read_bytes()


def asked_for(control: FakeControl, clip: bytes, recipes: list[Effects]) -> None:
    control.sources = {"s1": clip}
    control.outputs = [(f"o{n}", "s1", effects) for n, effects in enumerate(recipes)]


def files(control: FakeControl) -> dict[str, OutputFile]:
    assert control.finish
    return {report.output_id: report.file for report in control.finish.outputs if report.file}


@pytest.fixture(scope="module")
def made(clip: bytes, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeControl]:
    with fake_control() as control:
        asked_for(control, clip, FOUR)
        assert run(control, tmp_path_factory.mktemp("tmp"))[0] == Exit.OK
        assert control.violations == []
        yield control


def test_four_siblings_are_ready_and_all_differ(made: FakeControl) -> None:
    assert made.statuses() == dict.fromkeys(["o0", "o1", "o2", "o3"], "ready")
    assert len(set(made.objects.values())) == 4


def varieties(control: FakeControl) -> dict[str, Variety | None]:
    assert control.finish
    return {report.output_id: report.variety for report in control.finish.outputs}


def test_an_output_has_the_same_variety_whatever_is_made_beside_it(
    made: FakeControl, clip: bytes, tmp_path: Path
) -> None:
    if not find_kernel() or jail.is_off():
        pytest.skip("no kernel, or no jail for it")
    together = varieties(made)
    for variety in together.values():
        assert variety
        assert variety.sibling
        assert 0 < variety.source < 1
        assert 0 < variety.sibling < 1
    with fake_control() as again:
        asked_for(again, clip, FOUR[2:3])
        again.others = [*FOUR[:2], *FOUR[3:]]
        assert run(again, tmp_path)[0] == Exit.OK
    assert varieties(again) == {"o0": together["o2"]}
    assert files(again)["o0"].ffmpeg_args.count("compared") == 0


def test_what_was_really_run_is_reported(made: FakeControl) -> None:
    reported = files(made)
    first, other = reported["o0"].ffmpeg_args, reported["o2"].ffmpeg_args
    assert any(":pass=1:stats=STATS-o0" in arg for arg in first)
    assert sum(":pass=2:stats=STATS-o0" in arg for arg in other) == 3
    assert re.findall(r"file:([A-Z]+(?:-o[0-9])?)\b", " ".join(other)) == [
        *["SOURCE", "OUTPUT-o0", "OUTPUT-o1", "PACKETS-o1", "OUTPUT", "PACKETS", "OUTPUT-o3", "PACKETS-o3"]
    ]
    assert not any("/" in arg and "runner-" in arg for arg in first + other)


def test_what_was_reported_makes_the_same_files_again_where_the_source_is_called_so(
    made: FakeControl, clip: bytes, ffmpeg: str, tmp_path: Path
) -> None:
    reported = files(made)
    (tmp_path / "SOURCE").write_bytes(clip)
    for name in ("o0", "o2"):
        make_again(ffmpeg, reported[name].ffmpeg_args, tmp_path)
        (tmp_path / "OUTPUT").rename(tmp_path / f"OUTPUT-{name}")
    for name in reported:
        assert (tmp_path / f"OUTPUT-{name}").read_bytes() == made.objects[f"output/{name}"]


def test_the_sound_of_siblings_is_the_very_same_and_stays_with_the_picture(
    made: FakeControl, ffmpeg: str, tmp_path: Path
) -> None:
    sounds = set()
    for name in ("o0", "o1", "o3"):
        path = tmp_path / f"{name}.mp4"
        path.write_bytes(made.objects[f"output/{name}"])
        command = [ffmpeg, "-v", "error", "-i", str(path), "-map", "0:a", "-f", "framehash", "-"]
        sounds.add(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert len(sounds) == 1
    assert {round(file.duration_s, 2) for file in files(made).values()} == {round(2 / 1.03, 2)}


def test_the_same_work_gives_the_same_bytes_and_arguments(
    made: FakeControl, clip: bytes, tmp_path: Path
) -> None:
    with fake_control() as again:
        asked_for(again, clip, FOUR)
        assert run(again, tmp_path)[0] == Exit.OK
    assert again.objects == made.objects
    assert {k: v.ffmpeg_args for k, v in files(again).items()} == {
        k: v.ffmpeg_args for k, v in files(made).items()
    }


def killed_while(control: FakeControl, tmp_path: Path, wanted: str) -> None:
    """Run, and kill the first FFmpeg whose arguments hold the pattern."""
    with running(control, tmp_path) as process:
        victims: list[int] = []

        def seen() -> bool:
            victims[:] = ffmpegs_of(process.pid, wanted)
            return bool(victims)

        until(seen)
        os.kill(victims[0], signal.SIGKILL)
        process.communicate(timeout=120)
        assert process.returncode == Exit.OK


@pytest.mark.parametrize("part", ["pass=1", "pass=2"])
def test_a_group_that_is_killed_is_made_one_by_one(long_clip: bytes, tmp_path: Path, part: str) -> None:
    with fake_control() as control:
        asked_for(control, long_clip, FOUR[:3])
        killed_while(control, tmp_path, part)
        assert control.statuses() == dict.fromkeys(["o0", "o1", "o2"], "ready")
        alone = [file for file in files(control).values() if not any("pass=" in a for a in file.ffmpeg_args)]
        assert len(alone) == (3 if part == "pass=1" else 2)


def test_what_lacked_memory_is_left_to_a_larger_machine_and_its_siblings_are_not() -> None:
    outputs = [OutputSpec(output_id=f"o{n}", source_id="s1", put_url="", put_headers={}) for n in range(2)]
    workers = SimpleNamespace(stop=Stop(), progress=Progress())
    with failing(workers, outputs[:1]):
        raise OutOfMemory("FFmpeg was killed by SIGKILL")
    assert not workers.stop.is_set()
    with failing(workers, outputs[1:]):
        raise FfmpegFailed("FFmpeg ended with code 3")
    spec = JobSpec(attempt_id="a", sources=[], outputs=outputs, run_timeout_s=60, next_beat_s=15)
    finish = ending(spec, workers.progress, workers.stop, seq=1, sent_bytes=0)
    assert (finish.outcome, finish.reason) == ("error", Reason.OUT_OF_MEMORY)
    assert [(report.output_id, report.status) for report in finish.outputs] == [("o1", "failed")]


@pytest.mark.parametrize("trouble", [OSError(errno.ENOSPC, "No space left on device"), MemoryError()])
def test_no_room_for_the_runners_own_files_is_lack_of_memory_and_no_crash(trouble: Exception) -> None:
    workers = SimpleNamespace(stop=Stop(), progress=Progress())
    with guarding(workers):
        raise trouble
    assert workers.stop.reason is Reason.OUT_OF_MEMORY


def test_an_unexpected_error_is_still_a_crash() -> None:
    workers = SimpleNamespace(stop=Stop(), progress=Progress())
    with pytest.raises(OSError, match="denied"), guarding(workers):
        raise OSError(errno.EACCES, "denied")
    assert workers.stop.reason is Reason.RUNNER_CRASHED
