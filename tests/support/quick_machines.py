"""A local Fly in this process whose machines are threads that make outputs out of nothing, at once.

Each speaks the real wire and stores real objects. It asks again for as long as control is away, as a runner.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import urllib3

from infra.flysim.events import StartProcess
from infra.flysim.faults import Faults
from infra.local.fly_host import LocalFly
from infra.local.fly_server import LocalFlyHandle, create_app
from infra.local.serve import serving
from runner import contract
from runner.contract import (
    Claim,
    Finish,
    Heartbeat,
    JobSpec,
    OutputFile,
    OutputReport,
    OutputSpec,
    Timings,
    Usage,
)
from tests.support.sums import facts

APP, TOKEN = "quick-machines", "a token of the tests"
AGAIN_S, GIVE_UP_S = 0.05, 120.0


def content_of(output_id: str) -> bytes:
    """Return the bytes that machines make for an output: the same in each attempt, and in no other one."""
    seed = hashlib.sha256(output_id.encode()).digest()
    return seed * (128 + 2 * seed[0])


Finished = Callable[[list[str]], object]
Took = Callable[[str, float], object]


class QuickMachines(LocalFly):
    """Tells `finished` the ids of the outputs that control has accepted with the last report of a machine.

    `took` is told the seconds of each of the three calls from its first try on.
    """

    def __init__(self, folder: Path, finished: Finished, took: Took) -> None:
        super().__init__(folder, app=APP, faults=Faults(rate_limits=False))
        self._finished, self._took = finished, took

    def _popen(self, effect: StartProcess) -> subprocess.Popen[bytes]:
        """Start a process that only waits, and a thread that works and then ends it."""
        process = super()._popen(replace(effect, argv=(shutil.which("sleep") or "sleep", "3600")))
        threading.Thread(target=self._work, args=(effect.env, process), daemon=True).start()
        return process

    def _work(self, env: Mapping[str, str], process: subprocess.Popen[bytes]) -> None:
        try:
            done = _Machine(env, process, self._took).work()
            if done:
                self._finished(done)
        finally:
            process.terminate()


@contextmanager
def quick_machines(
    folder: Path, finished: Finished, took: Took = lambda *_: None
) -> Iterator[LocalFlyHandle]:
    """Serve them until the block ends."""
    folder.mkdir()
    with closing(QuickMachines(folder, finished, took)) as fly, serving(create_app(fly, token=TOKEN)) as url:
        try:
            yield LocalFlyHandle(url=f"{url}/v1", token=TOKEN, app=APP)
        finally:
            fly.close()  # before the server ends, since that waits for every open call


class _Machine:
    """The work of one machine, for as long as its process lives."""

    def __init__(self, env: Mapping[str, str], process: subprocess.Popen[bytes], took: Took) -> None:
        self._env, self._process, self._took = env, process, took
        self._http = urllib3.PoolManager(retries=False, timeout=20)

    def work(self) -> list[str]:
        """Return the ids of the outputs whose report was accepted; none where control said to stop."""
        content = self._told("claim", Claim(machine_id=self._env[contract.ENV_MACHINE_ID]))
        if content is None:
            return []
        reports = []
        for number, output in enumerate(JobSpec.model_validate_json(content).outputs, 1):
            reports.append(self._made(output))
            if self._told("heartbeat", Heartbeat(seq=number, outputs=reports[-1:])) is None:
                return []
        usage = Usage(wall_s=1, cpu_s=1, timings=Timings())
        end = Finish(seq=len(reports) + 1, outcome="ok", outputs=reports, usage=usage)
        return [] if self._told("finish", end) is None else [report.output_id for report in reports]

    def _told(self, call: Literal["claim", "heartbeat", "finish"], message: contract.Message) -> bytes | None:
        """Return the first answer that is no 5xx; None for a refusal, or if the machine has ended."""
        attempt_id = self._env[contract.ENV_ATTEMPT_ID]
        url = self._env[contract.ENV_CONTROL_URL] + contract.attempt_path(attempt_id, call)
        headers = {
            "Authorization": f"Bearer {self._env[contract.ENV_ATTEMPT_TOKEN]}",
            "Content-Type": "application/json",
        }
        begun = time.monotonic()
        until = begun + GIVE_UP_S
        while self._process.poll() is None and time.monotonic() < until:
            try:
                answer = self._http.request("POST", url, body=message.model_dump_json(), headers=headers)
                if answer.status < 500:
                    self._took(call, time.monotonic() - begun)
                    return answer.data if answer.status == 200 else None
            except urllib3.exceptions.HTTPError:
                pass
            time.sleep(AGAIN_S)
        return None

    def _made(self, output: OutputSpec) -> OutputReport:
        content = content_of(output.output_id)
        put = self._http.request("PUT", output.put_url, body=content, headers=output.put_headers)
        assert put.status in (200, 412), put.data
        file = OutputFile(**facts(content), duration_s=1.0, ffmpeg_args=["-i", "SOURCE", "OUTPUT"])
        return OutputReport(output_id=output.output_id, status="ready", percent=100, file=file)
