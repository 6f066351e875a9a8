"""The whole system as processes of their own, each of which can be killed alone and started again.

Control, the local Fly and the S3 server are the `refresher` commands; runners and FFmpeg are what they start.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import httpx

from tests.support.processes import until
from tests.support.user import User, address, ok, sign_in

REFRESHER = str(Path(sys.executable).parent / "refresher")
PASSWORD = "correct horse battery"
START_S = 90.0


class Part:
    """One `refresher` server. What it printed when it was ready is `facts`; its stderr is in a log."""

    def __init__(
        self,
        folder: Path,
        *arguments: object,
        env: dict[str, str] | None = None,
        program: Sequence[str] = (REFRESHER,),
    ) -> None:
        self.facts: dict[str, str] = {}
        self._arguments = [*program, *map(str, arguments), "--json"]
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self._env = {**kept, **(env or {})}
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def begin(self) -> None:
        """Start the process without waiting until it is ready."""
        assert not self.runs
        with (self._folder / f"{Path(self._arguments[0]).name}-{self._arguments[1]}.log").open("a") as log:
            self._process = subprocess.Popen(
                self._arguments,
                cwd=self._folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def ready(self) -> None:
        """Wait until the part is ready. One whose port is still held by what was killed is started again."""
        deadline = time.monotonic() + START_S
        while True:
            assert self._process
            assert self._process.stdout
            line = self._process.stdout.readline()
            if line:
                self.facts = json.loads(line)
                return
            self._reap()
            assert time.monotonic() < deadline, f"{self._arguments[1]} does not start: see {self._folder}"
            time.sleep(0.1)
            self.begin()

    def start(self) -> None:
        self.begin()
        self.ready()

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End the process as a power cut does."""
        if self._process:
            self._process.kill()
            self._reap()

    def kill_group(self) -> None:
        """End the process and what it has started, as the end of its machine does."""
        assert self._process
        os.killpg(self._process.pid, signal.SIGKILL)
        self._reap()

    def stop(self) -> int:
        """Ask the process to end as a service manager does, and return its exit code."""
        assert self._process
        self._process.terminate()
        return self._reap()

    def _reap(self) -> int:
        assert self._process
        assert self._process.stdout
        code = self._process.wait(30)
        self._process.stdout.close()
        return code


class Stack:
    """All parts, in one folder; ports, keys and data stay over a restart. `settings` are control's."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        fly_port, s3_port = free_port(), free_port(12_000, 20_000)
        (folder / "faults.json").write_text(json.dumps({"rate_limits": False}))
        fly = ("--data", folder / "fly", "--faults", folder / "faults.json")
        self.s3 = Part(folder, "s3-local", "--port", s3_port, "--data", folder / "s3")
        self.fly = Part(folder, "fly-local", "--port", fly_port, *fly)
        self.settings = settings  # of the next start of control
        self.control = Part(folder, "serve")
        self.database = folder / "control.db"

    @property
    def parts(self) -> Sequence[Part]:
        return self.s3, self.fly, self.control

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start what does not run, all at once, and wait until all is ready."""
        down = [part for part in (self.s3, self.fly) if not part.runs]
        for part in down:
            part.begin()
        for part in down:
            part.ready()
        if not self.control.runs:
            self.control = self._control()
            self.control.start()

    def end(self) -> None:
        """End everything, dead or alive; machines go with the local Fly."""
        for part in (self.control, self.s3):
            part.kill()
        if self.fly.runs:
            assert self.fly.stop() == 0
        for pid in machine_processes(self.folder):
            os.kill(pid, signal.SIGKILL)

    def _control(self) -> Part:
        return Part(self.folder, "serve", *self._where(), env=self._env())

    def _where(self) -> Sequence[object]:
        return "--host", "127.0.0.1", "--port", self.port

    def _env(self) -> dict[str, str]:
        return {
            "AUTH_PASSWORD": PASSWORD,
            "TOKEN_SECRET": "a-secret-of-the-tests",
            "DATABASE_URL": f"sqlite:///{self.database}",
            "PUBLIC_URL": self.url,
            "AWS_ENDPOINT_URL_S3": self.s3.facts["endpoint"],
            "AWS_REGION": self.s3.facts["region"],
            "AWS_ACCESS_KEY_ID": self.s3.facts["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": self.s3.facts["secret_access_key"],
            "BUCKET_NAME": self.s3.facts["bucket"],
            "FLY_API_URL": self.fly.facts["url"],
            "FLY_API_TOKEN": self.fly.facts["token"],
            "RUNNER_APPS": self.fly.facts["app"],
            "RUNNER_IMAGE": "local/runner:test",
            "HEARTBEAT_S": "0.4",
            "LEASE_S": "2",
            "MAX_MACHINES": "4",
            **self.settings,
        }


class Patient(User):
    """A user who asks again while control is away."""

    def show(self, id_: str) -> dict[str, Any]:
        return ok(self.asked("GET", address(id_)), 200)

    def machines(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = ok(self.asked("GET", "/api/machines"), 200)["items"]
        return items

    def asked(self, method: str, path: str, **content: Any) -> httpx.Response:
        """Return the first answer that comes and is no 5xx."""

        def answer() -> httpx.Response | None:
            try:
                got = self.http.request(method, path, **content)
            except httpx.TransportError:
                return None
            return got if got.status_code < 500 else None

        return cast(httpx.Response, until(answer))


@contextmanager
def running(folder: Path, **settings: str) -> Iterator[Stack]:
    """Yield a running stack; nothing of it is left at the end."""
    stack = Stack(folder, **settings)
    try:
        stack.start()
        yield stack
    finally:
        stack.end()


@contextmanager
def signed_in(stack: Stack) -> Iterator[Patient]:
    with httpx.Client(base_url=stack.url, timeout=20) as http:
        sign_in(http, PASSWORD)
        yield Patient(http)


def free_port(low: int = 22_000, high: int = 32_000) -> int:
    """Return a port below those that Linux hands out, so that it is still free after a restart."""
    for port in range(low + os.getpid() * 37 % (high - low - 500), high):
        if port not in _given:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) != 0:
                    _given.add(port)
                    return port
    raise RuntimeError("no free port")


_given: set[int] = set()


def machine_processes(folder: Path) -> list[int]:
    """Return the processes that work in a machine's folder below `folder`, whoever is their parent."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder / "fly" / "machines"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def assert_idle(stack: Stack, user: Patient) -> None:
    """Fail unless every machine ends, in the cloud and in the process table."""
    until(lambda: not user.machines() and not machine_processes(stack.folder))
