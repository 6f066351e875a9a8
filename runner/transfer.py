"""Transfers between this machine and the bucket, by signed URLs alone, and from and to URLs of users.

A URL must not be logged or be part of an exception: any reader could use it. Requests to the bucket
have signed headers only. One file, since both directions share their retries and limits.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import BinaryIO

import urllib3

from runner.allowance import Allowance, SendLimit
from runner.contract import OutputFault, PutTarget, SourceSpec
from runner.probe import OutputFailure
from runner.retry import RetryableError, is_transient, retrying
from runner.stop import Stopped

OUTAGE_S_MAX = 300.0  # if the bucket answers again by then, the attempt goes on; a stop ends the wait earlier
PAUSE_S_MAX = 30.0
CHUNK_BYTES = 1 << 20
GONE_AGAIN_AFTER_S = 3.0  # a 404 of a source is asked once more, so much later
FOREIGN_OUTAGE_S_MAX = 60.0  # a user's server: the machine is billed while it waits
FOREIGN_S_MAX = 1200.0  # 2 GiB at 14 Mbit/s
SHORT_TRY_S = 60.0  # of a delivery to a server that has failed before

_http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(connect=5, read=30), maxsize=8)


class StorageUnavailable(Exception):
    """The bucket does not answer or refuses. The cause is not the file: another attempt may succeed."""


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """The size and checksums of a file, read in one pass."""

    size_bytes: int
    sha256: str
    md5: str
    crc32: int


def fetch(source: SourceSpec, path: Path, *, stop: Event, allow: Collection[str] = ()) -> None:
    """Write the source to `path`. An interrupted transfer from the bucket continues where it ended.

    A user's URL may reach a private address only if `allow` names its host and port.
    Raises OutputFailure(SOURCE_GONE, SOURCE_UNREACHABLE or SOURCE_TOO_LARGE), StorageUnavailable, or Stopped.
    """
    if source.is_foreign:
        _fetch_foreign(source, path, stop=stop, allow=allow)
        return
    path.touch()

    def persist() -> None:
        _persist(lambda: _fetch_once(source, path, stop=stop), what="the source", stop=stop)

    try:
        persist()
    except _NotFound:  # or uploaded just now, and not seen yet where this machine is
        stop.wait(GONE_AGAIN_AFTER_S)
        persist()


def upload(target: PutTarget, file: BinaryIO, size_bytes: int, *, stop: Event, allowance: Allowance) -> None:
    """PUT the file. 412 means that an earlier try has stored it, although its answer was lost.

    Raises StorageUnavailable, SendLimit, or Stopped.
    """

    def once() -> None:
        headers = {**target.headers, "Content-Length": str(size_bytes)}
        with closing(allowance.counted(_chunks(file, stop=stop), size_bytes)) as body:
            answer = _http.request("PUT", target.url, headers=headers, body=body, redirect=False)
        _judge(answer.status, accepted=(200, 201, 204, 412))

    _persist(once, what="the output", stop=stop)


class Deliveries:
    """PUTs outputs to users' URLs. Safe to use from several threads.

    A user's server must not cost an output, whatever it does. So deliveries send at most half of the
    allowance: control reserves each output twice. And a server that was given up once gets a single short
    try for each further output, until one succeeds.
    """

    def __init__(self, allowance: Allowance, *, allow: Collection[str], stop: Event) -> None:
        self._allowance, self._half = allowance, allowance.half()
        self._allow, self._stop = allow, stop
        self._away: set[str] = set()  # hosts and ports

    def deliver(self, url: str, file: BinaryIO, size_bytes: int) -> str | None:
        """PUT the file. Return None, or a sentence that says why it failed. Raises Stopped."""
        from infra import outbound  # a run without URLs of users does not pay for it

        try:
            place = outbound.target(url, allow=self._allow).place
            self._put(url, file, size_bytes, is_away=place in self._away)
        except (_Unreachable, outbound.Forbidden) as refused:
            if isinstance(refused, _Away):
                self._away.add(place)
            return f"The URL of the output did not accept it: {refused}"
        except SendLimit as limit:
            return f"The output was not sent to its URL, within the bytes that may be sent: {limit}."
        self._away.discard(place)
        return None

    def _put(self, url: str, file: BinaryIO, size_bytes: int, *, is_away: bool) -> None:
        from infra import outbound

        headers = {"Content-Length": str(size_bytes), "Content-Type": "video/mp4"}
        within_s, outage_s = (FOREIGN_S_MAX, FOREIGN_OUTAGE_S_MAX) if not is_away else (SHORT_TRY_S, 0.0)

        def once() -> None:
            with ExitStack() as bodies:  # one for each redirect

                def body() -> Iterator[bytes]:
                    chunks: Iterator[bytes] = _chunks(file, stop=self._stop)
                    for allowance in (self._half, self._allowance):
                        chunks = bodies.enter_context(closing(allowance.counted(chunks, size_bytes)))
                    return chunks

                call = outbound.request(
                    "PUT", url, allow=self._allow, headers=headers, body=body, within_s=within_s
                )
                with call as answer:
                    _judge_foreign(answer.status, accepted=(200, 201, 202, 204))

        _persist_foreign(once, stop=self._stop, within_s=within_s, outage_s=outage_s)


def fingerprint(file: BinaryIO) -> Fingerprint:
    """Return the file's size and sums."""
    sha256, md5, crc32, size_bytes = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0, 0
    for chunk in _chunks(file):
        sha256.update(chunk)
        md5.update(chunk)
        crc32 = zlib.crc32(chunk, crc32)
        size_bytes += len(chunk)
    return Fingerprint(size_bytes=size_bytes, sha256=sha256.hexdigest(), md5=md5.hexdigest(), crc32=crc32)


