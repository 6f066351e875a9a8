"""What the worst clients take of one control: memory, CPU, and how long others wait meanwhile.

Each attack comes from another process and from many addresses: control believes to be behind Fly. The memory
is the peak of control's process since the attack began (VmHWM). No limit is set; what is more than 512 MB
would end control on its machine. `python -m bench.worst 5 quotes` does the attacks whose names hold a word.

One file, since all attacks share one control and one way to measure it.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from http.client import HTTPConnection, HTTPException
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from sqlalchemy import insert, update
from sqlmodel import col, select

from bench.line import line
from bench.load import Assignment, _attempts, _control, _cpu_s
from control.auth.tokens import Signer
from control.domain.ids import new_id
from control.http.sse import STREAMS_MAX
from control.planning.planner import PlannedSource, plan
from control.settings import Settings
from control.store import Store, batches
from control.store.database import open_database
from control.store.tables import Attempt, Batch, Job, Output
from infra.local.s3_server import LocalS3, local_s3
from infra.s3 import TigrisStorage
from runner.contract import Claim, Heartbeat
from tests.support.maker import add_source, lay
from tests.support.user import ok, sign_in

SECONDS = 5.0
MACHINES = 50  # the default of MAX_MACHINES
CALM_S = 12.0  # between two attacks: control answers what has waited for 10 s and drops the rest
LIMIT_MB = 512
NO_FLY = "http://127.0.0.1:9"  # so that no machine of this computer is started


@dataclass(frozen=True)
class Target:
    """The control that is attacked, and what an attacker knows of it."""

    host: str
    port: int
    token: str  # of a client
    batch_id: str  # with 10,000 outputs
    output_ids: list[str]
    link: str  # path and query of its archive's link
    share: str  # the token of its share link
    until: float = 0.0  # the end of the attack, in time.time()

    def call(self, method: str, path: str, body: Any = None, *, signed_in: bool = True) -> str:
        """Do one request from an address of its own, and return its status."""
        connection = HTTPConnection(self.host, self.port, timeout=60)
        content = body if isinstance(body, bytes | None) else json.dumps(body)
        try:
            connection.request(method, path, content, self.headers(signed_in=signed_in))
            answer = connection.getresponse()
            while answer.read(1 << 16):
                pass
            return str(answer.status)
        finally:
            connection.close()

    def form(self) -> str:
        """Send a form with a large file that is no video, and return the status."""
        connection = HTTPConnection(self.host, self.port, timeout=60)
        headers = {
            **self.headers(signed_in=True),
            "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
        }
        content = [FORM_HEAD, *[b"\0" * (1 << 20)] * (FORM_BYTES >> 20), b"\r\n--b--\r\n"]
        try:
            connection.request("POST", "/api/jobs", iter(content), headers, encode_chunked=True)
            return str(connection.getresponse().status)
        finally:
            connection.close()

    def headers(self, *, signed_in: bool) -> dict[str, str]:
        """Return headers that name a new address."""
        headers = {
            "Fly-Client-IP": f"198.{random.randrange(18, 20)}.{random.randrange(256)}.{random.randrange(256)}"
        }
        headers["Content-Type"] = "application/json"
        if signed_in:
            headers["Authorization"] = f"Bearer {self.token}"
        return headers

    def hold(
        self, method: str, path: str, *, sent: bytes = b"", signed_in: bool = False, length: int = 0
    ) -> str:
        """Send a request, and take in nothing of the answer until control drops it or the attack ends."""
        headers = {**self.headers(signed_in=signed_in), "Host": self.host}
        if length:
            headers["Content-Length"] = str(length)
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with socket.socket() as held:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            held.settimeout(30)
            held.connect((self.host, self.port))
            held.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + sent)
            while time.time() < self.until:
                time.sleep(0.5)
                if length:
                    held.sendall(b" ")
        return "held"


Step = Callable[[Target], str]
FACTS = {"size_bytes": 10**8, "width": 1920, "height": 1080}
ONLY_SPEED = ["rotation", "brightness", "contrast", "saturation", "zoom", "noise", "mirror"]
UNKNOWN_FIELDS = b'{"x' + b',"x'.join(b'%d":0' % number for number in range(110_000)) + b"}"
WRONG_ITEMS = b'{"without":[' + b"0," * 600_000 + b"0]}"
EMPTY_LISTS = b'{"sources":[' + b"[]," * 400_000 + b"0]}"
BRACKETS = b"[" * 1_250_000
PARTS = {"parts": [{"number": number + 1, "etag": "e" * 64} for number in range(10_000)]}
BOUNDARY = "b"
FORM_HEAD = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n'
FORM_BYTES = 100 << 20


def _urls() -> list[dict[str, Any]]:
    url = f"https://example.com/{random.random()}/{'a' * 8000}"
    return [{"url": f"{url}{number}", "name": "n" * 255} for number in range(100)]


def _facts() -> list[dict[str, Any]]:
    return [{**FACTS, "duration_s": 10.0 + number} for number in range(100)]


def _quote(target: Target, **wish: Any) -> str:
    return target.call("POST", "/api/quote", {"sources": _facts(), "variations": 100, **wish})


def _submit(target: Target, noun: str, variations: int) -> str:
    return target.call("POST", f"/api/{noun}", {"sources": _urls(), "variations": variations})


def _ask(method: str, path: str, body: Any = None, *, signed_in: bool = True) -> Step:
    """Return the step that does one request; `{batch}` in its path is the batch of 10,000 outputs."""
    return lambda target: target.call(
        method, path.format(batch=target.batch_id, link=target.link), body, signed_in=signed_in
    )


def _leave(path: str, *, signed_in: bool = True) -> Step:
    """Return the step that asks and takes nothing in."""
    return lambda target: target.hold(
        "GET", path.format(batch=target.batch_id, link=target.link), signed_in=signed_in
    )


# who and what, how many at once, one step of each
ATTACKS: tuple[tuple[str, int, Step], ...] = (
    ("anyone: logins", 50, _ask("POST", "/api/auth", {"password": "p" * 1000}, signed_in=False)),
    ("anyone: logins that drip", 300, lambda t: t.hold("POST", "/api/auth", signed_in=False, length=4096)),
    ("anyone: bodies of 2 MiB", 50, _ask("POST", "/api/auth", b" " * (2 << 20), signed_in=False)),
    ("anyone: 1,100 connections held", 1100, _leave("/api/batches/{batch}", signed_in=False)),
    ("anyone: /docs", 50, _ask("GET", "/docs", signed_in=False)),
    ("anyone: /openapi.json not taken in", 300, _leave("/openapi.json", signed_in=False)),
    ("anyone: /metrics without a token", 50, _ask("GET", "/metrics", signed_in=False)),
    ("anyone: /api/ready", 50, _ask("GET", "/api/ready", signed_in=False)),
    ("by a link: HEAD of a ZIP of 10,000", 50, _ask("HEAD", "{link}", signed_in=False)),
    ("by a link: a ZIP of 10,000", 50, _ask("GET", "{link}", signed_in=False)),
    ("by a link: ZIPs of 10,000 not taken in", 300, _leave("{link}", signed_in=False)),
    ("anyone: wrong share tokens", 50, _ask("GET", "/api/shared", signed_in=False)),
    (
        "by a share link: a batch of 10,000",
        50,
        lambda t: replace(t, token=t.share).call("GET", "/api/shared"),
    ),
    (
        "by a share link: a batch of 10,000 not taken in",
        300,
        lambda t: replace(t, token=t.share).hold("GET", "/api/shared", signed_in=True),
    ),
    ("signed in: quotes of 10,000 outputs", 50, _quote),
    ("signed in: quotes of 10,000, only speed", 50, lambda t: _quote(t, without=ONLY_SPEED)),
    ("signed in: batches of 10,000 outputs", 20, lambda t: _submit(t, "batches", 100)),
    ("signed in: jobs of 100 URLs", 20, lambda t: _submit(t, "jobs", 2)),
    ("signed in: bodies of unknown fields", 20, _ask("POST", "/api/batches", UNKNOWN_FIELDS)),
    ("signed in: bodies of wrong items", 20, _ask("POST", "/api/batches", WRONG_ITEMS)),
    ("signed in: bodies of empty lists", 20, _ask("POST", "/api/quote", EMPTY_LISTS)),
    ("signed in: bodies of brackets", 20, _ask("POST", "/api/quote", BRACKETS)),
    ("signed in: complete with 10,000 parts", 20, _ask("POST", "/api/uploads/upl_0/complete", PARTS)),
    (
        "signed in: links of 5,000 of 10,000 outputs",
        20,
        lambda t: t.call(
            "POST",
            f"/api/batches/{t.batch_id}/download-link",
            {"output_ids": random.sample(t.output_ids, 5000)},
        ),
    ),
    ("signed in: a batch of 10,000 shown", 20, _ask("GET", "/api/batches/{batch}")),
    ("signed in: a batch of 10,000 not taken in", 300, _leave("/api/batches/{batch}")),
    ("signed in: lists", 50, _ask("GET", "/api/batches?limit=100")),
    ("signed in: search", 50, _ask("GET", "/api/batches?limit=100&q=" + "%25_" * 30)),
    ("signed in: storage", 50, _ask("GET", "/api/storage")),
    ("signed in: costs", 50, _ask("GET", "/api/costs")),
    ("signed in: /metrics", 50, _ask("GET", "/metrics")),
    ("signed in: forms of 100 MiB", 20, lambda t: t.form()),
    ("signed in: event streams not taken in", STREAMS_MAX, _leave("/api/batches/{batch}/events")),
)


def run(seconds: float = SECONDS, *words: str) -> Iterator[str]:
    """Do each attack whose name holds one of the words, or all without a word, for so many seconds."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        local_s3(Path(name, "s3")) as s3,
        _control(
            Path(name),
            s3,
            MACHINES,
            fly_app_name="control",
            fly_api_url=NO_FLY,
            storage_cap_bytes=str(10**15),
        ) as (
            control,
            settings,
        ),
    ):
        beat = _runner(settings, control.facts["url"])
        target = _target(settings, s3, control.facts["url"])
        yield from _measured("no client", None, 1, target, beat, control.pid, seconds)
        for attack, (what, at_once, _) in enumerate(ATTACKS):
            if not words or any(word in what for word in words):
                time.sleep(CALM_S)
                yield from _measured(what, attack, at_once, target, beat, control.pid, seconds)


