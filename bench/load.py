"""The cost of runners and readers for control, over real HTTP: CPU per call, many live attempts, and idle.

1,000 attempts and 100 readers for a minute, four minutes in all; a short look: `python -m bench.load 6 300`.
Must measure only control: the local Fly, the S3 server and this load are other processes.
One file, since one control is made once and then measured in every way.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from sqlmodel import col, select

from bench.line import line
from bench.streams import _close, _open, _resident_kb
from control.auth.tokens import Signer
from control.domain.ids import new_id
from control.http.sse import STREAMS_MAX
from control.planning.planner import PlannedSource, plan
from control.settings import Settings, load_settings
from control.store import Store, batches, queue
from control.store.database import open_database
from control.store.leases import BEATS_PER_S_MAX
from control.store.tables import Attempt
from infra.local.s3_server import LocalS3, local_s3
from runner.contract import (
    Claim,
    Finish,
    Heartbeat,
    JobSpec,
    Message,
    OutputError,
    OutputFault,
    OutputReport,
    Timings,
    Usage,
    attempt_path,
)
from tests.support.maker import add_source, settings_of, stored
from tests.support.stack import Part
from tests.support.user import sign_in

CALLS = 200  # of each kind, one after another: control's CPU in that time is theirs
OUTPUTS = 10
BURST_PER_S = 200.0
THREADS = 32
ANOTHER_APP = "another-app"
_later = itertools.count(10)  # the numbers of beats, after those of single calls
FAULT = OutputError(code=OutputFault.RENDER_FAILED, message="it is a bench")


@dataclass(frozen=True)
class Assignment:
    """One control under load, and the attempts for it."""

    url: str
    pid: int
    signer: Signer
    waiting: list[str]  # unclaimed attempts

    def post(self, attempt_id: str, call: str, message: Message) -> bytes:
        """Do one call of a runner, on a new connection, since control closes idle ones between two beats."""
        where = urlsplit(self.url)
        connection = HTTPConnection(where.hostname or "", where.port, timeout=30)
        try:
            connection.request(
                "POST",
                attempt_path(attempt_id, call),  # type: ignore[arg-type]
                message.model_dump_json(),
                {
                    "Authorization": f"Bearer {self.signer.attempt_token(attempt_id)}",
                    "Content-Type": "application/json",
                },
            )
            answer = connection.getresponse()
            content = answer.read()
            assert answer.status == 200, (answer.status, content)
            return content
        finally:
            connection.close()


def run(seconds: float = 60.0, live: int = 1000) -> Iterator[str]:
    """Measure idle, each call, `live` attempts at their normal rate, and a burst."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        local_s3(Path(name, "s3")) as s3,
        _control(Path(name), s3, 2 * (live + CALLS)) as (control, settings),
    ):
        yield from _idle(control.pid, seconds)
        load = Assignment(
            url=control.facts["url"],
            pid=control.pid,
            signer=Signer(settings.token_secret.get_secret_value()),
            waiting=_attempts(settings, live + CALLS),
        )
        with httpx.Client(base_url=load.url) as http:
            sign_in(http, settings.auth_password.get_secret_value())
            yield from _calls(load, http)
            yield from _living(load, http, live, seconds)


@contextmanager
def _control(folder: Path, s3: LocalS3, max_machines: int, **more: str) -> Iterator[tuple[Part, Settings]]:
    """Yield an idle control with a Fly and a bucket that answer."""
    fly = Part(folder, "fly-local", "--port", 0)
    try:
        fly.start()
        values = {
            **settings_of(folder, s3),
            "fly_api_url": fly.facts["url"],
            "fly_api_token": fly.facts["token"],
            "runner_apps": fly.facts["app"],
            "max_machines": str(max_machines),
            **more,
        }
        env = {name.upper(): value for name, value in values.items()}
        control = Part(folder, "serve", "--host", "127.0.0.1", "--port", 0, env=env)
        try:
            control.start()
            yield control, load_settings(**values)
        finally:
            control.kill()
    finally:
        fly.kill()


def _attempts(settings: Settings, count: int) -> list[str]:
    """Start this number of attempts of ten outputs each, in an app that control does not ask for machines."""
    engine = open_database(settings.database_url)
    store = Store(engine, settings, lambda: datetime.now(UTC))
    source = PlannedSource(source_id=add_source(store), name="ad.mp4", fingerprint="e")
    for _ in range(count):
        planned = plan([source], variations=OUTPUTS, seed=1, new_id=lambda: new_id("out"))
        batches.submit(store, planned)
    queue.start(store, [ANOTHER_APP] * count)
    with store.transaction() as tx:
        ids = list(tx.session.exec(select(Attempt.id).where(col(Attempt.app) == ANOTHER_APP)))
    engine.dispose()
    assert len(ids) == count
    return ids


def _idle(pid: int, seconds: float) -> Iterator[str]:
    time.sleep(8)  # the start, and its first observations of the cloud
    before, changed = _cpu_s(pid), _written(pid)
    time.sleep(seconds)
    busy, written = (_cpu_s(pid) - before) / seconds * 100, _written(pid) - changed
    yield line("control with nothing to do, CPU", busy, "% of a core", against=f"aim 1, over {seconds:.0f} s")
    yield line("control with nothing to do, written", written, "bytes", against="aim 0: database and log")


