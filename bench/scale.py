"""One control under all that it serves at once, on a long history: times of each kind of call, and the knees.

`python -m bench.scale [OUTPUTS] [MINUTES]` (1,000,000 and 10) fills a database as `bench.rows` does, and then
has 1,000 runners, 100 event streams, users who look, submit and upload, and ZIPs that are read at 10 MiB/s,
all at their own pace. Each time counts from when the call was due, so waiting for control is in it. After
that the beats, and then the submits, become more in steps until the p99 of a kind passes KNEE_MS, a call
fails or control falls behind. One file, since one control is filled, loaded and measured.
"""

from __future__ import annotations

import itertools
import os
import selectors
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import imageio_ffmpeg

from bench.download import _peak_mib
from bench.line import line
from bench.load import Assignment, _attempts, _control, _cpu_s, _job
from bench.rows import ROOMY, fill
from bench.streams import _close, _open, _resident_kb
from control.auth.tokens import Signer
from control.http.sse import STREAMS_MAX
from control.settings import load_settings
from control.store import Store
from control.store.database import open_database
from infra.local.s3_server import LocalS3, local_s3
from infra.s3 import TigrisStorage
from runner.contract import Claim, Heartbeat, JobSpec, OutputReport
from tests.support.clips import make_clip
from tests.support.maker import completed, lay, settings_of
from tests.support.quick_machines import quick_machines
from tests.support.user import ok, sign_in

LIVE = 1000
KNEE_MS, KEPT_UP, STEP_S = 1000.0, 0.9, 20.0
BEATS = (20, 50, 100, 200, 300, 400, 600, 800)  # a second; 20 are what control tells any number of runners
SUBMITS = (0.5, 1, 2, 4, 8, 12)  # a second, of 10 outputs each
ZIP_BYTES, ZIP_BYTES_PER_S, ZIPS = 64 << 20, 10 << 20, 2
UPLOAD_BYTES = 4 << 20
THREADS = {"heartbeat": 48}  # of the load, for each kind; 8 for the others


class Took:
    """The times of calls by kind, and what went wrong. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.ms: dict[str, list[float]] = defaultdict(list)
        self.errors: Counter[str] = Counter()

    @contextmanager
    def timed(self, kind: str, due: float | None = None) -> Iterator[None]:
        """Note how long the block took, from `due` on if that is earlier."""
        start = time.perf_counter() if due is None else due
        try:
            yield
        except Exception as error:  # noqa: BLE001 - any failure counts
            with self._lock:
                self.errors[f"{kind}: {str(error)[:90] or type(error).__name__}"] += 1
        self.add(kind, time.perf_counter() - start)

    def add(self, kind: str, seconds: float) -> None:
        with self._lock:
            self.ms[kind].append(seconds * 1000)

    def clear(self) -> None:
        with self._lock:
            self.ms.clear()
            self.errors.clear()

    def p(self, kind: str, share: float) -> float:
        took = sorted(self.ms[kind])
        return took[min(len(took) - 1, int(len(took) * share))] if took else 0.0


@dataclass
class Users:
    """All who call one control; `load` are its runners, `history` are batches of 200 outputs."""

    load: Assignment
    http: httpx.Client
    large_id: str
    history: Sequence[str]
    clip: bytes
    took: Took
    claims: Mapping[str, JobSpec]  # of the attempts that live
    doomed: list[str]  # batches like those of `history`
    sources: list[str] = field(default_factory=list)  # that may be submitted
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(2))

    @property
    def calls(self) -> Mapping[str, tuple[float, Callable[[int], object]]]:
        """How often a second each kind is called, and what does it; kinds that do several calls note each."""
        return {
            "heartbeat": (20, self._beat),
            "poll of a job": (5, lambda n: self._get(f"/api/jobs/{_job(self._mine(n))}")),
            "first page of the batches": (2, lambda _: self._get("/api/batches?limit=20")),
            "batch of 200 outputs": (1, lambda n: self._get(f"/api/batches/{self._of_history(n)}")),
            "batch of 10,000 outputs": (0.05, lambda _: self._get(f"/api/batches/{self.large_id}")),
            "search by name": (0.2, lambda _: self._get("/api/batches?q=nowhere")),
            "used storage": (0.2, lambda _: self._get("/api/storage")),
            "metrics": (0.1, lambda _: self._get("/metrics")),
            "submit of 10 outputs": (0.5, self._submit),
            "upload": (0.2, self.upload),
            "delete of a batch": (0.1, lambda _: self._delete(self.doomed.pop())),
        }

    def _mine(self, number: int) -> str:
        return self.load.waiting[number % LIVE]

    def _of_history(self, number: int) -> str:
        return self.history[number % len(self.history)]

    def _get(self, path: str) -> None:
        self.http.get(path).raise_for_status()

    def _delete(self, batch_id: str) -> None:
        """Delete a batch; a pass removes its files and rows later."""
        self.http.delete(f"/api/batches/{batch_id}").raise_for_status()

    def _beat(self, number: int) -> None:
        """Report the progress of one output, as a machine at work does in each beat."""
        id_ = self._mine(number)
        output = self.claims[id_].outputs[number // LIVE % 10]
        report = OutputReport(output_id=output.output_id, status="running", percent=number % 97)
        self.load.post(id_, "heartbeat", Heartbeat(seq=next(self._numbers), outputs=[report]))

    def _submit(self, number: int) -> None:
        wish = {"sources": [{"source_id": self.sources[number % len(self.sources)]}], "variations": 10}
        ok(self.http.post("/api/batches", json=wish), 202)

    def upload(self, number: int) -> None:
        """Upload a video of UPLOAD_BYTES. The time has the PUT to the bucket in it."""
        filling = os.urandom(16) + bytes(UPLOAD_BYTES - len(self.clip) - 24)
        content = self.clip + (len(filling) + 8).to_bytes(4, "big") + b"free" + filling
        body = {"name": f"{number}.mp4", "size_bytes": len(content), "content_type": "video/mp4"}
        with self.took.timed("open an upload"):
            upload = ok(self.http.post("/api/uploads", json=body), 201)
        part = httpx.put(upload["parts"][0]["url"], content=content, timeout=60)
        parts = {"parts": [{"number": 1, "etag": part.headers["etag"]}]}
        with self.took.timed("complete an upload"):
            done = ok(self.http.post(f"/api/uploads/{upload['upload_id']}/complete", json=parts), 200)
        self.sources.append(done["source_id"])

    def work(self, seconds: float, **rates: float) -> None:
        """Call each kind at its rate for so long; `rates` replaces some."""
        start = time.perf_counter()
        with ThreadPoolExecutor(len(self.calls)) as kinds:
            for kind, (per_s, call) in self.calls.items():
                rate = rates.get(kind.split()[0], per_s)
                kinds.submit(self._paced, kind, rate, call, start, seconds)

    def _paced(
        self, kind: str, per_s: float, call: Callable[[int], object], start: float, seconds: float
    ) -> None:
        def one(number: int) -> None:
            due = start + number / per_s
            time.sleep(max(0.0, due - time.perf_counter()))
            with self.took.timed(kind, due):
                call(number)

        with ThreadPoolExecutor(THREADS.get(kind, 8)) as pool:
            list(pool.map(one, range(int(per_s * seconds))))


def run(outputs: int = 1_000_000, minutes: float = 10.0) -> Iterator[str]:
    """Measure the mix for so long, and then find the knees."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        large_id = yield from fill(folder / "control.db", outputs)
        yield from measured(stack, folder, large_id, minutes)


