"""The interfaces to the outside world that control and runner use, as small types and protocols.

Adapters (`fly`, `s3`) implement these; tests may use fakes that pass the same conformance suites.
Must import nothing but the standard library, since all other packages depend on this file.
One file, since it states, once for all adapters, what each method of a port promises.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import BinaryIO, Protocol

Clock = Callable[[], datetime]  # returns an aware UTC instant


# --- errors ---------------------------------------------------------------------------------------


class Refusal(StrEnum):
    """Why an outside service certainly did not do a call, and what the caller should do."""

    CAPACITY = "capacity"  # no room in any named region: wait and show it
    RATE_LIMITED = "rate_limited"  # too many calls: wait a moment and show it
    UNREACHABLE = "unreachable"  # nothing was sent: wait and show it
    UNAUTHORIZED = "unauthorized"  # our token is refused for this app: use other apps until it is replaced
    MACHINE_LIMIT = "machine_limit"  # the organisation may have no more machines: wait and run fewer
    PAYMENT_REQUIRED = "payment_required"  # the organisation must pay first: stop launching, show it
    IMAGE_NOT_FOUND = "image_not_found"  # the registry lacks the image, maybe for seconds: wait and show it
    INVALID = "invalid"  # refused for any other reason: repeating it rarely helps


class OutsideError(Exception):
    """A call to an outside service failed. Carries what may be logged: never headers, env or signed URLs."""

    def __init__(
        self,
        message: str,
        *,
        method: str = "",
        path: str = "",
        status: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.method, self.path = message, method, path
        self.status, self.request_id = status, request_id

    def __str__(self) -> str:
        where = f"{self.method} {self.path}".strip()
        facts = [where, str(self.status or ""), self.message, self.request_id or ""]
        return " · ".join(fact for fact in facts if fact)


class Refused(OutsideError):
    """The call was certainly not done. `refusal` says what to do about it."""

    def __init__(self, refusal: Refusal, message: str, **where: object) -> None:
        super().__init__(message, **where)  # type: ignore[arg-type]
        self.refusal = refusal


class Unanswered(OutsideError):
    """The call may have been done or not (time-out, 408, 5xx, a cut connection): call again, never assume."""


class NotStarted(RuntimeError):
    """A server that should run on this machine did not start. The message says why."""


def is_transient(status: int) -> bool:
    """Return whether the same HTTP request may succeed later: a time-out, a rate limit, a failing server."""
    return status in (408, 429) or status >= 500


# --- machines -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class MachineSpec:
    """The machine to create. `name` makes the create idempotent: it is derived from the attempt."""

    app: str
    name: str
    image: str
    regions: Sequence[str]  # ordered: the first with capacity wins
    size: str  # guest preset, such as "performance-2x"
    env: Mapping[str, str]
    metadata: Mapping[str, str]
    command: Sequence[str] = ()  # in place of the image's own
    is_started: bool = True  # False: it is made and stays `created`, which costs only its root file system


@dataclass(frozen=True, kw_only=True)
class MachineExit:
    """How a machine's main process ended, from the exit event."""

    exit_code: int
    signal: int  # 0 when it was not killed by one
    oom_killed: bool
    requested_stop: bool
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine as the cloud last showed it. Its state is observed, never assumed."""

    app: str
    id: str
    name: str
    state: str  # Fly's own word: created, starting, started, stopped, destroying, destroyed, ...
    region: str
    created_at: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)
    started_at: datetime | None = None  # first time in `started`: billed from here to `exit.at`
    exit: MachineExit | None = None
    destroyed_at: datetime | None = None
    host_ok: bool = True  # False: these facts may be old, and a request may take effect much later

    @property
    def is_gone(self) -> bool:
        """True when the cloud itself says that the machine no longer exists, so that it costs nothing."""
        return self.state == "destroyed"


class Machines(Protocol):
    """The Machines API as control uses it. Every method may raise `Refused` or `Unanswered`."""

    def room(self, app: str) -> int:
        """Return how many creates the app's rate limit allows right now. Makes no request."""
        ...

    def create(self, spec: MachineSpec) -> Machine:
        """Return the machine named `spec.name`: made now, or one that exists already (it is adopted).

        After `Unanswered` a machine may exist: call again with the same spec.
        """
        ...

    def list(self, app: str, metadata: Mapping[str, str]) -> list[Machine]:
        """Return the app's machines whose metadata holds `metadata`, destroyed ones included.

        A machine that one list lacks may still exist: lists may be late.
        """
        ...

    def get(self, app: str, machine_id: str) -> Machine | None:
        """Return one machine, or None when the cloud no longer knows it."""
        ...

    def stop(self, app: str, machine_id: str, *, timeout_s: float) -> None:
        """Stop the process: SIGTERM, then SIGKILL after `timeout_s`. A machine that is gone is a success."""
        ...

    def destroy(self, app: str, machine_id: str) -> None:
        """Destroy the machine, running or not. A machine that is gone is a success."""
        ...


