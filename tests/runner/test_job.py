"""The whole runner as a child process, against a control that enforces the protocol."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import signal
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.__main__ import Settings
from runner.contract import Exit, Reason
from tests.support.clips import PLAIN, describe, make_clip
from tests.support.fake_control import SIGNATURE, TOKEN, FakeControl, fake_control
from tests.support.jails import without_namespaces
from tests.support.runner_process import ended, ffmpegs_of, run, running, until

TWO = [
    PLAIN.model_copy(update={"rotation_rad": 0.01, "zoom": 1.05, "speed": 1.03, "noise": 4, "mirror": True}),
    PLAIN.model_copy(update={"rotation_rad": -0.004, "brightness": 0.05, "speed": 0.97}),
]


@pytest.fixture(scope="module")
def clip(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_clip(ffmpeg, tmp_path_factory.mktemp("clips") / "clip.mp4").read_bytes()


@pytest.fixture(scope="module")
def silent_clip(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clips") / "silent.mp4"
    return make_clip(ffmpeg, path, size="160x90", rate=25, sound=False).read_bytes()


@pytest.fixture(scope="module")
def long_clip(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Renders for some seconds, so that there is time to interfere."""
    path = tmp_path_factory.mktemp("clips") / "long.mp4"
    return make_clip(ffmpeg, path, size="640x360", seconds=12).read_bytes()


@pytest.fixture
def control(clip: bytes) -> Iterator[FakeControl]:
    with fake_control() as control:
        control.sources = {"s1": clip}
        control.outputs = [("o1", "s1", TWO[0]), ("o2", "s1", TWO[1])]
        yield control
        assert control.violations == []