def _measured(
    what: str,
    attack: int | None,
    at_once: int,
    target: Target,
    beat: Callable[[], object],
    pid: int,
    seconds: float,
) -> Iterator[str]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    attacker = context.Process(target=_attack, args=(attack, at_once, theirs))
    attacker.start()
    try:
        ours.recv()  # it has imported what it needs
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew (Linux)
        spent_s = _cpu_s(pid)
        target = replace(target, until=time.time() + seconds)
        ours.send(target)
        with ThreadPoolExecutor(2) as pool:
            health = pool.submit(
                _timed, partial(target.call, "GET", "/api/health", signed_in=False), target.until
            )
            beats = pool.submit(_timed, beat, target.until)
        answers = ours.recv()
    finally:
        attacker.kill()
        attacker.join()
    spent_s = _cpu_s(pid) - spent_s
    others = f"health {health.result()}; a beat {beats.result()}"
    against = f"{LIMIT_MB} MB; {spent_s / seconds:.0%} of a core; {others}; {answers}"
    yield line(what, _peak_mb(pid), "MB", against=against)


def _attack(attack: int | None, at_once: int, ours: Connection) -> None:
    """Repeat the step of an attack in so many threads until its end, and send how often each answer came."""
    answers: Counter[str] = Counter()
    os.nice(10)  # control comes first, as on a machine of its own
    ours.send("ready")
    target = ours.recv()

    def repeat(step: Step) -> None:
        while time.time() < target.until:
            try:
                answers[step(target)] += 1
            except (OSError, HTTPException) as error:
                answers[type(error).__name__] += 1

    if attack is not None:
        for _ in range(at_once):
            threading.Thread(target=repeat, args=(ATTACKS[attack][2],), daemon=True).start()
    time.sleep(max(0.0, target.until - time.time()))
    ours.send(", ".join(f"{count} x {answer}" for answer, count in answers.most_common(4)))