class _NotFound(OutputFailure):
    """The bucket says that it has no such object."""


def _fetch_once(source: SourceSpec, path: Path, *, stop: Event) -> None:
    have_bytes = path.stat().st_size
    headers = {"Range": f"bytes={have_bytes}-"} if have_bytes else {}
    answer = _http.request("GET", source.get_url, headers=headers, redirect=False, preload_content=False)
    try:
        if answer.status in (404, 410):
            kind = _NotFound if answer.status == 404 else OutputFailure
            raise kind(OutputFault.SOURCE_GONE, "The uploaded video is no longer stored.")
        _judge(answer.status, accepted=(200, 206))
        _save(answer, path, append=answer.status == 206, bytes_max=source.size_bytes, stop=stop)
    except urllib3.exceptions.HTTPError as error:
        raise RetryableError(type(error).__name__, headway=path.stat().st_size > have_bytes) from None
    finally:
        answer.close()
    if path.stat().st_size < source.size_bytes:
        raise RetryableError("cut", headway=path.stat().st_size > have_bytes)


class _Unreachable(Exception):
    """A user's URL cannot be used. The message says why, without the URL."""


class _Away(_Unreachable):
    """The server did not answer well for as long as it is waited for."""


def _fetch_foreign(source: SourceSpec, path: Path, *, stop: Event, allow: Collection[str]) -> None:
    """Write what a user's URL returns.

    Each try starts at the first byte: the server may return other bytes.
    """
    from infra import outbound  # a run without URLs of users does not pay for it

    headers = {"Accept-Encoding": "identity"}

    def once() -> None:
        fetched = outbound.request(
            "GET", source.get_url, allow=allow, headers=headers, within_s=FOREIGN_S_MAX
        )
        with fetched as answer:
            _judge_foreign(answer.status, accepted=(200,))
            length = answer.headers.get("Content-Length", "")
            if length.isdecimal() and int(length) > source.size_bytes:
                raise _too_large(source.size_bytes)
            _save_foreign(answer, path, bytes_max=source.size_bytes, stop=stop)

    try:
        _persist_foreign(once, stop=stop, within_s=FOREIGN_S_MAX, outage_s=FOREIGN_OUTAGE_S_MAX)
    except _Unreachable as why:
        message = f"The video's URL cannot be fetched: {why}"
        raise OutputFailure(OutputFault.SOURCE_UNREACHABLE, message) from None


def _save_foreign(answer: urllib3.BaseHTTPResponse, path: Path, *, bytes_max: int, stop: Event) -> None:
    with path.open("wb") as file:
        while chunk := answer.read1(
            CHUNK_BYTES, decode_content=False
        ):  # what has arrived: the server may send slowly
            if stop.is_set():
                raise Stopped
            if file.tell() + len(chunk) > bytes_max:
                raise _too_large(bytes_max)
            file.write(chunk)


