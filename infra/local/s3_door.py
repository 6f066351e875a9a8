"""A door in front of the local S3 server that can answer as the real Tigris was seen to.

Requests go on as they came, `Host` included, so that signatures hold: one request for each connection, its
body as it comes. What goes wrong is chosen at the start or by `PUT /admin/faults`, as at the local Fly, with
the server's secret key as bearer token. Must never be used for a deployment.

One file, since a request and its faults are handled in one connection.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hmac import compare_digest
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from infra.local.s3_server import LocalS3

HEAD_BYTES_MAX = 64 * 1024
CHUNK_BYTES = 64 * 1024


class DoorFault(StrEnum):
    """What the door can do to a request. Each is counted when it does."""

    SLOW_DOWN = "slow_down"  # 503: not done
    REQUEST_TIMEOUT = "request_timeout"  # 408: not done
    STALE_READ = "stale_read"  # 404 of an object made less than `stale_s` ago, whatever the read asks for
    LIFECYCLE_REFUSED = "lifecycle_refused"  # 501 for a rule that Tigris does not document
    PATH_STYLE_REFUSED = "path_style_refused"  # 405: the bucket's name must be in the host


ANSWERS: Mapping[DoorFault, tuple[str, str]] = {
    DoorFault.SLOW_DOWN: ("503 Slow Down", "SlowDown"),
    DoorFault.REQUEST_TIMEOUT: ("408 Request Timeout", "RequestTimeout"),
    DoorFault.STALE_READ: ("404 Not Found", "NoSuchKey"),
    DoorFault.LIFECYCLE_REFUSED: ("501 Not Implemented", "NotImplemented"),
    DoorFault.PATH_STYLE_REFUSED: ("405 Method Not Allowed", "MethodNotAllowed"),
}
ALWAYS = (DoorFault.PATH_STYLE_REFUSED, DoorFault.SLOW_DOWN, DoorFault.REQUEST_TIMEOUT)  # of any request


@dataclass(frozen=True, kw_only=True)
class DoorFaults:
    """How the bucket behaves. By default nothing goes wrong."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}  # for code that reads this from JSON

    # How likely each is where it can happen. The dice are seeded: the same requests meet the same faults.
    rates: Mapping[DoorFault, float] = field(default_factory=dict)
    stale_s: float = 2.0


_FAULTS = TypeAdapter(DoorFaults)


def faults_from_json(content: bytes) -> DoorFaults:
    """Return the faults of a JSON document. Raises ValueError with a sentence."""
    try:
        return _FAULTS.validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


@dataclass(frozen=True)
class _Request:
    """The head of a request, as it came."""

    raw: bytes

    @property
    def method(self) -> str:
        return self.raw.partition(b" ")[0].decode("latin-1")

    @property
    def target(self) -> str:
        return self.raw.split(b" ", 2)[1].decode("latin-1")

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> str:
        return urlsplit(self.target).query

    def header(self, name: str) -> str:
        found = re.search(rb"(?im)^" + name.encode() + rb": *([^\r]*)\r$", self.raw)
        return found[1].decode("latin-1") if found else ""

    @property
    def body_bytes(self) -> int:
        """How long the body is that its sender sends unasked."""
        is_asked_for = "100-continue" in self.header("expect").lower()
        return 0 if is_asked_for else int(self.header("content-length") or 0)

    @property
    def creates(self) -> bool:
        """Whether it makes an object that was not there before, as far as the request tells."""
        is_put = self.method == "PUT" and self.header("if-none-match") == "*"
        return is_put or (self.method == "POST" and "uploadId=" in self.query)

    def closing(self) -> bytes:
        """Return the head so that its answer is the connection's last."""
        rest = re.sub(rb"(?im)^connection: [^\r]*\r\n", b"", self.raw.removesuffix(b"\r\n"))
        return rest + b"Connection: close\r\n\r\n"