def measured(stack: ExitStack, folder: Path, large_id: str, minutes: float) -> Iterator[str]:
    """Measure control on the filled database of the folder."""
    took = Took()
    s3 = stack.enter_context(local_s3(folder / "s3"))
    fly = stack.enter_context(quick_machines(folder / "quick", lambda _: None, took.add))
    clouds = {"fly_api_url": fly.url, "fly_api_token": fly.token, "runner_apps": fly.app}
    archive_id = _archive(folder, s3)
    ids = _attempts(load_settings(**{**settings_of(folder, s3), **ROOMY}), LIVE)
    control, settings = stack.enter_context(_control(folder, s3, 2 * LIVE, **{**ROOMY, **clouds}))
    signer = Signer(settings.token_secret.get_secret_value())
    load = Assignment(url=control.facts["url"], pid=control.pid, signer=signer, waiting=ids)
    http = stack.enter_context(httpx.Client(base_url=load.url, timeout=60))
    sign_in(http, settings.auth_password.get_secret_value())
    clip = make_clip(imageio_ffmpeg.get_ffmpeg_exe(), folder / "clip.mp4", size="64x64").read_bytes()
    listed = ok(http.get("/api/batches?status=expired&limit=100"), 200)["items"]
    old = [each["batch_id"] for each in listed]
    users = Users(load, http, large_id, old[:20], clip, took, _claims(load), doomed=old[20:])
    users.upload(0)
    streams = stack.enter_context(_streams(load, http))
    for _ in range(ZIPS):
        stack.enter_context(_reader(load.url, http, archive_id, took))
    yield from _mixed(users, streams, minutes * 60)
    for kind, steps in (("heartbeat", BEATS), ("submit of 10 outputs", SUBMITS)):
        yield from _knee(users, kind, steps)


