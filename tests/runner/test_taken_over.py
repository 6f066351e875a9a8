"""The whole runner with an FFmpeg that a video has taken over: no leak, no hang, no harm to siblings.

Each harm is tried without a jail, and behind one whose filter of system calls lets files of every kind be
made: what the runner does with the files must hold by itself. Some are tried behind the whole jail too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner import ffmpeg as runner_ffmpeg
from runner import jail, pulse, seccomp
from runner.__main__ import attempt
from runner.contract import Exit, OutputFault, Preset, Reason
from runner.control_client import ControlClient
from runner.pipeline import UNMADE
from runner.stop import Stop
from tests.support.clips import PLAIN
from tests.support.fake_control import TOKEN, FakeControl, fake_control
from tests.support.jails import LIBRARY, PYTHON, needs_a_jail, with_library

pytestmark = pytest.mark.peer

STAND_IN = Path(__file__).parents[1].joinpath("support/stand_in.py")
CANARY = "canary of a file that FFmpeg must not get at"
WALLS = ["a jail that lets links be made", "no jail"]
OF_FILES = {"chmod", "fchmod", "fchmodat", "fchmodat2", "link", "linkat", "mkdir", "mkdirat"}
OF_FILES |= {"mknod", "mknodat", "symlink", "symlinkat"}
INVALID, FAILED = OutputFault.OUTPUT_INVALID, OutputFault.RENDER_FAILED
UNPLAYABLE = OutputFault.SOURCE_UNPLAYABLE

Attack = Callable[[str, str], FakeControl]


@pytest.fixture
def control() -> Iterator[FakeControl]:
    with fake_control() as control:
        control.sources = {"s1": b"a video that takes FFmpeg over"}
        control.outputs = [("o1", "s1", PLAIN)]
        control.with_posters = True
        yield control
        assert control.violations == []


@pytest.fixture(params=WALLS)
def walls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "no jail":
        monkeypatch.setattr(jail, "is_off", lambda: True)
    else:
        needs_a_jail()
    if request.param == "a jail that lets links be made":
        kept = {name: call for name, call in seccomp.DENIED.items() if name not in OF_FILES}
        monkeypatch.setattr(seccomp, "DENIED", kept)
    jail._seccomp.cache_clear()
    yield request.param
    jail._seccomp.cache_clear()


@pytest.fixture
def attack(
    walls: str, control: FakeControl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Attack]:
    """Return what runs one attempt whose FFmpeg does a harm in a part of the work; nothing may leak by it."""
    secret, work = tmp_path / "secret", tmp_path / "work"
    secret.write_text(CANARY)
    work.mkdir()
    monkeypatch.setenv("TMPDIR", str(work))
    monkeypatch.setattr(tempfile, "tempdir", str(work))
    confined = jail.confined

    def attacked(harm: str, where: str) -> FakeControl:
        def played(
            command: list[str] | jail.Line, *, reads: list[Path], writes: list[Path], limits: jail.Limits
        ) -> list[str]:
            words = command.commands[-1] if isinstance(command, jail.Line) else command  # the encoder
            stand_in = [PYTHON, "-I", "-S", str(STAND_IN), harm, where, str(secret), *words[1:]]
            if jail.is_off():
                return stand_in
            made = confined(stand_in, reads=[STAND_IN, *reads], writes=writes, limits=limits)
            return with_library(made, LIBRARY)

        monkeypatch.setattr(jail, "confined", played)
        client = ControlClient(
            base_url=control.url, attempt_id="attempt-1", token=TOKEN, machine_id="machine-1"
        )
        stop = Stop()
        assert attempt(client, client.claim(stop=stop), stop, left_s=60) == Exit.OK
        assert stop.reason is not Reason.RUN_DEADLINE, "the harm held up the run"
        return control

    yield attacked
    assert control.finish
    everything = b"".join(control.objects.values()) + control.finish.model_dump_json().encode()
    assert CANARY.encode() not in everything
    assert TOKEN.encode() not in everything
    assert secret.read_text() == CANARY
    assert list(work.iterdir()) == []


ANYTHING_BUT_A_FILE = ["a link", "a second name", "a pipe", "a folder", "nothing at all"]


@pytest.mark.parametrize("harm", [*ANYTHING_BUT_A_FILE, "a name of odd bytes", "many files"])
def test_anything_but_the_requested_files_ends_the_output(attack: Attack, harm: str) -> None:
    control = attack(harm, "render")
    assert control.statuses() == {"o1": FAILED}
    assert control.objects == {}


@pytest.mark.parametrize("harm", ["a link", "a pipe", "nothing at all"])
def test_a_poster_that_is_no_file_is_left_out(attack: Attack, harm: str) -> None:
    control = attack(harm, "poster")
    assert control.statuses() == {"o1": "ready"}
    assert set(control.objects) == {"output/o1"}


@pytest.mark.parametrize(("part", "end"), [("probe", UNPLAYABLE), ("check", INVALID)])
@pytest.mark.parametrize("harm", ["a link", "nothing at all"])
def test_a_look_that_leaves_something_else_is_no_look(
    attack: Attack, harm: str, part: str, end: OutputFault
) -> None:
    assert attack(harm, part).statuses() == {"o1": end}


def test_an_analysis_that_links_to_everything_is_not_handed_to_the_siblings(
    attack: Attack, control: FakeControl
) -> None:
    control.outputs = [(f"o{n}", "s1", PLAIN) for n in range(3)]
    assert attack("a link to all files", "render").statuses() == dict.fromkeys(["o0", "o1", "o2"], "ready")
    assert control.finish
    arguments = [report.file.ffmpeg_args for report in control.finish.outputs if report.file]
    assert not any("pass=" in argument for args in arguments for argument in args)


def test_a_playlist_is_never_written_through_a_link(attack: Attack, control: FakeControl) -> None:
    control.outputs = [("o1", "s1", Preset.HLS)]
    assert attack("a link under another name", "render").statuses() == {"o1": FAILED}


@pytest.mark.parametrize("walls", ["no jail"], indirect=True)
@pytest.mark.parametrize("part", ["probe", "render", "check"])
def test_numbers_without_sense_are_passed_over(attack: Attack, part: str) -> None:
    assert attack("numbers without end", part).statuses() == {"o1": "ready"}


@pytest.mark.parametrize("harm", ["no rights", "rights for everyone"])
def test_rights_that_ffmpeg_gives_a_file_do_not_matter(attack: Attack, harm: str) -> None:
    assert set(attack(harm, "render").statuses().values()) <= {"ready", FAILED}


def test_an_exit_code_of_the_jail_s_own_ends_the_output_and_not_the_run(attack: Attack) -> None:
    control = attack("the exit code of a jail", "render")
    assert control.finish
    assert (control.finish.reason, control.statuses()) == (None, {"o1": FAILED})


def test_a_process_that_keeps_writing_neither_holds_up_the_run_nor_changes_what_is_sent(
    attack: Attack,
) -> None:
    assert set(attack("a process", "render").statuses().values()) <= {"ready", FAILED, INVALID}


def test_what_ffmpeg_says_steers_no_screen(attack: Attack) -> None:
    """Its words go to the log, as JSON; a user gets ours."""
    control = attack("signs that steer a screen", "render")
    assert control.finish
    (report,) = control.finish.outputs
    assert report.error
    assert report.error.message == UNMADE


@pytest.mark.parametrize("walls", ["a jail", "no jail"], indirect=True)
@pytest.mark.parametrize(("part", "end"), [("probe", UNPLAYABLE), ("render", OutputFault.RENDER_TIMEOUT)])
def test_an_ffmpeg_that_hangs_is_ended_and_tried_again_before_its_output_fails(
    attack: Attack, monkeypatch: pytest.MonkeyPatch, part: str, end: OutputFault
) -> None:
    monkeypatch.setattr(pulse, "HANG_S", 1.5)
    tries: list[object] = []
    judge = runner_ffmpeg.Pulse

    def counted(group: int) -> pulse.Pulse:
        tries.append(group)
        return judge(group)

    monkeypatch.setattr(runner_ffmpeg, "Pulse", counted)
    control = attack("a standstill", part)
    assert control.statuses() == {"o1": end}
    assert len(tries) == {"probe": 2, "render": 3}[part]


@pytest.mark.parametrize("walls", ["a jail", "a jail that lets links be made"], indirect=True)
def test_an_output_that_was_checked_cannot_be_written_by_the_next_ffmpeg(attack: Attack) -> None:
    control = attack("its source", "poster")
    assert control.statuses() == {"o1": "ready"}
    assert set(control.objects) == {"output/o1"}
    assert b"changed" not in control.objects["output/o1"]


@pytest.mark.parametrize("walls", ["a jail"], indirect=True)
@pytest.mark.parametrize("part", ["render", "poster"])
@pytest.mark.parametrize("harm", [*ANYTHING_BUT_A_FILE, "a process"])
def test_the_whole_jail_refuses_the_harm_itself(attack: Attack, harm: str, part: str) -> None:
    assert attack(harm, part).statuses() == {"o1": FAILED if part == "render" else "ready"}


@pytest.mark.parametrize("walls", ["no jail"], indirect=True)
def test_a_probe_that_lacks_memory_is_left_to_a_larger_machine(
    attack: Attack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_ffmpeg.plain_files, "is_full", lambda _: True)
    control = attack("the exit code of a jail", "probe")
    assert control.finish
    assert (control.finish.outcome, control.finish.reason) == ("error", Reason.OUT_OF_MEMORY)
    assert control.finish.outputs == []
