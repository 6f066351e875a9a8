"""A ZIP of 1 GiB through control, against reading the same objects from the bucket itself."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from bench.line import line
from control.settings import load_settings
from control.store import Store
from control.store.database import open_database
from infra.local.s3_server import local_s3
from infra.s3 import TigrisStorage
from tests.support.maker import completed, lay, settings_of
from tests.support.stack import Part
from tests.support.user import ok, sign_in

OBJECT_BYTES, OBJECTS, TIMES_EACH = 64 * 1024**2, 4, 4  # 1 GiB in all
ROUNDS = 3  # of each side, alternating; the best of each counts


def run() -> Iterator[str]:
    """Read both alternately, and print the ratio and the memory that the download cost control."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name, local_s3(Path(name, "s3")) as s3:
        settings = settings_of(Path(name), s3)
        storage = TigrisStorage(**asdict(s3))
        files = [lay(storage, f"{n}.mp4", os.urandom(OBJECT_BYTES)) for n in range(OBJECTS)] * TIMES_EACH
        engine = open_database(settings["database_url"])
        batch_id = completed(Store(engine, load_settings(**settings), lambda: datetime.now(UTC)), files)
        engine.dispose()
        direct = [storage.sign_get(file.key, expires_s=3600) for file in files]
        env = {key.upper(): value for key, value in settings.items()}
        control = Part(Path(name), "serve", "--host", "127.0.0.1", "--port", 0, env=env)
        control.start()
        try:
            zip_url = _link(control.facts["url"], control.facts["password"], batch_id)
            _seconds([zip_url])  # the first use is not measured
            before = _peak_mib(control.pid)
            rounds = [(_seconds([zip_url]), _seconds(direct)) for _ in range(ROUNDS)]
            grown = _peak_mib(control.pid) - before
        finally:
            control.kill()
    zip_s, direct_s = (min(side) for side in zip(*rounds, strict=True))
    mib = OBJECT_BYTES * len(files) / 1024**2
    against = f"the same objects directly from the bucket: {mib / direct_s:.0f} MiB/s"
    yield line("ZIP of 1 GiB, rate", mib / zip_s, "MiB/s", against=against)
    yield line("ZIP of 1 GiB, rate", direct_s / zip_s, "x", against="the same")
    yield line("ZIP of 1 GiB, peak of control's memory", before + grown, "MiB", against=f"{grown:+.1f} MiB")


def _link(url: str, password: str, batch_id: str) -> str:
    with httpx.Client(base_url=url) as http:
        sign_in(http, password)
        link: str = ok(http.post(f"/api/batches/{batch_id}/download-link"), 200)["url"]
    return url + "/" + link.split("/", 3)[3]


def _seconds(urls: Sequence[str]) -> float:
    """Return the seconds to read these one after another with the plainest Python."""
    buffer = bytearray(256 * 1024)
    start = time.perf_counter()
    for url in urls:
        parts = urlsplit(url)
        connection = HTTPConnection(parts.netloc)
        connection.request("GET", f"{parts.path}?{parts.query}")
        answer = connection.getresponse()
        assert answer.status == 200, answer.status
        while answer.readinto(buffer):
            pass
        connection.close()
    return time.perf_counter() - start


def _peak_mib(pid: int) -> float:
    """Return the peak memory of a process (Linux)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) / 1024 if found else 0.0