def _archive(folder: Path, s3: LocalS3) -> str:
    """Return a batch whose ZIP has ZIP_BYTES."""
    values = {**settings_of(folder, s3), **ROOMY}
    storage = TigrisStorage(**asdict(s3))
    files = [lay(storage, f"{n}.mp4", os.urandom(ZIP_BYTES // 4)) for n in range(4)]
    engine = open_database(values["database_url"])
    archive_id = completed(Store(engine, load_settings(**values), lambda: datetime.now(UTC)), files)
    engine.dispose()
    return archive_id


def _claims(load: Assignment) -> dict[str, JobSpec]:
    def claim(id_: str) -> JobSpec:
        return JobSpec.model_validate_json(load.post(id_, "claim", Claim(machine_id=f"m-{id_}")))

    with ThreadPoolExecutor(16) as pool:
        return dict(zip(load.waiting, pool.map(claim, load.waiting), strict=True))


@contextmanager
def _streams(load: Assignment, http: httpx.Client) -> Iterator[Counter[str]]:
    """Read event streams of as many jobs as there may be; count their bytes and those that ended."""
    said, over = Counter[str](), threading.Event()

    def read() -> None:
        while not over.is_set():
            for key, _ in waiting.select(timeout=0.2):
                heard = key.fileobj.recv(1 << 18)  # type: ignore[union-attr]
                said["bytes"] += len(heard)
                if not heard:
                    waiting.unregister(key.fileobj)
                    said["ended"] += 1

    with selectors.DefaultSelector() as waiting:
        opened = [
            stream
            for id_ in load.waiting[:STREAMS_MAX]
            for stream in _open(load.url, f"/api/jobs/{_job(id_)}/events", http.headers["Authorization"], 1)
        ]
        for stream in opened:
            waiting.register(stream, selectors.EVENT_READ)
        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield said
        finally:
            over.set()
            reader.join()
            _close(opened)


@contextmanager
def _reader(url: str, http: httpx.Client, archive_id: str, took: Took) -> Iterator[None]:
    """Read a ZIP at ZIP_BYTES_PER_S, again and again; the time is that to its first bytes."""
    over = threading.Event()
    link = ok(http.post(f"/api/batches/{archive_id}/download-link"), 200)["url"]
    address = f"{url}/api/{link.partition('/api/')[2]}"

    def read() -> None:
        while not over.is_set():
            with took.timed("a whole ZIP"), httpx.Client(timeout=60) as client:
                begun, got = time.perf_counter(), 0
                with client.stream("GET", address) as answer:
                    answer.raise_for_status()
                    for chunk in answer.iter_raw(1 << 18):
                        if not got:
                            took.add("first bytes of a ZIP", time.perf_counter() - begun)
                        got += len(chunk)
                        time.sleep(max(0.0, begun + got / ZIP_BYTES_PER_S - time.perf_counter()))
                        if over.is_set():
                            return
                assert got > ZIP_BYTES, f"{got} bytes"

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _mixed(users: Users, streams: Counter[str], seconds: float) -> Iterator[str]:
    """Measure all at once at their own rates."""
    took, pid = users.took, users.load.pid
    time.sleep(5)  # the start, and the first observations of the cloud
    took.clear()
    before = _cpu_s(pid)
    users.work(seconds)
    percent = (_cpu_s(pid) - before) / seconds * 100
    for kind in sorted(took.ms):
        against = (
            f"p50 {took.p(kind, 0.5):.1f} ms, worst {took.p(kind, 1):.0f} ms, {len(took.ms[kind])} calls"
        )
        yield line(f"{kind}, p99", took.p(kind, 0.99), "ms", against=against)
    yield line("errors", sum(took.errors.values()), "", against=f"{dict(took.errors)}")
    yield line(
        "event streams that ended", streams["ended"], f"of {STREAMS_MAX}", against=f"{streams['bytes']} bytes"
    )
    yield line("control's CPU", percent, "% of a core", against=f"over {seconds:.0f} s")
    yield line("control's memory", _resident_kb(pid) / 1024, "MiB", against=f"at most {_peak_mib(pid):.0f}")
    yield line("load of this computer", os.getloadavg()[1], "", against=f"{os.cpu_count()} cores")


def _knee(users: Users, kind: str, steps: Sequence[float]) -> Iterator[str]:
    """Make the calls of a kind more, beside the mix, until one step is too much."""
    took = users.took
    for per_s in steps:
        took.clear()
        begun, before = time.perf_counter(), _cpu_s(users.load.pid)
        users.work(STEP_S, **{kind.split()[0]: per_s})
        spent_s = time.perf_counter() - begun
        percent = (_cpu_s(users.load.pid) - before) / spent_s * 100
        p99, poll = took.p(kind, 0.99), took.p("poll of a job", 0.99)
        served, errors = len(took.ms[kind]) / spent_s, dict(took.errors)
        against = f"served {served:.1f}, p50 {took.p(kind, 0.5):.1f} ms, poll of a job {poll:.0f} ms"
        against += f", CPU {percent:.0f} %, load {os.getloadavg()[0]:.1f}, errors {errors}"
        yield line(f"{per_s} a second: {kind}, p99", p99, "ms", against=against)
        if p99 > KNEE_MS or errors or served < KEPT_UP * per_s:
            return


if __name__ == "__main__":
    for each in run(*map(int, sys.argv[1:2]), *map(float, sys.argv[2:3])):
        print(each, flush=True)