def _too_large(bytes_max: int) -> OutputFailure:
    message = f"The file behind the URL is larger than {bytes_max} bytes, which is the limit."
    return OutputFailure(OutputFault.SOURCE_TOO_LARGE, message)


def _judge_foreign(status: int, *, accepted: tuple[int, ...]) -> None:
    if is_transient(status):
        raise RetryableError(f"its server answered {status}")
    if status not in accepted:
        raise _Unreachable(f"its server answered {status}.")


def _persist_foreign(call: Callable[[], None], *, stop: Event, within_s: float, outage_s: float) -> None:
    """Call until it succeeds. Raises _Unreachable, and _Away when the server failed for `outage_s`.

    A call that took longer than `within_s`, its own limit, is not repeated, and is _Away too; so is one that
    failed when no more may be sent. Raises SendLimit if that was so at the first try.
    """
    failure: RetryableError | None = None

    def once() -> None:
        nonlocal failure
        try:
            _call_foreign(call, within_s=within_s)
        except RetryableError as error:
            failure = error
            raise
        except SendLimit as limit:
            if failure is None:
                raise
            raise _Away(f"{failure}. It was not tried again: {limit}.") from None

    try:
        retrying(once, stop=stop, outage_s=outage_s, pause_s_max=PAUSE_S_MAX)
    except RetryableError as last:
        raise _Away(f"{last}.") from None


def _call_foreign(call: Callable[[], None], *, within_s: float) -> None:
    """Call once. Raises RetryableError, _Away and _Unreachable with words for a user."""
    from infra.outbound import Forbidden, Late, NoSuchHost

    try:
        call()
    except Late:
        raise _Away(f"it was not done within {within_s:.0f} s.") from None
    except NoSuchHost:
        raise _Unreachable("there is no server of this name. See whether it is written right.") from None
    except Forbidden as refused:
        raise _Unreachable(str(refused)) from None
    except urllib3.exceptions.HTTPError as error:
        raise RetryableError(_in_words(error)) from None


def _in_words(error: urllib3.exceptions.HTTPError) -> str:
    match error:
        case urllib3.exceptions.NameResolutionError():
            return "the name of its server cannot be looked up"
        case urllib3.exceptions.ConnectTimeoutError() | urllib3.exceptions.NewConnectionError():
            return "its server cannot be reached"
        case urllib3.exceptions.SSLError():
            return "its server has no valid certificate"
    return "its server broke off"


def _save(answer: urllib3.BaseHTTPResponse, path: Path, *, append: bool, bytes_max: int, stop: Event) -> None:
    with path.open("ab" if append else "wb") as file:
        for chunk in answer.stream(CHUNK_BYTES, decode_content=False):
            if stop.is_set():
                raise Stopped
            file.write(chunk)
            if file.tell() > bytes_max:
                raise StorageUnavailable("the stored source is larger than control says")


def _judge(status: int, *, accepted: tuple[int, ...]) -> None:
    if is_transient(status) or status == 409:  # S3: a conflicting operation is under way, try again
        raise RetryableError(str(status))
    if status not in accepted:
        raise StorageUnavailable(f"the bucket answered {status}")


def _persist(call: Callable[[], None], *, what: str, stop: Event) -> None:
    """Call until it succeeds. Raises StorageUnavailable when the bucket did not answer for OUTAGE_S_MAX."""

    def once() -> None:
        try:
            call()
        except urllib3.exceptions.HTTPError as error:
            raise RetryableError(type(error).__name__) from None

    try:
        retrying(once, stop=stop, outage_s=OUTAGE_S_MAX, pause_s_max=PAUSE_S_MAX)
    except RetryableError as last:
        why = f"the bucket was away for {OUTAGE_S_MAX:.0f} s, the last try failed with {last}"
        raise StorageUnavailable(f"{what}: {why}") from None


def _chunks(file: BinaryIO, *, stop: Event | None = None) -> Iterator[bytes]:
    """Yield the open file from its start. It stays the same file, even if its name is used for another."""
    file.seek(0)
    while chunk := file.read(CHUNK_BYTES):
        if stop and stop.is_set():
            raise Stopped
        yield chunk
