"""The cost of open event streams: memory for each idle one, and the time until all receive a change."""

from __future__ import annotations

import os
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from bench.line import line
from control.http.sse import STREAMS_MAX

# A control without passes, so only the streams are measured: it serves one batch that waits for ever.
_SERVER = """
import sys
from pathlib import Path
from control import app
from control.cli import local
from control.app import create_app
from control.domain.ids import new_id
from control.planning.planner import PlannedSource, plan
from control.settings import load_settings
from control.store import Store, batches
from control.store.tables import Source
from infra.local.serve import listen, serving, url_of
app.PASSES = (lambda parts: None,)
app.PASSES[0].__name__ = "idle"
app.SLOW_PASSES = ((app.PASSES[0], 3600),)
listener = listen()
settings = load_settings(
    auth_password="a password of the bench", token_secret="bench", public_url=url_of(listener),
    aws_endpoint_url_s3="http://127.0.0.1:1", aws_access_key_id="k", aws_secret_access_key="s",
    bucket_name="b", fly_api_token="t", runner_apps="a", runner_image="i",
    database_url="sqlite:///" + sys.argv[1],
)
control = create_app(settings)
store = Store(app.open_database(settings.database_url), settings, app._now)
with store.transaction() as tx:
    tx.session.add(Source(id="src", name="a.mp4", key="k", size_bytes=1, etag="e", duration_s=1, width=1,
                          height=1, created_at=tx.now))
source = PlannedSource(source_id="src", name="a.mp4", fingerprint="e")
batch = batches.submit(store, plan([source], variations=10, seed=1, new_id=lambda: new_id("out")))
with serving(control, listener=listener, on_stop=control.state.drain) as url:
    print(url, batch, flush=True)
    sys.stdin.read()
"""


def run() -> Iterator[str]:
    """Open the allowed number of streams, and then change their batch."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        command = [sys.executable, "-c", _SERVER, str(Path(folder, "control.db"))]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as server:
            assert server.stdout
            url, batch_id = server.stdout.readline().split()
            yield from _measured(url, batch_id, server.pid)


def _measured(url: str, batch_id: str, pid: int) -> Iterator[str]:
    with httpx.Client(base_url=url) as http:
        password = {"password": "a password of the bench"}
        http.headers["Authorization"] = f"Bearer {http.post('/api/auth', json=password).json()['token']}"
        path = f"/api/batches/{batch_id}/events"
        shown = f"/api/batches/{batch_id}"
        for _ in range(20):  # modules that the first requests load do not count
            http.get(shown)
        _close(_open(url, path, http.headers["Authorization"], 10))
        time.sleep(1)
        before_kb = _resident_kb(pid)
        streams = _open(url, path, http.headers["Authorization"], STREAMS_MAX)
        time.sleep(1)
        each_kb = (_resident_kb(pid) - before_kb) / STREAMS_MAX
        against = f"control with none open: {before_kb / 1024:.0f} MB"
        yield line("memory of an open stream", each_kb, f"kB, {STREAMS_MAX} open", against=against)
        start = time.perf_counter()
        http.post(f"{shown}/cancel").raise_for_status()
        answered_s = time.perf_counter() - start
        _until_all_closed(streams)
        all_s = time.perf_counter() - start
        against = f"the answer to the request that made it: {answered_s * 1000:.0f} ms"
        yield line(f"a change heard by {STREAMS_MAX} streams", all_s * 1000, "ms", against=against)
        _close(streams)


def _open(url: str, path: str, authorization: str, count: int) -> list[socket.socket]:
    """Return sockets on which a stream has begun."""
    host = urlsplit(url)
    streams = [socket.create_connection((host.hostname or "", host.port or 80)) for _ in range(count)]
    request = f"GET {path} HTTP/1.1\r\nHost: {host.netloc}\r\nAuthorization: {authorization}\r\n\r\n"
    for stream in streams:
        stream.sendall(request.encode())
        while b"event: state" not in stream.recv(65536):
            pass
    return streams


def _until_all_closed(streams: list[socket.socket]) -> None:
    """Return when each stream has received its end."""
    with selectors.DefaultSelector() as waiting:
        for stream in streams:
            waiting.register(stream, selectors.EVENT_READ)
        while waiting.get_map():
            for key, _ in waiting.select():
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                heard = ready.recv(1 << 20)
                assert heard, "a stream closed before its end was received"
                if b"event: end" in heard:
                    waiting.unregister(ready)


def _close(streams: list[socket.socket]) -> None:
    for stream in streams:
        stream.close()


def _resident_kb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024