# --- storage --------------------------------------------------------------------------------------

# The longest life of a signed URL: servers refuse a longer one.
# https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html (2026-11), X-Amz-Expires
SIGNED_S_MAX = 7 * 86_400


@dataclass(frozen=True, kw_only=True)
class Part:
    """One stored part of a multipart upload."""

    number: int  # from 1
    etag: str


@dataclass(frozen=True, kw_only=True)
class StoredPart(Part):
    """A part as the bucket lists it."""

    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class OpenMultipart:
    """A multipart upload that was neither completed nor aborted."""

    key: str
    multipart_id: str
    started_at: datetime


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """The facts of an object from a HEAD. `etag` has no quotes; of a single PUT it is the MD5 in hex."""

    size_bytes: int
    etag: str


@dataclass(frozen=True, kw_only=True)
class ListedObject:
    """The facts of an object from a listing."""

    key: str
    size_bytes: int
    modified_at: datetime  # by the bucket's clock


class Storage(Protocol):
    """The bucket as control uses it. All but `sign_*` may raise `Refused` or `Unanswered`.

    `expires_s` is at most SIGNED_S_MAX.
    """

    def check(self) -> None:
        """Return when the bucket answers to our key; raise otherwise."""
        ...

    def start_multipart(self, key: str, *, content_type: str) -> str:
        """Open a multipart upload and return its id."""
        ...

    def sign_part(self, key: str, multipart_id: str, number: int, *, size_bytes: int, expires_s: int) -> str:
        """Return a URL, as browsers reach the bucket, that PUTs one part of exactly this size."""
        ...

    def put_part(self, key: str, multipart_id: str, number: int, content: BinaryIO) -> Part:
        """Store one part, read from the start of `content`, which must seek: it may be sent again."""
        ...

    def list_parts(self, key: str, multipart_id: str) -> list[StoredPart]:
        """Return the parts that are surely stored, in order; none of an upload that is not open."""
        ...

    def list_multiparts(self, prefix: str) -> list[OpenMultipart]:
        """Return the open multipart uploads whose key begins with `prefix`."""
        ...

    def complete_multipart(self, key: str, multipart_id: str, parts: Sequence[Part]) -> None:
        """Join the parts. Refused(INVALID) when one is missing or differs; repeating it is success."""
        ...

    def abort_multipart(self, key: str, multipart_id: str) -> None:
        """Abort a multipart upload and drop its parts. One that is gone is a success."""
        ...

    def sign_put(self, key: str, *, expires_s: int) -> tuple[str, dict[str, str]]:
        """Return a URL that creates the object once, and the headers that must be sent with it.

        The signature covers `If-None-Match: *`: a second PUT answers 412 and changes nothing.
        """
        ...

    def sign_get(self, key: str, *, expires_s: int) -> str:
        """Return a URL, as our own programs reach the bucket, that reads the object."""
        ...

    def sign_download(self, key: str, *, expires_s: int, disposition: str, content_type: str) -> str:
        """Return a URL, as browsers reach the bucket, that answers with these headers."""
        ...

    def head(self, key: str, *, is_fresh: bool = False) -> StoredObject | None:
        """Return the object's size and ETag, or None if there is none, also in a second try soon after.

        `is_fresh`: it is known to have been stored just now, so it is asked for over some seconds.
        """
        ...

    def read(self, key: str, start: int, stop: int) -> bytes:
        """Return the bytes `start <= i < stop`, fewer at the end of the object."""
        ...

    def delete(self, key: str) -> None:
        """Delete the object. One that is gone is a success."""
        ...

    def list_objects(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[ListedObject]:
        """Return the first objects under `prefix` whose key follows `after`, at most `limit` (1000).

        Fewer than `limit` are the last ones.
        """
        ...

    def delete_many(self, keys: Sequence[str]) -> None:
        """Delete at most 1000 objects in one call.

        One that is gone is a success. After an error some may be left.
        """
        ...

    def allowed_origins(self) -> frozenset[str]:
        """Return the origins whose pages may PUT by signed URLs; none when the bucket has no such rule."""
        ...

    def set_rules(self, origins: Sequence[str]) -> str | None:
        """Let pages of exactly these origins use signed URLs, and have unfinished uploads dropped in time.

        Replaces the bucket's rules, so a repeat changes nothing. The second rule is optional: returns why the
        bucket refused it, or None.
        """
        ...
