"""The `refresher` command, as a person or a program starts it: its output, its end, and its clean-up."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner

from control.cli.main import app, main
from infra.local.s3_server import LocalS3
from tests.support.foreign import Held, Server
from tests.support.processes import Process, descendants, processes, take_interrupts, until
from tests.support.user import User, ok, sign_in

REFRESHER = str(Path(sys.executable).parent / "refresher")
TOKEN_SECRET = "a-secret-of-the-tests"
PASSWORD = "correct horse battery"


class Command:
    """A running `refresher`, in a process group of its own as a shell's job is, with a private TMPDIR."""

    def __init__(self, folder: Path, *arguments: object, env: dict[str, str] | None = None) -> None:
        self.temp = folder / "tmp"
        self.temp.mkdir(exist_ok=True)
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.process = subprocess.Popen(
            [REFRESHER, *map(str, arguments)],
            cwd=folder,
            env={**kept, "TMPDIR": str(self.temp), "COLUMNS": "200", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
            preexec_fn=take_interrupts,
        )
        self.children: set[Process] = set()

    def look(self) -> Sequence[Process]:
        """Return the processes below, and remember them."""
        found = descendants(self.process.pid)
        self.children |= set(found)
        return found

    def end(self, signum: int | None = None) -> tuple[int, str, str]:
        """Wait for the end, after a signal to the whole group if one is given, as a terminal sends it."""
        self.look()
        if signum is not None:
            os.killpg(self.process.pid, signum)
        while True:
            try:
                out, err = self.process.communicate(timeout=0.3)
            except subprocess.TimeoutExpired:
                self.look()
            else:
                return self.process.returncode, out, err

    def assert_nothing_left(self) -> None:
        """Fail for a process, a file in TMPDIR or a socket that outlived the command."""
        children = {child.pid: child.command for child in self.children}
        left = [process for process in processes() if children.get(process.pid) == process.command]
        left += [process for process in processes() if str(self.temp.parent) in process.command]
        assert not left
        assert not list(self.temp.iterdir())
        for child in self.children:
            for word in child.command.split():
                port = word.rpartition("port=")[2]
                sockets = list(Path("/tmp").glob(f"seaweedfs-*-{port}.sock")) if port.isdigit() else []
                if sockets:  # then of the server of another test, which took the port since
                    assert any(f"port={port} " in process.command for process in processes()), sockets


Ended = tuple[int, str, str]


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run a command in this process, with nothing else in its environment, and return how it ends.

    A tenth of the CPU of a process, for commands whose words are the subject and not their start and end.
    """

    def run(folder: Path, *arguments: object, env: dict[str, str]) -> Ended:
        handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
        log, level = logging.getLogger().handlers[:], logging.getLogger("control").level
        with monkeypatch.context() as patch:
            for name in os.environ.keys() - {"PATH", "HOME", "LANG"}:
                patch.delenv(name)
            for name, value in env.items():
                patch.setenv(name, value)
            patch.chdir(folder)
            patch.setattr(sys, "argv", ["refresher", *map(str, arguments)])
            with pytest.raises(SystemExit) as ended:
                main()
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        logging.getLogger().handlers[:] = log
        logging.getLogger("control").setLevel(level)
        return (ended.value.code or 0, *capsys.readouterr())

    return run


@contextmanager
def serving(folder: Path, *arguments: object, env: dict[str, str] | None = None) -> Iterator[dict[str, Any]]:
    """Yield what a server prints with --json; at the end it stops on SIGTERM, well and without a trace."""
    command = Command(folder, *arguments, "--json", env=env)
    try:
        assert command.process.stdout
        line = command.process.stdout.readline()
        assert line, command.process.communicate()
        yield json.loads(line)
        command.look()
        command.process.terminate()  # the server alone, as a service manager does
        code, out, err = command.end()
        assert (code, out) == (0, ""), err
        assert "Traceback" not in err
        command.assert_nothing_left()
    finally:
        if command.process.poll() is None:
            command.process.terminate()
            command.end()


@pytest.fixture(scope="module")
def hours(clips: Path, slow: Path, ffmpeg: str) -> Path:
    """A clip whose variations take long enough to be interrupted."""
    path = clips / "long.mp4"
    command = [ffmpeg, "-v", "error", "-stream_loop", "9", "-i", str(slow), "-c", "copy", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path


# --- demo -------------------------------------------------------------------------------------------


def test_demo_does_the_main_job_past_a_proxy_of_the_environment_and_leaves_only_its_results(
    tmp_path: Path, vertical: Path
) -> None:
    names = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY")
    env = dict.fromkeys(names, "http://127.0.0.1:9")  # the local parts are reached without it
    command = Command(tmp_path, "demo", vertical, "-n", 2, "-o", "out", env=env)
    code, out, err = command.end()
    assert code == 0, out + err
    results = sorted(path.name for path in (tmp_path / "out" / "tall one").iterdir())
    assert [name[:14] for name in results] == ["tall one_var01", "tall one_var02"]
    assert (tmp_path / "out" / "manifest.json").exists()
    assert all(name in out for name in results)
    for word in ("file", "size", "duration", "effects", " cost", "Cost: $0.0"):
        assert word in out
    command.assert_nothing_left()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "tmp"]


def test_demo_names_a_bad_file_and_continues_with_the_good_one(tmp_path: Path, vertical: Path) -> None:
    bad = tmp_path / "tmp" / "text.mp4"
    bad.parent.mkdir()
    bad.write_text("not a video")
    command = Command(tmp_path, "demo", bad, vertical, "-n", 1, "-o", "out", "--json")
    code, out, err = command.end()
    assert code == 1, out + err
    assert "text.mp4: This is a text file" in err
    (result,) = (tmp_path / "out" / "tall one").iterdir()
    data = json.loads(out)
    (refused,), (made,) = data["refused"], data["outputs"]
    assert refused["name"] == "text.mp4"
    assert refused["message"].startswith("This is a text file")
    assert (made["name"], made["size_bytes"]) == (f"tall one/{result.name}", result.stat().st_size)
    assert (data["status"], data["partial"], data["out"]) == ("completed", False, "out")
    assert data["cost_usd"] == made["cost_usd"] > 0


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_demo_interrupted_while_rendering_leaves_nothing(tmp_path: Path, hours: Path, signum: int) -> None:
    command = Command(tmp_path, "demo", hours, "-n", 4, "-o", "out")
    until(lambda: any("libx264" in process.command for process in command.look()))
    code, out, err = command.end(signum)
    assert code != 0
    assert "Traceback" not in out + err
    command.assert_nothing_left()


@pytest.mark.parametrize("delay_s", [0.15, 0.6, 1.2])
def test_demo_interrupted_while_it_starts_leaves_nothing(
    tmp_path: Path, vertical: Path, delay_s: float
) -> None:
    command = Command(tmp_path, "demo", vertical, "-n", 1, "-o", "out")
    time.sleep(delay_s)  # at no particular point
    code, out, err = command.end(signal.SIGINT)
    assert code != 0
    if delay_s > 0.5:  # before, Python itself may still be starting
        assert "Traceback" not in out + err
    command.assert_nothing_left()


@pytest.mark.parametrize(
    "arguments",
    [("missing.mp4",), ("tmp",), ("missing.mp4", "-n", "0"), ("-n", "101"), ("--nonsense",)],
)
def test_a_wrong_demo_says_so_without_a_trace(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    command = Command(tmp_path, "demo", *arguments)
    code, out, err = command.end()
    assert code not in (0, None)
    assert "Traceback" not in out + err
    assert err.strip()
    command.assert_nothing_left()


def test_demo_of_something_that_is_no_video_says_why_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "list.mp4").write_text("milk, bread and butter\n" * 100)
    command = Command(tmp_path, "demo", "list.mp4")
    code, out, err = command.end()
    assert code == 1
    assert "Traceback" not in out + err
    assert "list.mp4: This is a text file. Upload an MP4" in out
    command.assert_nothing_left()


# --- servers ----------------------------------------------------------------------------------------


def test_serve_local_keeps_jobs_password_and_results_over_a_restart_and_ends_the_job_that_ran(
    tmp_path: Path, landscape: Path, theirs: Server, held: Held
) -> None:
    arguments = ("serve", "--local", "--port", 0, "--data", tmp_path / "data")
    env = {"LEASE_S": "3", "OUTBOUND_ALLOW": theirs.place}
    with serving(tmp_path, *arguments, env=env) as first, _signed_in(first) as user:
        assert set(first) == {"url", "password"}
        source = user.upload(landscape)
        job = user.wait(user.submit(source, variations=1, kind="jobs")["job_id"])
        members = user.unzip(job["job_id"])
        token = user.http.headers["authorization"]
        _assert_a_second_stack_is_refused(tmp_path, *arguments)
        interrupted = user.submit(held.url, variations=1, kind="jobs")
        until(lambda: user.show(interrupted["job_id"])["status"] == "running")
    held.let_go()
    with serving(tmp_path, *arguments, env=env) as second, _signed_in(second) as user:
        assert second["password"] == first["password"]
        assert user.show(job["job_id"])["sources"] == job["sources"]
        assert user.unzip(job["job_id"]) == members
        user.http.headers["authorization"] = token
        assert user.wait(user.submit(source, variations=1)["batch_id"])["status"] == "completed"
        assert user.wait(interrupted["job_id"])["status"] == "completed"


def _assert_a_second_stack_is_refused(folder: Path, *arguments: object) -> None:
    """Fail unless a stack on a folder that is in use says so in one line."""
    (folder / "two").mkdir()
    code, out, err = Command(folder / "two", *arguments).end()
    assert (code, out) == (1, "")
    (line,) = err.strip().splitlines()
    assert "in use" in line


def test_serve_works_with_the_fly_and_the_s3_server_of_other_processes(
    tmp_path: Path, landscape: Path
) -> None:
    s3_folder, fly_folder, folder = (tmp_path / name for name in ("s3", "fly", "control"))
    for each in (s3_folder, fly_folder, folder):
        each.mkdir()
    with (
        serving(s3_folder, "s3-local", "--data", s3_folder / "data") as s3,
        serving(fly_folder, "fly-local") as fly,
    ):
        assert set(s3) == {"endpoint", "region", "access_key_id", "secret_access_key", "bucket"}
        assert set(fly) == {"url", "token", "app"}
        assert fly["url"].endswith("/v1")
        port = _free_port()
        env = _settings(s3, fly, folder / "control.db", f"http://127.0.0.1:{port}")
        with (
            serving(folder, "serve", "--host", "127.0.0.1", "--port", port, env=env) as facts,
            _signed_in(facts) as user,
        ):
            assert facts == {"url": f"http://127.0.0.1:{port}", "password": PASSWORD}
            batch = user.wait(user.submit(user.upload(landscape), variations=1)["batch_id"])
            assert batch["status"] == "completed"
            assert batch["attempts"][0]["app"] == fly["app"]
            assert len(user.unzip(batch["batch_id"])) == 3  # the output and two manifests


def test_an_idle_control_ends_by_itself_and_works_after_the_next_start(tmp_path: Path, s3: LocalS3) -> None:
    folder = tmp_path / "control"
    folder.mkdir()
    with serving(tmp_path, "fly-local") as fly:
        env = _settings(asdict(s3), fly, folder / "control.db", "http://127.0.0.1:1")
        env["STOP_WHEN_IDLE_S"] = "1"
        for _ in range(2):
            command = Command(folder, "serve", "--port", 0, "--json", env=env)
            assert command.process.stdout
            facts = json.loads(command.process.stdout.readline())
            with _signed_in(facts) as user:
                assert ok(user.http.get("/api/machines"), 200)["items"] == []
            code, out, err = command.end()
            assert (code, out) == (0, ""), err
            assert "stopped_when_idle" in err
            command.assert_nothing_left()


def test_bucket_rules_are_set_by_one_command_that_may_be_repeated(
    tmp_path: Path, s3: LocalS3, run_here: Callable[..., Ended]
) -> None:
    keys = {"endpoint": s3.endpoint, "region": s3.region, "bucket": s3.bucket}
    keys |= {"access_key_id": s3.access_key_id, "secret_access_key": s3.secret_access_key}
    nowhere = {"url": "http://127.0.0.1:1/v1", "token": "t", "app": "a"}
    env = _settings(keys, nowhere, tmp_path / "control.db", "https://control.example")
    env["ALLOWED_ORIGINS"] = "https://app.example"
    for _ in range(2):
        code, out, err = run_here(tmp_path, "bucket-rules", "--json", env=env)
        assert (code, err) == (0, "")
        origins = ["https://control.example", "https://app.example"]
        assert json.loads(out) == {"bucket": s3.bucket, "origins": " ".join(origins)}
    for origin in (*origins, "https://other.example"):
        headers = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
        answer = httpx.options(f"{s3.endpoint}/{s3.bucket}/any", headers=headers)
        assert ("access-control-allow-origin" in answer.headers) == (origin in origins)
    env["AWS_SECRET_ACCESS_KEY"] = "wrong"
    code, out, err = run_here(tmp_path, "bucket-rules", env=env)
    assert (code, out) == (1, "")
    (line,) = err.strip().splitlines()
    assert "refused our key" in line


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({}, None),
        ({"AUTH_PASSWORD": "short"}, "AUTH_PASSWORD"),
        ({"TOKEN_SECRET": None}, "TOKEN_SECRET"),
        ({"DATABASE_URL": "mysql://x/y"}, "DATABASE_URL"),
    ],
    ids=str,
)
def test_serve_with_nonsense_in_its_settings_names_the_variable_in_one_line(
    tmp_path: Path, change: dict[str, str | None], named: str | None, run_here: Callable[..., Ended]
) -> None:
    env = {name: value for name, value in {**_nowhere(tmp_path), **change}.items() if value is not None}
    arguments = (tmp_path, "serve", "--port", 0)
    code, out, err = run_here(*arguments, env=env) if named else Command(*arguments).end()
    assert code not in (0, None)
    assert out == ""
    (line,) = err.strip().splitlines()
    assert (named or "AUTH_PASSWORD") in line
    assert "very-secret" not in line
    assert "short" not in line


def test_a_port_that_is_taken_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port, data = str(server.getsockname()[1]), tmp_path / "data"
        for arguments in (
            ("fly-local", "--port", port),
            ("s3-local", "--port", port, "--data", data),
            ("serve", "--local", "--port", port, "--data", data),
        ):
            command = Command(tmp_path, *arguments)
            code, _, err = command.end()
            assert code not in (0, None)
            assert "Traceback" not in err
            assert port in err or "in use" in err
            command.assert_nothing_left()


def test_fly_local_restarts_with_the_same_token_on_the_same_port(tmp_path: Path) -> None:
    arguments = ("fly-local", "--port", _free_port(), "--data", tmp_path / "data")
    with serving(tmp_path, *arguments) as first:
        pass
    with serving(tmp_path, *arguments) as second:
        assert second == first


@pytest.mark.parametrize(("name", "value"), [("PORT", "http"), ("PORT", "70000"), ("HEARTBEAT_S", "soon")])
def test_serve_local_names_a_setting_that_is_nonsense_in_one_line(
    tmp_path: Path, name: str, value: str
) -> None:
    command = Command(tmp_path, "serve", "--local", env={"PORT": "0", name: value})
    code, out, err = command.end()
    assert (code, out) == (1, "")
    (line,) = err.strip().splitlines()
    assert name in line
    command.assert_nothing_left()


@pytest.mark.parametrize("name", typer.main.get_command(app).commands)  # type: ignore[attr-defined]
def test_every_command_has_help(name: str) -> None:
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0
    assert f"Usage: refresher {name}" in result.output


def test_the_version_is_printed(tmp_path: Path) -> None:
    ended = Command(tmp_path, "--version").end()
    assert ended == (0, f"refresher {version('video-refresher')}\n", "")


# --- helpers ----------------------------------------------------------------------------------------


@contextmanager
def _signed_in(facts: dict[str, Any]) -> Iterator[User]:
    with httpx.Client(base_url=facts["url"], timeout=30) as http:
        assert ok(http.get("/api/health"), 200)["status"] == "ok"
        sign_in(http, facts["password"])
        yield User(http)


def _nowhere(folder: Path) -> dict[str, str]:
    """Return settings that are sound and lead nowhere."""
    s3 = {"endpoint": "http://127.0.0.1:9", "region": "auto", "bucket": "b"}
    s3 |= {"access_key_id": "k", "secret_access_key": "very-secret"}
    fly = {"url": "http://127.0.0.1:9/v1", "token": "t", "app": "a"}
    return _settings(s3, fly, folder / "control.db", "http://127.0.0.1:9")


def _settings(s3: dict[str, str], fly: dict[str, str], database: Path, url: str) -> dict[str, str]:
    return {
        "AUTH_PASSWORD": PASSWORD,
        "TOKEN_SECRET": TOKEN_SECRET,
        "DATABASE_URL": f"sqlite:///{database}",
        "PUBLIC_URL": url,
        "AWS_ENDPOINT_URL_S3": s3["endpoint"],
        "AWS_REGION": s3["region"],
        "AWS_ACCESS_KEY_ID": s3["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": s3["secret_access_key"],
        "BUCKET_NAME": s3["bucket"],
        "FLY_API_URL": fly["url"],
        "FLY_API_TOKEN": fly["token"],
        "RUNNER_APPS": fly["app"],
        "RUNNER_IMAGE": "local/runner:test",
    }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
