"""The jail around FFmpeg: what it refuses, what it allows, and that nothing outlives the runner."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from runner import ffmpeg as runner_ffmpeg
from runner import jail, jail_exec, seccomp
from runner.stop import Stop
from tests.support.forbidden_acts import ACTS
from tests.support.jails import LIBRARY, PYTHON, library, needs_a_jail, python_in_jail, with_library

pytestmark = pytest.mark.peer

LIMITS = jail.Limits(cpu_s=30, memory_bytes=1 << 30, file_bytes=1 << 20, threads=40)
ORDINARY = 65533  # a user that nobody is
KINDS = ("mnt", "pid", "net", "ipc", "uts")
SCRIPT = Path(__file__).parents[1].joinpath("support/forbidden_acts.py")
COLUMN = {"x86_64": 0, "aarch64": 1}[os.uname().machine]
CALLS = {name: call[COLUMN] for name, call in seccomp.DENIED.items() if call[COLUMN] is not None}
HARMLESS = [
    *["open a TCP socket", "open a UDP socket", "connect to a Unix socket outside", "read the list of users"],
    *["read the environment of a process outside", "read a neighbour's file", "list processes"],
    *[
        "run a program that it wrote",
        "write over what is given to read",
        "start a process",
        "fill the memory",
    ],
    *["make a symbolic link", "give a file a second name", "make a pipe", "make a folder"],
    *["make a symbolic link from a folder on", "give a second name from a folder on"],
    *["make a pipe from a folder on", "make a folder from a folder on", "take the rights from an open file"],
    *[
        "make a socket that others see",
        "take the rights from a file",
        "let a file run with its owner's rights",
    ],
    *["start threads without end", "write without end", "have an environment", "signal a process outside"],
]


@pytest.fixture(scope="module", autouse=True)
def _possible() -> None:
    needs_a_jail()


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, object]]:
    """What is there to be reached: a process, a file, a socket; and the folder that a jail may write into."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "neighbour").write_text("canary")
    (folder / "neighbour").chmod(0o644)
    (folder / "mine").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen()
        (folder / "socket").chmod(0o777)
        (folder / "source").write_text("a source")
        (folder / "source").chmod(0o666)  # so that nothing but the jail stands before it
        yield {
            "source": str(folder / "source"),
            "calls": {},
            "pid": os.getpid(),
            "neighbour": str(folder / "neighbour"),
            "socket": str(folder / "socket"),
            "folder": str(folder / "mine"),
            "memory_bytes": LIMITS.memory_bytes,
            "file_bytes": LIMITS.file_bytes,
            "threads": LIMITS.threads,
        }


@pytest.fixture(scope="module")
def outcomes(outside: dict[str, object]) -> dict[str, str]:
    """What the acts came to inside, by name."""
    done = python_in_jail(
        str(SCRIPT),
        json.dumps({**outside, "calls": CALLS}),
        reads=[SCRIPT, Path(str(outside["source"]))],
        writes=[Path(str(outside["folder"]))],
        limits=LIMITS,
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, str] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("act", ACTS)
def test_inside_nobody_can(act: str, outcomes: dict[str, str]) -> None:
    assert outcomes[act].startswith("refused"), outcomes[act]


@pytest.mark.parametrize("call", CALLS)
def test_the_kernel_does_not_even_look_at(call: str, outcomes: dict[str, str]) -> None:
    assert outcomes[call] == f"refused: {call}"


@pytest.mark.parametrize("act", HARMLESS)
def test_outside_the_same_program_can(act: str, outside: dict[str, object]) -> None:
    command = [sys.executable, str(SCRIPT), json.dumps(outside), act]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "refused" not in done.stdout, done.stdout


