"""The cost of a start: the runner's is billed on every machine, control's delays a deploy."""

from __future__ import annotations

import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path

import httpx

from bench.line import line
from control.cli.demo import make_clip
from control.store.database import close_database, open_database
from runner.contract import Preset
from tests.support.fake_control import fake_control
from tests.support.settings import SETTINGS

RUNS = 9
NO_CLOUD = {"fly_api_url": "http://127.0.0.1:9"}  # so that no machine of this computer is started
AS_IN_THE_IMAGE = {"PYDANTIC_DISABLE_PLUGINS": "__all__"}  # Dockerfile.runner


def run() -> Iterator[str]:
    """Measure the CPU of a bare interpreter and of each program's imports, and the first probe."""
    bare, runner, control = (
        statistics.median(_cpu_ms(code) for _ in range(RUNS))
        for code in ("pass", "import runner.__main__", "import control.app")
    )
    against = f"bare Python {bare:.0f} ms"
    yield line("import runner, CPU", runner, "ms", against=f"{against}, {runner / bare:.1f} times")
    yield line("import control, CPU", control, "ms", against=f"{against}, {control / bare:.1f} times")
    yield line("control, exec to the first answer, CPU", _wake_ms(), "ms", against="aim 400 ms")
    looked = _claim_to_look_ms()
    yield line("from the claim's answer to the source probed", looked, "ms", against="aim 300 ms")


@dataclass(frozen=True)
class Woken:
    """A control that was started and has answered once, and what that took."""

    url: str
    cpu_s: float
    wall_s: float


@contextmanager
def woken(database_url: str, **more: str) -> Iterator[Woken]:
    """Yield a control on this database from its first answer on, started as in its image."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    values = {**SETTINGS, **NO_CLOUD, **more, "database_url": database_url}
    env = {**os.environ, **{name.upper(): value for name, value in values.items()}}
    command = [sys.executable, "-m", "control", "serve", "--host", "127.0.0.1", "--port", str(port)]
    url, begun = f"http://127.0.0.1:{port}", time.perf_counter()
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not _answers(url):
            assert process.poll() is None, "control did not start"
            time.sleep(0.01)
        wall_s = time.perf_counter() - begun
        yield Woken(url=url, cpu_s=_cpu_s(process.pid), wall_s=wall_s)
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/api/batches").status_code == HTTPStatus.UNAUTHORIZED
    return False


def _cpu_s(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _wake_ms() -> float:
    """Return the median CPU from exec to the first answer, on a database whose schema is the newest."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        url = f"sqlite:///{Path(folder, 'control.db')}"
        close_database(open_database(url))
        return statistics.median(_woken_ms(url) for _ in range(RUNS))


def _woken_ms(database_url: str) -> float:
    with woken(database_url) as control:
        return control.cpu_s * 1000


def _cpu_ms(code: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], env={**os.environ, **AS_IN_THE_IMAGE}, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _claim_to_look_ms() -> float:
    """Return the median time from the claim's answer until the first FFmpeg has read a small source."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        clip = Path(folder, "clip.mp4")
        make_clip(clip)
        return statistics.median(_once_ms(clip.read_bytes()) for _ in range(RUNS))


def _once_ms(clip: bytes) -> float:
    with fake_control() as control:
        control.sources, control.outputs = {"s": clip}, [("o", "s", Preset.COPY)]
        command = [sys.executable, "-m", "runner"]
        env = {**control.env(), **AS_IN_THE_IMAGE}
        root = Path(__file__).parents[1]
        done = subprocess.run(command, env=env, cwd=root, check=True, stderr=subprocess.PIPE, text=True)
    at = {
        one["event"]: datetime.fromisoformat(one["at"]) for one in map(json.loads, done.stderr.splitlines())
    }
    return (at["source_ready"] - at["claimed"]).total_seconds() * 1000


if __name__ == "__main__":
    print(*run(), sep="\n")