def lives(pid: int) -> bool:
    """Return whether a process still runs: one that has ended may wait for a while to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_two_sources_become_two_different_variations_each(
    control: FakeControl, silent_clip: bytes, ffmpeg: str, tmp_path: Path
) -> None:
    control.sources["s2"] = silent_clip
    control.outputs += [("o3", "s2", TWO[0]), ("o4", "s2", TWO[1])]
    code, _ = run(control, tmp_path)
    assert code == Exit.OK
    assert control.statuses() == dict.fromkeys(["o1", "o2", "o3", "o4"], "ready")
    assert control.finish
    assert (control.finish.outcome, control.finish.reason) == ("ok", None)
    assert control.finish.usage.cpu_s > 0.1
    assert control.finish.usage.timings.render_s > 0.05
    assert len(set(control.objects.values())) == 4
    for report in control.finish.outputs:
        stored, file = control.objects[f"output/{report.output_id}"], report.file
        assert file
        assert file.size_bytes == len(stored)
        assert file.sha256 == hashlib.sha256(stored).hexdigest()
        assert file.md5 == hashlib.md5(stored).hexdigest()
        assert file.crc32 == zlib.crc32(stored)
        assert "file:SOURCE" in file.ffmpeg_args
        assert re.search(r"\bfile:OUTPUT\b", " ".join(file.ffmpeg_args))
        with tempfile.NamedTemporaryFile(suffix=".mp4") as copy:
            copy.write(stored)
            copy.flush()
            said = describe(ffmpeg, Path(copy.name))
        assert "Video: h264 (High)" in said
        assert "yuv420p(" in said
        assert "29.97 fps" in said
        assert ("Audio: aac" in said) == (report.output_id in ("o1", "o2"))
        assert ("160x120" if report.output_id in ("o1", "o2") else "160x90") in said
    speeds = {report.output_id: report.file.duration_s for report in control.finish.outputs if report.file}
    assert speeds["o1"] == pytest.approx(1 / 1.03, abs=0.1)
    assert speeds["o2"] == pytest.approx(1 / 0.97, abs=0.1)


def test_a_bad_source_costs_only_its_own_outputs(control: FakeControl, tmp_path: Path) -> None:
    control.sources = {"bad": b"not a video" * 50, **control.sources}
    control.outputs += [("bad1", "bad", TWO[0]), ("bad2", "bad", TWO[1])]
    code, log = run(control, tmp_path)
    assert code == Exit.OK
    faults = dict.fromkeys(["bad1", "bad2"], "source_unplayable")
    assert control.statuses() == {"o1": "ready", "o2": "ready"} | faults
    assert control.finish
    assert control.finish.outcome == "ok"
    assert str(tmp_path) not in control.finish.model_dump_json() + log


def test_a_source_that_is_gone_is_said_to_be_gone(control: FakeControl, tmp_path: Path) -> None:
    control.failing["GET"] = [410]
    assert run(control, tmp_path)[0] == Exit.OK
    assert control.statuses() == dict.fromkeys(["o1", "o2"], "source_gone")


def test_a_killed_ffmpeg_is_run_again(control: FakeControl, ffmpeg: str, tmp_path: Path) -> None:
    clip = make_clip(ffmpeg, tmp_path / "clip.mp4", size="640x360", seconds=3)
    control.sources = {"s1": clip.read_bytes()}
    clip.unlink()
    with running(control, tmp_path) as process:
        until(lambda: ffmpegs_of(process.pid, "libx264"))
        os.kill(ffmpegs_of(process.pid, "libx264")[0], signal.SIGKILL)
        code, _ = ended(process, tmp_path)
    assert code == Exit.OK
    assert control.statuses() == {"o1": "ready", "o2": "ready"}


def test_the_work_continues_while_control_is_away(control: FakeControl, tmp_path: Path) -> None:
    with running(control, tmp_path) as process:
        until(lambda: control.owner is not None)
        control.away_until = math.inf
        until(lambda: len(control.objects) == 2)
        control.away_until = 0
        code, _ = ended(process, tmp_path)
    assert code == Exit.OK
    assert control.statuses() == {"o1": "ready", "o2": "ready"}


def test_control_says_to_stop(control: FakeControl, long_clip: bytes, tmp_path: Path) -> None:
    control.sources, control.proceed = {"s1": long_clip}, False
    assert run(control, tmp_path)[0] == Exit.OK
    assert control.finish
    assert (control.finish.outcome, control.finish.reason) == ("cancelled", Reason.CANCELLED)
    assert control.finish.outputs == []
    assert control.objects == {}


def test_sigterm_is_reported_and_ffmpeg_dies_with_it(
    control: FakeControl, long_clip: bytes, tmp_path: Path
) -> None:
    control.sources = {"s1": long_clip}
    with running(control, tmp_path) as process:
        until(lambda: len(ffmpegs_of(process.pid)) > 0 and len(control.beats) > 1)
        children = ffmpegs_of(process.pid)
        process.terminate()
        assert ended(process, tmp_path)[0] == Exit.OK
    assert control.finish
    assert control.finish.outcome == "cancelled"
    until(lambda: not any(lives(child) for child in children))


def test_the_wall_deadline_is_reported_in_time(
    control: FakeControl, long_clip: bytes, tmp_path: Path
) -> None:
    control.sources, control.run_timeout_s = {"s1": long_clip}, 1.0
    assert run(control, tmp_path)[0] == Exit.OK
    assert control.finish
    assert (control.finish.outcome, control.finish.reason) == ("error", Reason.RUN_DEADLINE)


def test_the_hard_limit_ends_a_runner_whose_control_never_returns(
    control: FakeControl, tmp_path: Path
) -> None:
    control.away_until = math.inf
    with running(control, tmp_path, RUN_TIMEOUT_S="1") as process:
        process.communicate(timeout=10)
    assert process.returncode == Exit.UNREPORTED


def test_a_second_machine_goes_quietly(control: FakeControl, tmp_path: Path) -> None:
    control.owner = "another machine"
    assert run(control, tmp_path)[0] == Exit.OK
    assert control.finish is None
    assert control.calls == ["claim"]


def test_a_token_that_control_refuses_fails(control: FakeControl, tmp_path: Path) -> None:
    assert run(control, tmp_path, ATTEMPT_TOKEN="wrong")[0] == Exit.NO_CLAIM


def test_an_upload_whose_answer_was_lost_is_not_sent_over_the_first(
    control: FakeControl, tmp_path: Path
) -> None:
    control.lost_answers = 1
    assert run(control, tmp_path)[0] == Exit.OK
    assert control.statuses() == {"o1": "ready", "o2": "ready"}
    assert control.calls.count("PUT") == 3


def test_passing_troubles_are_ridden_out(control: FakeControl, tmp_path: Path) -> None:
    control.cut_gets = 2
    control.failing = {"claim": [503, 429], "GET": [500], "PUT": [503, 429], "finish": [500, 408]}
    assert run(control, tmp_path)[0] == Exit.OK
    assert control.statuses() == {"o1": "ready", "o2": "ready"}


def test_a_bucket_that_refuses_ends_the_attempt_and_calls_no_output_failed(
    control: FakeControl, tmp_path: Path
) -> None:
    control.failing = {"PUT": [403, 403]}
    assert run(control, tmp_path)[0] == Exit.OK
    assert control.finish
    assert (control.finish.outcome, control.finish.reason) == ("error", Reason.STORAGE_UNAVAILABLE)
    assert control.finish.outputs == []


def test_an_unexpected_error_is_reported_with_a_trace(control: FakeControl, tmp_path: Path) -> None:
    control.outputs[0] = ("o1", "s1", PLAIN.model_copy(update={"speed": 0}))
    assert run(control, tmp_path)[0] == Exit.OK
    assert control.finish
    assert (control.finish.outcome, control.finish.reason) == ("error", Reason.RUNNER_CRASHED)
    assert "ZeroDivisionError" in control.finish.detail
    assert [json.loads(line)["event"] for line in control.finish.log_tail.splitlines()][-1] == "crashed"
    for secret in (SIGNATURE, TOKEN, "http"):
        assert secret not in control.finish.detail + control.finish.log_tail


def test_a_machine_that_cannot_make_a_jail_opens_no_video(control: FakeControl, tmp_path: Path) -> None:
    assert run(control, tmp_path, *without_namespaces())[0] == Exit.OK
    assert control.finish
    assert (control.finish.outcome, control.finish.reason) == ("error", Reason.JAIL_UNAVAILABLE)
    assert "unshare: Operation not permitted" in control.finish.detail
    assert control.calls.count("GET") == 0
    assert control.objects == {}


@pytest.mark.parametrize(("word", "reason"), [("off", None), ("", Reason.JAIL_UNAVAILABLE)])
def test_only_the_word_off_lets_a_machine_go_without_a_jail(
    control: FakeControl, tmp_path: Path, word: str, reason: Reason | None
) -> None:
    code, log = run(control, tmp_path, *without_namespaces(), RUNNER_JAIL=word)
    assert code == Exit.OK
    assert control.finish
    assert control.finish.reason == reason
    assert ("jail_off" in log) == (reason is None)


def test_a_superseded_runner_stops_working(control: FakeControl, long_clip: bytes, tmp_path: Path) -> None:
    control.sources = {"s1": long_clip}
    control.failing = {"heartbeat": [409], "finish": [409]}
    assert run(control, tmp_path)[0] == Exit.OK
    assert control.objects == {}


@pytest.mark.parametrize("time", [None, ""])
def test_a_runner_without_a_time_limit_in_its_environment_has_an_hour(
    control: FakeControl, time: str | None
) -> None:
    env = {name: value for name, value in control.env().items() if name != "RUN_TIMEOUT_S"}
    assert Settings.read(env if time is None else {**env, "RUN_TIMEOUT_S": time}).run_timeout_s == 3600


@pytest.mark.parametrize("name", ["CONTROL_URL", "ATTEMPT_ID", "ATTEMPT_TOKEN", "FLY_MACHINE_ID"])
def test_a_missing_variable_is_named(control: FakeControl, tmp_path: Path, name: str) -> None:
    code, log = run(control, tmp_path, **{name: None})
    assert code == Exit.MISCONFIGURED
    assert name in log
    assert control.calls == []


# --- what may be sent ---------------------------------------------------------------------------------


def test_the_finish_reports_every_byte_that_was_sent_tries_included(control: FakeControl, tmp_path: Path):
    control.with_posters = True
    control.failing["PUT"] = [503]
    passed: list[int] = []
    control.passing = passed.append
    assert run(control, tmp_path)[0] == Exit.OK
    fetched = len(control.sources["s1"])
    assert control.finish.usage.sent_bytes == sum(passed) - fetched
    assert control.finish.usage.sent_bytes > sum(map(len, control.objects.values()))


def test_an_output_that_does_not_fit_into_what_may_be_sent_costs_no_other(
    control: FakeControl, silent_clip: bytes, tmp_path: Path
):
    control.sources["s2"] = silent_clip
    control.outputs.append(("o3", "s2", TWO[0]))
    assert run(control, tmp_path)[0] == Exit.OK
    small = len(control.objects["output/o3"])
    assert small < min(len(control.objects[key]) for key in ("output/o1", "output/o2"))
    control.objects.clear()
    control.beats.clear()
    control.finish, control.send_bytes_max = None, small
    assert run(control, tmp_path)[0] == Exit.OK
    assert (control.finish.outcome, control.finish.reason) == ("error", Reason.SEND_LIMIT)
    assert "more may be" in control.finish.detail
    assert control.statuses() == {"o3": "ready"}
    assert (set(control.objects), control.finish.usage.sent_bytes) == ({"output/o3"}, small)