class Door:
    """What happens to each request. `set` and `hits` may be used from any thread."""

    def __init__(self, s3: LocalS3, faults: DoorFaults) -> None:
        self.hits: Counter[str] = Counter()
        self._secret = s3.secret_access_key
        self._upstream = urlsplit(s3.endpoint)
        self._stale_until: dict[str, float] = {}
        self._tasks = set[asyncio.Future[None]]()
        self.set(faults)

    def set(self, faults: DoorFaults) -> None:
        """Behave so from now on."""
        self.faults = faults
        self._random = random.Random("the door")  # noqa: S311 - no secret

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection, which is one request."""
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        """End all connections."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with _closed(writer):
                await self._answer(_Request(await reader.readuntil(b"\r\n\r\n")), reader, writer)

    async def _answer(
        self, request: _Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if request.path == "/admin/faults":
            content = await reader.readexactly(request.body_bytes)
            writer.write(self._administer(request, content))
        elif fault := self._fault(request):
            self.hits[fault] += 1
            left = request.body_bytes
            while left > 0 and (chunk := await reader.read(min(left, CHUNK_BYTES))):
                left -= len(chunk)  # who is still sending would not see the answer
            status, code = ANSWERS[fault]
            xml = f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode()
            writer.write(_answer(status, b"" if request.method == "HEAD" else xml, "application/xml"))
        else:
            await self._pass_on(request, reader, writer)
        await writer.drain()

    def _fault(self, request: _Request) -> DoorFault | None:
        """Return what goes wrong with this request, if anything."""
        for fault in ALWAYS:
            if self._strikes(fault):
                return fault
        if (
            request.method == "PUT"
            and "lifecycle" in request.query
            and self._strikes(DoorFault.LIFECYCLE_REFUSED)
        ):
            return DoorFault.LIFECYCLE_REFUSED
        now = asyncio.get_running_loop().time()
        is_read = request.method in ("GET", "HEAD") and "uploadId=" not in request.query
        if is_read and now < self._stale_until.get(request.path, now):
            return DoorFault.STALE_READ
        return None

    def _strikes(self, fault: DoorFault) -> bool:
        return self._random.random() < self.faults.rates.get(fault, 0.0)

    async def _pass_on(
        self, request: _Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        host, port = self._upstream.hostname, self._upstream.port
        from_server, to_server = await asyncio.open_connection(host, port)
        async with _closed(to_server):
            to_server.write(request.closing())
            upwards = asyncio.create_task(_copy(reader, to_server))
            try:
                await self._answer_of_server(request, from_server, writer)
            finally:
                upwards.cancel()
                await asyncio.gather(upwards, return_exceptions=True)

    async def _answer_of_server(
        self, request: _Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        answer = await reader.read(CHUNK_BYTES)
        if request.creates and answer.startswith(b"HTTP/1.1 100"):
            writer.write(answer)
            answer = await reader.read(CHUNK_BYTES)
        if request.creates and answer.startswith(b"HTTP/1.1 200") and self._strikes(DoorFault.STALE_READ):
            now = asyncio.get_running_loop().time()
            self._stale_until = {path: at for path, at in self._stale_until.items() if at > now}
            self._stale_until[request.path] = now + self.faults.stale_s
        writer.write(answer)
        await _copy(reader, writer)

    def _administer(self, request: _Request, content: bytes) -> bytes:
        """Return the answer to a request for the faults, which sets them if it is a PUT."""
        token = request.header("authorization").removeprefix("Bearer ")
        if not compare_digest(token.encode(), self._secret.encode()):
            return _answer("401 Unauthorized", b'{"error": "this needs the secret key as bearer token"}')
        if request.method == "PUT":
            try:
                self.set(faults_from_json(content))
            except ValueError as error:
                return _answer("400 Bad Request", json.dumps({"error": str(error)}).encode())
        state = {"faults": _FAULTS.dump_python(self.faults, mode="json"), "hits": dict(self.hits)}
        return _answer("200 OK", json.dumps(state).encode())


def _answer(status: str, content: bytes, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\nConnection: close"
    return head.encode() + b"\r\n\r\n" + content


@asynccontextmanager
async def _closed(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Close the connection at the end of the block, however it ends."""
    try:
        yield
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()


@dataclass(frozen=True, kw_only=True)
class LocalDoor:
    """How to reach a running door: `s3` is the server as it is seen through it."""

    s3: LocalS3
    door: Door


@contextmanager
def local_door(s3: LocalS3, *, port: int = 0, faults: DoorFaults | None = None) -> Iterator[LocalDoor]:
    """Yield a door in front of the server, closed when the block ends. Raises OSError for a taken `port`."""
    door, loop = Door(s3, faults or DoorFaults()), asyncio.new_event_loop()
    server = loop.run_until_complete(
        asyncio.start_server(door.accept, "127.0.0.1", port, limit=HEAD_BYTES_MAX)
    )
    endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    thread = threading.Thread(target=loop.run_forever, name="s3-door")
    thread.start()
    try:
        yield LocalDoor(s3=replace(s3, endpoint=endpoint), door=door)
    finally:
        loop.call_soon_threadsafe(server.close)
        asyncio.run_coroutine_threadsafe(door.end(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