def _calls(load: Assignment, http: httpx.Client) -> Iterator[str]:
    """Do each call of a runner's life, one after another."""
    mine = [load.waiting.pop() for _ in range(CALLS)]
    claims: dict[str, bytes] = {}

    def claim(attempt_id: str) -> None:
        claims[attempt_id] = load.post(attempt_id, "claim", Claim(machine_id=f"m-{attempt_id}"))

    yield _each("claim of 10 outputs", load, claim, mine)
    quiet = Heartbeat(seq=1, outputs=[])
    yield _each("heartbeat without news", load, lambda id_: load.post(id_, "heartbeat", quiet), mine)
    specs = {id_: JobSpec.model_validate_json(content) for id_, content in claims.items()}

    def tell(id_: str) -> None:
        reports = [OutputReport(output_id=specs[id_].outputs[0].output_id, status="running", percent=50)]
        load.post(id_, "heartbeat", Heartbeat(seq=2, outputs=reports))

    yield _each("heartbeat with progress", load, tell, mine)

    def poll(id_: str) -> None:
        http.get(f"/api/jobs/{_job(id_)}").raise_for_status()

    yield _each("poll of a job", load, poll, mine)
    made = {id_: stored(specs[id_].outputs[0], b"an output") for id_ in mine}
    usage = Usage(wall_s=1, cpu_s=1, timings=Timings())

    def finish(id_: str) -> None:
        failed = [
            OutputReport.model_validate(
                {
                    "output_id": o.output_id,
                    "status": "failed",
                    "error": {"code": "render_failed", "message": ""},
                }
            )
            for o in specs[id_].outputs[1:]
        ]
        load.post(id_, "finish", Finish(seq=3, outcome="ok", outputs=[made[id_], *failed], usage=usage))

    yield _each("finish, one of 10 outputs to look at", load, finish, mine)


def _each(name: str, load: Assignment, call: Callable[[str], object], attempt_ids: Sequence[str]) -> str:
    before, took = _cpu_s(load.pid), []
    for attempt_id in attempt_ids:
        start = time.perf_counter()
        call(attempt_id)
        took.append(time.perf_counter() - start)
    each_ms = (_cpu_s(load.pid) - before) / len(attempt_ids) * 1000
    return line(f"{name}, CPU", each_ms, "ms", against=f"answered in {statistics.median(took) * 1000:.1f} ms")


def _living(load: Assignment, http: httpx.Client, live: int, seconds: float) -> Iterator[str]:
    """Send beats and reads at control's own rate, and then ten times as often."""
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda id_: load.post(id_, "claim", Claim(machine_id=f"m-{id_}")), load.waiting))
    authorization = http.headers["Authorization"]
    readers = [
        stream
        for id_ in load.waiting[:STREAMS_MAX]
        for stream in _open(load.url, f"/api/jobs/{_job(id_)}/events", authorization, 1)
    ]
    for name, per_s in (("as told", BEATS_PER_S_MAX), ("burst", BURST_PER_S)):
        yield from _beating(load, name, per_s, seconds, live, len(readers))
    yield line(
        "control's memory under load",
        _resident_kb(load.pid) / 1024,
        "MiB",
        against=f"{live} attempts, {len(readers)} readers; aim 200",
    )
    _close(readers)


def _beating(
    load: Assignment, name: str, per_s: float, seconds: float, live: int, readers: int
) -> Iterator[str]:
    """Send beats at a fixed rate. The time of each counts from when it was due, so waiting is included."""
    count, took, errors = int(per_s * seconds), list[float](), list[str]()
    lock, start, before = threading.Lock(), time.perf_counter(), _cpu_s(load.pid)

    def beat(number: int) -> None:
        due = start + number / per_s
        time.sleep(max(0.0, due - time.perf_counter()))
        try:
            load.post(load.waiting[number % live], "heartbeat", Heartbeat(seq=next(_later), outputs=[]))
        except (OSError, AssertionError) as error:
            errors.append(str(error))
        with lock:
            took.append(time.perf_counter() - due)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(beat, range(count)))
    spent_s = time.perf_counter() - start
    took.sort()
    p50, p99 = took[len(took) // 2] * 1000, took[int(len(took) * 0.99)] * 1000
    against = (
        f"{live} attempts, {readers} readers, {count / spent_s:.0f}/s, p50 {p50:.1f} ms, {len(errors)} errors"
    )
    yield line(f"heartbeats {name}, p99", p99, "ms", against=against)
    each_ms = (_cpu_s(load.pid) - before) / count * 1000
    yield line(f"heartbeats {name}, CPU each", each_ms, "ms", against="aim 1.5")


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _written(pid: int) -> int:
    """Return how many bytes a process has written to files (Linux): a reused log does not grow."""
    counts = Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(dict(each.split(": ") for each in counts)["write_bytes"])


def _job(attempt_id: str) -> str:
    return attempt_id.rpartition("-")[0]


if __name__ == "__main__":
    named = dict(zip(("seconds", "live"), map(int, sys.argv[1:]), strict=False))
    for each in run(**named):
        print(each, flush=True)