def _timed(call: Callable[[], object], until: float) -> str:
    """Repeat a call until the end, and return how long it took."""
    took, failed = [], 0
    while time.time() < until:
        begun = time.perf_counter()
        try:
            failed += call() == "503"
        except (OSError, HTTPException, AssertionError):
            failed += 1
        took.append(time.perf_counter() - begun)
        time.sleep(0.05)
    took.sort()
    p99, most = took[int(len(took) * 0.99)] * 1000, took[-1] * 1000
    return f"p99 {p99:.0f} ms, at most {most:.0f} ms, {failed} of {len(took)} failed"


def _peak_mb(pid: int) -> float:
    status = dict(each.split(":", 1) for each in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def _runner(settings: Settings, url: str) -> Callable[[], object]:
    """Take all machines, so that what is submitted waits, and return the beat of one of them."""
    attempt_id, *_ = _attempts(settings, MACHINES)
    load = Assignment(url=url, pid=0, signer=Signer(settings.token_secret.get_secret_value()), waiting=[])
    load.post(attempt_id, "claim", Claim(machine_id="m-1"))
    numbers = itertools.count(1)
    return lambda: load.post(attempt_id, "heartbeat", Heartbeat(seq=next(numbers), outputs=[]))


def _target(settings: Settings, s3: LocalS3, url: str) -> Target:
    """Write a completed batch of 10,000 outputs, which are one object, and sign in."""
    engine = open_database(settings.database_url)
    store = Store(engine, settings, lambda: datetime.now(UTC))
    sources = [
        PlannedSource(
            source_id=add_source(store, f"{number}.mp4"), name=f"{number}.mp4", fingerprint=str(number)
        )
        for number in range(100)
    ]
    planned = plan(sources, variations=100, seed=1, new_id=lambda: new_id("out"))
    batch_id = batches.submit(store, planned)
    file = asdict(lay(TigrisStorage(**asdict(s3)), "outputs/one.mp4", b"x" * 10_000))
    arguments = ["-i", "file:SOURCE", "-filter_complex", "x" * 400, "file:OUTPUT"]
    with store.transaction() as tx:
        ended = {"status": "completed", "started_at": tx.now, "ended_at": tx.now}
        for job in tx.session.exec(select(Job).where(col(Job.batch_id) == batch_id)).all():
            attempt = {"app": "a", "image": "i", "state": "succeeded", "claimed_by": "m", "size": job.size}
            times = {"created_at": tx.now, "launch_after": tx.now, "ended_at": tx.now}
            id_ = f"{job.id}-1"
            tx.session.execute(insert(Attempt).values(id=id_, job_id=job.id, number=1, **attempt, **times))
            made = {**file, "state": "ready", "percent": 100.0, "ready_at": tx.now, "duration_s": 1.0}
            mine = update(Output).where(col(Output.job_id) == job.id)
            tx.session.execute(mine.values(**made, attempt_id=id_, ffmpeg_args=arguments))
            tx.session.execute(update(Job).where(col(Job.id) == job.id).values(**ended))
        expires = {"expires_at": tx.now + timedelta(hours=20)}
        tx.session.execute(update(Batch).where(col(Batch.id) == batch_id).values(**ended, **expires))
    engine.dispose()
    with httpx.Client(base_url=url, timeout=60) as http:
        sign_in(http, settings.auth_password.get_secret_value())
        link = urlsplit(ok(http.post(f"/api/batches/{batch_id}/download-link"), 200)["url"])
        share = ok(http.post(f"/api/batches/{batch_id}/share-link"), 201)["url"].rpartition("/")[2]
        where = urlsplit(url)
        return Target(
            host=where.hostname or "",
            port=where.port or 0,
            token=http.headers["Authorization"].removeprefix("Bearer "),
            batch_id=batch_id,
            output_ids=[output.output_id for job in planned.jobs for output in job],
            link=f"{link.path}?{link.query}",
            share=share,
        )


if __name__ == "__main__":
    for each in run(float(sys.argv[1]) if sys.argv[1:] else SECONDS, *sys.argv[2:]):
        print(each, flush=True)