def test_an_ordinary_user_makes_a_jail_that_holds_as_well(outside: dict[str, object]) -> None:
    python = shutil.which("python3", path="/usr/bin")
    if os.geteuid() != 0 or not shutil.which("setpriv") or not python:
        pytest.skip("needs root, setpriv and a Python for everyone, to play another user")
    assert not jail.is_off()
    with tempfile.TemporaryDirectory() as name:
        script, writable = Path(name, "acts.py"), Path(name, "writable")
        shutil.copy(SCRIPT, script)
        writable.mkdir()
        for path in (Path(name), writable):
            os.chown(path, ORDINARY, ORDINARY)
        given = json.dumps({**outside, "folder": str(writable), "calls": CALLS})
        program = [os.path.realpath(python), "-I", "-S", str(script), given]
        command = jail.confined(program, reads=[script], writes=[writable], limits=LIMITS)
        command = with_library(command, library(python))
        command[0] = python
        ids = (f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups")
        done = subprocess.run(
            ["setpriv", *ids, *command], env={}, capture_output=True, text=True, timeout=60, check=False
        )
    if done.returncode == jail.FAILED:
        pytest.skip(f"this machine lets no ordinary user make a jail: {done.stderr}")
    assert done.returncode == 0, done.stderr
    assert [act for act, end in json.loads(done.stdout).items() if not end.startswith("refused")] == []


def test_a_jail_shows_what_it_is_given_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "source.mp4").write_text("a source")
    (tmp_path / "out").mkdir()
    (tmp_path / "neighbour").write_text("canary")
    look = "import os, sys; print(os.getuid(), os.getgid(), os.listdir(sys.argv[1])); "
    look += "print(open(sys.argv[1] + '/in/source.mp4').read()); open(sys.argv[1] + '/out/o', 'w').write('b')"
    done = python_in_jail("-c", look, str(tmp_path), reads=[tmp_path / "in"], writes=[tmp_path / "out"])
    seen, content = done.stdout.splitlines()
    assert seen.startswith("65534 65534 ")
    assert sorted(seen[12:].strip("[]").split(", ")) == ["'in'", "'out'"]
    assert content == "a source"
    assert (tmp_path / "out" / "o").read_text() == "b"


def test_a_program_with_too_much_cpu_time_is_killed() -> None:
    limits = jail.Limits(cpu_s=1, memory_bytes=1 << 30)
    assert python_in_jail("-c", "while True: pass", limits=limits).returncode == -signal.SIGKILL


def test_a_program_that_a_signal_ends_ends_as_such() -> None:
    assert python_in_jail("-c", "import ctypes; ctypes.string_at(0)").returncode == -signal.SIGSEGV


def test_an_exit_code_comes_through() -> None:
    assert python_in_jail("-c", "import sys; sys.exit(7)").returncode == 7


def test_an_exit_code_that_means_a_failed_jail_does_not_come_from_inside() -> None:
    assert python_in_jail("-c", f"import sys; sys.exit({jail.FAILED})").returncode == 1


@pytest.mark.parametrize("kind", ["reads", "writes"])
def test_a_link_is_never_followed_into_a_jail(tmp_path: Path, kind: str) -> None:
    (tmp_path / "link").symlink_to("/etc" if kind == "writes" else "/etc/passwd")
    given = {kind: [tmp_path / "link"]}
    done = python_in_jail("-c", "print('ran')", **given)  # type: ignore[arg-type]
    assert (done.returncode, done.stdout) == (jail.FAILED, "")
    assert re.match(r"jail: .*(neither a file nor a folder|Not a directory|symbolic links)", done.stderr)
    assert Path("/etc").stat().st_uid == 0


def test_a_pipe_given_to_read_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = python_in_jail("-c", "print('ran')", reads=[tmp_path / "pipe"])
    assert (done.returncode, done.stdout) == (jail.FAILED, "")


def test_a_jail_that_cannot_be_made_runs_nothing_and_is_no_failure_of_the_video(tmp_path: Path) -> None:
    command = [PYTHON, "-I", "-S", "-c", "print('ran', file=sys.stderr)"]
    with pytest.raises(jail.JailUnavailable, match="No such file"):
        runner_ffmpeg.run(
            command,
            reads=[tmp_path / "missing"],
            makes=[],
            timeout_s=20,
            stop=Stop(),
            on_progress=lambda _: None,
        )


