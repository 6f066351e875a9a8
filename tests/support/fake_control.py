"""Control and the bucket as the runner sees them: a real HTTP server that enforces the order of the protocol.

Real requests go through a real network connection, so what is tested is what runs. A call out of order is
answered as control would (409, 422), and `violations` keeps it for the test to look at.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from runner import jail
from runner.contract import (
    Claim,
    Effects,
    Finish,
    Heartbeat,
    JobSpec,
    OutputSpec,
    Preset,
    PutTarget,
    SourceSpec,
)

ATTEMPT_ID = "attempt-1"
TOKEN = "attempt-token-that-must-not-leak"
SIGNATURE = "signature-that-must-not-leak"
PASSING_BYTES = 1 << 16
PUT_HEADERS = {"If-None-Match": "*", "Content-Type": "video/mp4"}


@dataclass
class FakeControl:
    """The state of one attempt and one bucket, and switches for what goes wrong."""

    url: str = ""
    sources: dict[str, bytes] = field(default_factory=dict)
    outputs: list[tuple[str, str, Effects | Preset]] = field(default_factory=list)  # id, source id, recipe
    others: list[Effects] = field(default_factory=list)  # variations of each source that another job makes
    with_posters: bool = False
    are_foreign: bool = False  # the sources: their URLs are a user's
    send_bytes_max: int | None = None
    run_timeout_s: float = 60.0
    next_beat_s: float = 0.2
    proceed: bool = True
    owner: str | None = None
    # switches
    failing: dict[str, list[int]] = field(default_factory=dict)  # call or method -> statuses to answer first
    lost_answers: int = 0  # so many PUTs are stored, and then the connection is cut
    cut_gets: int = 0  # so many GETs end half-way
    tells_length: bool = True  # of what a GET gives
    away_until: float = 0.0  # control, not the bucket, answers 503 until this instant
    passing: Callable[[int], None] = lambda _: None  # called with so many of an object's bytes as they pass
    # what was seen
    objects: dict[str, bytes] = field(default_factory=dict)
    beats: list[Heartbeat] = field(default_factory=list)
    finish: Finish | None = None
    violations: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    gets: int = 0
    put_s: list[float] = field(default_factory=list)  # how long each PUT took
    lock: threading.Lock = field(default_factory=threading.Lock)

    def spec(self) -> JobSpec:
        """The answer to the claim."""
        return JobSpec(
            attempt_id=ATTEMPT_ID,
            sources=[
                SourceSpec(
                    source_id=key,
                    get_url=self._signed(f"source/{key}"),
                    size_bytes=len(body),
                    is_foreign=self.are_foreign,
                    variations=[*self._variations(key), *self.others],
                )
                for key, body in self.sources.items()
            ],
            outputs=[
                self._output(output_id, source_id, recipe) for output_id, source_id, recipe in self.outputs
            ],
            run_timeout_s=self.run_timeout_s,
            next_beat_s=self.next_beat_s,
            send_bytes_max=self.send_bytes_max,
            outbound_allow=[self.url.removeprefix("http://")] if self.are_foreign else [],
        )

    def statuses(self) -> dict[str, str]:
        """How each output ended: `ready`, or the code of its fault."""
        assert self.finish
        reports = self.finish.outputs
        return {r.output_id: r.error.code.value if r.error else r.status for r in reports}

    def env(self) -> dict[str, str]:
        """The whole environment of the runner."""
        return {
            "CONTROL_URL": self.url,
            "ATTEMPT_ID": ATTEMPT_ID,
            "ATTEMPT_TOKEN": TOKEN,
            "RUN_TIMEOUT_S": "120",
            "FLY_MACHINE_ID": "machine-1",
            **({"RUNNER_JAIL": "off"} if jail.is_off() else {}),  # where this machine can make none
        }

    def _variations(self, source_id: str) -> list[Effects]:
        return [recipe for _, of, recipe in self.outputs if of == source_id and isinstance(recipe, Effects)]

    def _output(self, output_id: str, source_id: str, recipe: Effects | Preset) -> OutputSpec:
        is_hls = recipe is Preset.HLS
        return OutputSpec(
            output_id=output_id,
            source_id=source_id,
            effects=recipe if isinstance(recipe, Effects) else None,
            preset=recipe if isinstance(recipe, Preset) else None,
            put_url=self._signed(f"output/{output_id}"),
            put_headers=PUT_HEADERS,
            playlist=self._target(f"playlist/{output_id}") if is_hls else None,
            media_name="my clip.mp4" if is_hls else "",
            poster=self._target(f"poster/{output_id}") if self.with_posters else None,
        )

    def _target(self, key: str) -> PutTarget:
        return PutTarget(url=self._signed(key), headers=PUT_HEADERS)

    def _signed(self, key: str) -> str:
        return f"{self.url}/bucket/{key}?X-Signature={SIGNATURE}"

    # --- the three calls ---

    def answer(self, call: str, body: bytes) -> tuple[int, Any]:
        """Return status and body for one call, and note what breaks the protocol."""
        with self.lock:
            self.calls.append(call)
            if time.monotonic() < self.away_until:
                return 503, {}
            if self.failing.get(call):
                return self.failing[call].pop(0), {}
            return {"claim": self._claim, "heartbeat": self._heartbeat, "finish": self._finish}[call](body)

    def _claim(self, body: bytes) -> tuple[int, Any]:
        machine_id = Claim.model_validate_json(body).machine_id
        if self.owner not in (None, machine_id):
            return 409, {}
        self.owner = machine_id
        return 200, self.spec().model_dump(mode="json") | {"a_field_of_the_future": 1}

    def _heartbeat(self, body: bytes) -> tuple[int, Any]:
        beat = Heartbeat.model_validate_json(body)
        if self.owner is None or self.finish:
            return self._violation("heartbeat outside of claim and finish")
        if self.beats and beat.seq <= self.beats[-1].seq:
            return self._violation("seq did not rise")
        self.beats.append(beat)
        self._check_bytes(beat.outputs)
        return 200, {"continue": self.proceed, "next_beat_s": self.next_beat_s}

    def _finish(self, body: bytes) -> tuple[int, Any]:
        finish = Finish.model_validate_json(body)
        if self.owner is None:
            return self._violation("finish before claim")
        if self.finish:
            return (200, {}) if finish == self.finish else self._violation("a second, different finish")
        if self.beats and finish.seq <= self.beats[-1].seq:
            return self._violation("seq did not rise")
        self.finish = finish
        self._check_bytes(finish.outputs)
        return 200, {}

    def _check_bytes(self, reports: list[Any]) -> None:
        for report in reports:
            files = {"output": report.file, "playlist": report.playlist, "poster": report.poster}
            for kind, file in files.items():
                stored = self.objects.get(f"{kind}/{report.output_id}")
                if file and (stored is None or len(stored) != file.size_bytes):
                    self._violation(f"{kind} of {report.output_id} is reported ready, but not stored")

    def _violation(self, what: str) -> tuple[int, Any]:
        self.violations.append(what)
        return 409, {}


@contextmanager
def fake_control() -> Iterator[FakeControl]:
    """Yield a control that is served until the block ends."""
    control = FakeControl()
    server = _Server(("127.0.0.1", 0), _Handler)
    server.control = control
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    control.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield control
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    control: FakeControl


class _Handler(BaseHTTPRequestHandler):
    """HTTP/1.0: every request has a connection of its own, so none stays open behind a test."""

    timeout = 10
    server: _Server

    @property
    def control(self) -> FakeControl:
        return self.server.control

    def do_POST(self) -> None:
        body = self._body()
        *_, attempt_id, call = self.path.split("/")
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self._send(401, b"{}")
        if attempt_id != ATTEMPT_ID:
            return self._send(404, b"{}")
        status, answer = self.control.answer(call, body)
        return self._send(status, json.dumps(answer).encode())

    def do_GET(self) -> None:
        self.control.gets += 1
        with self.control.lock:
            self.control.calls.append("GET")
        key = self._key()
        if key is None or self._fails("GET"):
            return None
        name = key.removeprefix("source/")
        if name not in self.control.sources:
            return self._send(404, b"")
        data, start = self.control.sources[name], 0
        if wanted := self.headers["Range"]:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        cut = self._take("cut_gets")
        self.send_response(206 if wanted else 200)
        if self.control.tells_length:
            self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        rest = data[start : start + (len(data) - start) // 2] if cut else data[start:]
        for at in range(0, len(rest), PASSING_BYTES):
            self.control.passing(len(rest[at : at + PASSING_BYTES]))
            self.wfile.write(rest[at : at + PASSING_BYTES])
        return None

    def do_PUT(self) -> None:
        started = time.monotonic()
        body, key = self._passed(), self._key()
        if len(body) < int(self.headers["Content-Length"]):
            self.close_connection = True
            return None
        self.control.put_s.append(time.monotonic() - started)
        if key is None or self._fails("PUT") or (key.startswith("poster/") and self._fails("poster")):
            return None
        with self.control.lock:
            self.control.calls.append("PUT")
            is_ours = key.startswith("output/")
            if is_ours and any(self.headers[name] != value for name, value in PUT_HEADERS.items()):
                return self._send(403, b"SignatureDoesNotMatch")
            if key in self.control.objects:
                return self._send(412, b"")
            self.control.objects[key] = body
        if self._take("lost_answers"):
            self.close_connection = True
            return None
        return self._send(200, b"")

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _passed(self) -> bytes:
        """Return the body, read piece by piece as the network lets it pass; less if its sender dies."""
        left, pieces = int(self.headers["Content-Length"]), []
        while left and (piece := self.rfile.read(min(left, PASSING_BYTES))):
            pieces.append(piece)
            self.control.passing(len(piece))
            left -= len(piece)
        return b"".join(pieces)

    def _key(self) -> str | None:
        path, _, query = self.path.partition("?")
        if query == f"X-Signature={SIGNATURE}":
            return path.removeprefix("/bucket/")
        return self._send(403, b"")

    def _fails(self, method: str) -> bool:
        with self.control.lock:
            status = self.control.failing[method].pop(0) if self.control.failing.get(method) else None
        if status:
            self._send(status, b"")
        return status is not None

    def _take(self, switch: str) -> bool:
        with self.control.lock:
            left = getattr(self.control, switch)
            setattr(self.control, switch, max(0, left - 1))
        return bool(left)

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay quiet: what matters is in `calls`."""
