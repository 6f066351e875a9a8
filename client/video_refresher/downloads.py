"""Saves a ZIP to a file, and resumes an interrupted download."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import httpx
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from video_refresher.api import Api, address

CHUNK_BYTES = 256 * 1024
TRIES_MAX = 5
_TAG = re.compile("[0-9A-Za-z_-]{1,64}")  # an ETag that is safe in a file name

OnProgress = Callable[[int, int], object]  # called with the bytes so far, and the bytes in all


def save(api: Api, id_: str, out: Path, on_progress: OnProgress = lambda *_: None) -> None:
    """Write the ZIP of a job or batch to `out`. That file is either complete or not there.

    An interrupted download stays beside it, in a file that has the ETag of the archive in its name. So bytes
    of two archives are never mixed. Raises ApiError, and httpx.TransportError after too many broken
    connections.
    """
    try:
        _go_on(api, id_, out, on_progress).replace(out)
    finally:
        _partial(out, "").unlink(missing_ok=True)


@retry(
    retry=retry_if_exception_type(httpx.TransportError),
    stop=stop_after_attempt(TRIES_MAX),
    wait=wait_random_exponential(max=10),
    reraise=True,
)
def _go_on(api: Api, id_: str, out: Path, on_progress: OnProgress) -> Path:
    """Get the missing bytes, and return the file that then has all of them."""
    part, start, tag = _left(out)
    headers = {"Range": f"bytes={start}-", "If-Range": f'"{tag}"'} if tag else {}
    with api.stream(f"{address(id_)}/download", headers=headers) as answer:
        if answer.status_code != httpx.codes.PARTIAL_CONTENT:
            for stale in _partials(out):
                stale.unlink()
            part, start = _partial(out, answer.headers.get("etag", "").strip('"')), 0
        size_bytes = start + int(answer.headers["content-length"])
        with part.open("r+b" if start else "wb") as file:
            file.truncate(start)
            file.seek(start)
            for chunk in answer.iter_raw(CHUNK_BYTES):
                file.write(chunk)
                on_progress(file.tell(), size_bytes)
    if part.stat().st_size != size_bytes:
        raise httpx.ReadError("the connection ended too early", request=answer.request)
    return part


def _left(out: Path) -> tuple[Path, int, str]:
    """Return the file of an interrupted download, the byte to resume from, and the ETag of its archive.

    The last byte is requested again, because a range that starts at the end of the archive would be refused.
    """
    for part in _partials(out):
        return part, max(0, part.stat().st_size - 1), part.name.removesuffix(".part").rpartition(".")[2]
    return out, 0, ""


def _partial(out: Path, tag: str) -> Path:
    """Return the partial file for the archive with this ETag; without an ETag it cannot be resumed."""
    return out.with_name(f"{out.name}.{tag}.part" if _TAG.fullmatch(tag) else f"{out.name}.part")


def _partials(out: Path) -> list[Path]:
    begin = f"{out.name}."
    return [
        path
        for path in out.parent.iterdir()
        if path.name.startswith(begin)
        and path.name.endswith(".part")
        and _TAG.fullmatch(path.name[len(begin) : -len(".part")])
    ]