def test_a_runner_that_is_gone_already_starts_nothing() -> None:
    limits = jail.Limits.of_this_machine(wall_s=20)
    command = jail.confined([PYTHON, "-c", "print('ran')"], reads=[], writes=[], limits=limits)
    command[command.index("--parent") + 1] = "1"
    done = subprocess.run(command, env={}, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (jail_exec.FAILED, "")
    assert done.stderr == "jail: the runner is gone\n"
    assert jail_exec.FAILED == jail.FAILED


PARENT = """
import subprocess, sys
from runner import jail
from tests.support.jails import LIBRARY, PYTHON, with_library
limits = jail.Limits.of_this_machine(wall_s=60)
script = "import time; print('up', flush=True); time.sleep(60)"
command = jail.confined([PYTHON, "-I", "-S", "-c", script], reads=[], writes=[], limits=limits)
subprocess.run(with_library(command, LIBRARY), env={})
"""


@pytest.mark.parametrize("victim", ["the runner", "the process that waits"])
def test_what_is_in_the_jail_dies_with(victim: str) -> None:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout
        assert runner.stdout.readline() == "up\n"
        (waiting,) = children(runner.pid)
        (inside,) = children(waiting)
        assert shared_namespaces(runner.pid, inside) == set()
        os.kill(runner.pid if victim == "the runner" else waiting, signal.SIGKILL)
        runner.wait(20)
    wait_for_the_end_of(inside)


def shared_namespaces(*pids: int) -> set[str]:
    """Return which of these kinds of namespace two processes have in common."""
    first, second = ({kind: Path(f"/proc/{pid}/ns/{kind}").readlink() for kind in KINDS} for pid in pids)
    return {kind for kind in KINDS if first[kind] == second[kind]}


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for_the_end_of(pid: int) -> None:
    """Return when the process is dead, whether or not someone has waited for it."""
    deadline = time.monotonic() + 20
    with suppress(FileNotFoundError):
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_the_check_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, ffmpeg: str) -> None:
    jail.check(ffmpeg)
    monkeypatch.setattr(jail, "_needs", lambda _: ("/no/such/file",))
    with pytest.raises(jail.JailUnavailable, match=r"jail: .*no/such/file"):
        jail.check(ffmpeg)


LINE_SENDS = "import os; [os.write(3, b'x' * 65536) for _ in range(64)]"
LINE_DOUBLES = """
import os
while chunk := os.read(3, 65536):
    for descriptor in (4, 5):
        left = chunk
        while left: left = left[os.write(descriptor, left):]
"""
LINE_COUNTS = """
import os, threading
def is_open(descriptor):
    try: os.fstat(descriptor)
    except OSError: return False
    return True
others = [n for n in range(3, 256) if n not in (4, 5) and is_open(n)]
counts = {}
def count(descriptor):
    counts[descriptor] = 0
    while chunk := os.read(descriptor, 65536): counts[descriptor] += len(chunk)
threads = [threading.Thread(target=count, args=(descriptor,)) for descriptor in (4, 5)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(sorted(counts.items()), others)
"""


def run_line(*programs: str) -> subprocess.CompletedProcess[str]:
    """Run three programs of Python as a line: one pipe, then two."""
    needs_a_jail()
    commands = [[PYTHON, "-I", "-S", "-c", program] for program in programs]
    limits = jail.Limits.of_this_machine(wall_s=60)
    confined = jail.confined(jail.Line(commands, [1, 2]), reads=[], writes=[], limits=limits)
    return subprocess.run(
        with_library(confined, LIBRARY),
        env={},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_line_hands_on_all_bytes_by_its_pipes_and_leaves_no_other_open():
    done = run_line(LINE_SENDS, LINE_DOUBLES, LINE_COUNTS)
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout == f"[(4, {64 * 65536}), (5, {64 * 65536})] []\n"


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize(
    ("ending", "code"),
    [("raise SystemExit(7)", 7), ("import os; os.abort()", -6), ("raise SystemExit(125)", 1)],
)
def test_a_line_ends_as_its_first_that_ends_badly_and_no_process_is_left(place, ending, code):
    waits = "import os, time; time.sleep(1000)"  # the line's run fails if somebody waits for it
    programs = [waits, waits, waits]
    programs[place] = ending
    assert run_line(*programs).returncode == code


def test_each_of_a_line_is_in_the_jail():
    tries = "import os\ntry: os.fork()\nexcept OSError as e: print(e.errno, flush=True)"
    assert run_line(tries, tries, tries).stdout == "1\n1\n1\n"
