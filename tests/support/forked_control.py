"""Control as a process that starts in a fifth of a second, so that it can be killed thousands of times.

A server process imports control's modules once, and each start is a fork of it that runs `refresher serve`.
All else is as after `exec`: settings, database, passes, sockets and threads are made by the new process.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

LOADED = (  # all that is loaded in the first seconds, also by name
    *("control.cli.main", "control.cli.local", "control.app", "control.http.server", "rich.traceback"),
    *("uvloop", "httptools", "uvicorn.lifespan.on", "uvicorn.loops.uvloop", "anyio._backends._asyncio"),
    *("httpx", "httpcore", "pydantic.v1", "rich.progress", "uvicorn.loops.auto", "encodings.idna"),
    *("alembic.command", "alembic.autogenerate", "boto3.s3.inject", "s3transfer.subscribers"),
)
START_S = 60.0
_forks = get_context("forkserver")
_forks.set_forkserver_preload([*LOADED])


class ForkedControl:
    """One control at a time, always on the same port. Its log is `control.log` of the folder."""

    def __init__(self, folder: Path, port: int, env: Mapping[str, str]) -> None:
        self.log = folder / "control.log"
        self.cpu_s = 0.0  # of all processes that were killed
        self._port, self._env = port, dict(env)
        self._process: BaseProcess | None = None

    def start(self) -> None:
        """Start a process, and do not wait until it answers."""
        self._process = _forks.Process(
            target=_serve, args=(self._env, self._port, str(self.log)), daemon=True
        )
        self._process.start()

    def ready(self) -> None:
        """Return when it answers, and not another program at its port."""
        deadline = time.monotonic() + START_S
        is_answering = False
        while not is_answering:
            time.sleep(0.01)
            is_answering = self._answers()
            assert self._process
            assert self._process.is_alive(), f"control has ended: see {self.log}"
            assert time.monotonic() < deadline, f"control does not answer: see {self.log}"

    def kill(self) -> None:
        """End the process as a power cut does."""
        if self._process is not None:
            if self._process.is_alive():  # else its number may be that of another process by now
                self.cpu_s += _cpu_s(self._process.pid)
                self._process.kill()
            self._process.join()
            self._process.close()
            self._process = None

    def _answers(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", "/api/health")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()


def _serve(env: Mapping[str, str], port: int, log: str) -> None:
    """Run `refresher serve` in this process, with nothing in its environment but `env`."""
    from control.cli.main import main

    with Path(log).open("a") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["refresher", "serve", "--host", "127.0.0.1", "--port", str(port)]
    main()


def _cpu_s(pid: int | None) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
