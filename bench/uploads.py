"""The cost of an upload: parts sent in parallel against one stream, and the signing of their URLs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import httpx

from bench.line import line
from control.uploads.service import PART_BYTES
from infra.local.s3_server import local_s3
from infra.ports import Part
from infra.s3 import TigrisStorage
from video_refresher.uploads import PARALLEL_PARTS

PARTS = 16  # 256 MiB: a quarter of the gigabyte of the target
URLS = 1000


def run() -> Iterator[str]:
    """Send the same bytes in parts, several at once, and as one PUT; then sign URLs of parts."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, local_s3(Path(folder)) as s3:
        storage = TigrisStorage(**asdict(s3))
        one_s, parts_s = _one_stream(storage), _parts(storage)
        mb = PARTS * PART_BYTES / 1e6
        against = f"one stream of the same {mb:.0f} MB: {mb / one_s:.0f} MB/s"
        yield line(f"upload in {PARALLEL_PARTS} parallel parts", mb / parts_s, "MB/s", against=against)
        yield line(f"upload in {PARALLEL_PARTS} parallel parts", one_s / parts_s, "x", against=against)
        per_s = _signed_per_s(storage)
        against = f"the 128 parts of a 2 GiB upload: {128 / per_s * 1000:.0f} ms"
        yield line("presigned URLs", per_s, "per s", against=against)


def _one_stream(storage: TigrisStorage) -> float:
    url, headers = storage.sign_put("bench/one", expires_s=600)
    whole = (bytes(1 << 20) for _ in range(PARTS * PART_BYTES >> 20))
    headers["Content-Length"] = str(PARTS * PART_BYTES)
    start = time.perf_counter()
    httpx.put(url, content=whole, headers=headers, timeout=120).raise_for_status()
    return time.perf_counter() - start


def _parts(storage: TigrisStorage) -> float:
    content = bytes(PART_BYTES)
    multipart_id = storage.start_multipart("bench/parts", content_type="video/mp4")

    def send(number: int) -> Part:
        url = storage.sign_part("bench/parts", multipart_id, number, size_bytes=PART_BYTES, expires_s=600)
        answer = http.put(url, content=content).raise_for_status()
        return Part(number=number, etag=answer.headers["etag"])

    with httpx.Client(timeout=120) as http, ThreadPoolExecutor(PARALLEL_PARTS) as pool:
        start = time.perf_counter()
        storage.complete_multipart("bench/parts", multipart_id, list(pool.map(send, range(1, PARTS + 1))))
        return time.perf_counter() - start


def _signed_per_s(storage: TigrisStorage) -> float:
    storage.sign_part("bench/parts", "id", 1, size_bytes=PART_BYTES, expires_s=600)
    start = time.perf_counter()
    for number in range(URLS):
        storage.sign_part("bench/parts", "id", number, size_bytes=PART_BYTES, expires_s=600)
    return URLS / (time.perf_counter() - start)
