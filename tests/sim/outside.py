"""The outside of control: the real adapter over the model of Fly instead of HTTP, and a bucket in a dict."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from infra.fly.client import READS_MAX, FlyMachines
from infra.flysim.gate import Cut
from infra.flysim.validation import FlyError
from infra.ports import (
    ListedObject,
    Machine,
    MachineSpec,
    Part,
    Refusal,
    Refused,
    StoredObject,
    Unanswered,
    is_transient,
)
from infra.ratelimit import TokenBuckets
from tests.sim.protocol import SimWorld
from tests.sim.swarm import Mishap

CREATE_LATE_S = (1, 60)
PUT_LATE_S = (5, 60)
STALE_S = 2.0


@dataclass(frozen=True)
class _Request:
    method: str
    url: Any


@dataclass(frozen=True)
class _Url:
    path: str


class Answer:
    """As much of an HTTP answer as the adapter reads."""

    def __init__(self, method: str, path: str, status: int, body: Any) -> None:
        self.status_code, self._body = status, body
        self.request = _Request(method, _Url(path))
        self.headers: dict[str, str] = {}
        self.reason_phrase = str(status)
        self.is_success = status < 300

    def json(self) -> Any:
        """Return the body."""
        return self._body


class SimMachines(FlyMachines):
    """The adapter itself, limits, classes and adoption included; only the request is not HTTP."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        self._token, self._tokens = "token of the simulation", {}
        self._pause, self._monotonic_s = world.pause, lambda: world.t
        self._limited = threading.Lock()
        self._buckets = TokenBuckets()

    def create(self, spec: MachineSpec) -> Machine:
        """Create as ever; the judge hears for whom, and since when."""
        self._world.oracle.create_asked(spec.metadata["job"], spec.metadata["attempt"])
        return super().create(spec)

    def _reads(self, read: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Repeat a read as the adapter does, at even pauses."""
        for _ in range(READS_MAX - 1):
            try:
                return read()
            except Unanswered:
                self._world.pause(0.3)
        return read()

    def _send(self, method: str, path: str, **content: Any) -> Any:
        world = self._world
        is_create = method == "POST" and "name" in content["json"]
        dies = partial(
            world.crash_point, f"after fly {method}", Mishap.CRASH_IN_CREATE if is_create else Mishap.CRASH
        )
        world.io(f"fly {method}")
        world.pump()
        try:
            status, body = 200, self._ask(method, path, content)
        except FlyError as error:
            status, body = error.status, error.body
        except Cut as cut:
            dies()
            if "refused" in str(cut):
                raise Refused(Refusal.UNREACHABLE, str(cut), method=method, path=path) from None
            raise Unanswered(str(cut), method=method, path=path) from None
        finally:
            world.pump()
            world.oracle.check()
        name = content.get("json", {}).get("name", "")
        world.say(f"fly {method} {path[5:]} {name[-8:]}: {status} {_shown(body)}")
        dies()
        return Answer(method, path, status, body)

    def _ask(self, method: str, path: str, content: dict[str, Any]) -> Any:
        fly, world = self._world.fly, self._world
        _, _, app, _, *rest = path.split("/")
        if world.is_during(Mishap.TOKEN_REFUSED):
            raise FlyError(401, "token validation error")
        match method, rest:
            case "POST", []:
                if world.fires(Mishap.CREATE_LATE):
                    world.after(
                        world.injector.uniform(*CREATE_LATE_S), lambda: _quietly(fly, app, content["json"])
                    )
                    raise Cut("connection cut")
                return fly.create(app, content["json"])
            case "POST", [machine_id, "stop"]:
                return fly.stop(app, machine_id, content["json"])
            case "DELETE", [machine_id]:
                return fly.destroy(app, machine_id, force=True)
            case "GET", []:
                query = content["params"]
                wanted = {key[9:]: value for key, value in query.items() if key.startswith("metadata.")}
                return fly.list(app, metadata=wanted, include_deleted="include_deleted" in query)
            case "GET", [machine_id]:
                return fly.get(app, machine_id)
        raise AssertionError(f"the model is not asked for {method} {path}")


def _shown(body: Any) -> str:
    """Return an answer in a few words."""
    if isinstance(body, list):
        return " ".join(f"{one['id'][:4]} {one['state']}" for one in body)
    return f"{body['id'][:4]} {body['state']}" if body and "id" in body else str(body)


def _quietly(fly: Any, app: str, body: Any) -> None:
    """Do a create that nobody waits for any more."""
    try:
        fly.create(app, body)
    except (FlyError, Cut):
        return


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An object, and the machine that made it."""

    size_bytes: int
    md5: str
    sha256: str
    machine_id: str


class SimBucket:
    """Implements what of `infra.ports.Storage` the core uses; `put` is what a signed URL does."""

    def __init__(self, world: SimWorld) -> None:
        self._world = world
        self.objects: dict[str, Stored] = {}
        self._stale_until: dict[str, float] = {}
        self.changes = 0

    def _reach(self, what: str) -> None:
        """Raise what the adapter raises when this call goes wrong."""
        self._world.io(f"bucket {what}")
        status = self._failing()
        if status is not None:
            self._world.say(f"bucket {what}: {status}")
            if is_transient(status):
                raise Unanswered("the bucket is busy or has a fault", status=status)
            raise Refused(Refusal.INVALID, "the bucket refused", status=status)

    def _failing(self) -> int | None:
        """Return the status of a call that is not done, or None for one that is."""
        world = self._world
        if world.is_during(Mishap.PATH_STYLE_REFUSED):
            return 405
        if world.is_during(Mishap.BUCKET_AWAY) or world.fires(Mishap.BUCKET_SLOW_DOWN):
            return 503
        return 408 if world.fires(Mishap.BUCKET_TIMEOUT) else None

    def put(self, url: str, headers: dict[str, str], item: Stored, then: Callable[[int], None]) -> None:
        """Do a PUT to a signed URL and tell its status, maybe late; who began it may be dead by then."""
        late_s = self._world.injector.uniform(*PUT_LATE_S) if self._world.fires(Mishap.PUT_LATE) else 0.0
        self._world.after(late_s, lambda: then(self._put(url, headers, item)))

    def _put(self, url: str, headers: dict[str, str], item: Stored) -> int:
        if (status := self._failing()) is not None:
            return status
        if headers.get("If-None-Match") == "*" and url in self.objects:
            return 412
        if self._world.fires(Mishap.PUT_VANISHES):
            return 200
        self.objects[url] = item
        if self._world.fires(Mishap.STALE_HEAD):
            self._stale_until[url] = self._world.t + STALE_S
        self.changes += 1
        self._world.oracle.check()
        return 200

    def sign_put(self, key: str, *, expires_s: int) -> tuple[str, dict[str, str]]:
        """Return the key itself: nobody else can read it here."""
        return key, {"If-None-Match": "*"}

    def sign_get(self, key: str, *, expires_s: int) -> str:
        """Return the key itself."""
        return key

    def head(self, key: str, *, is_fresh: bool = False) -> StoredObject | None:
        """Return what is stored, and seen; what was stored just now is waited for, as the adapter does."""
        self._reach("head")
        if (stale_s := self._stale_until.get(key, 0.0) - self._world.t) > 0:
            if not is_fresh:
                return None
            self._world.pause(stale_s)
        item = self.objects.get(key)
        return StoredObject(size_bytes=item.size_bytes, etag=item.md5) if item else None

    def delete(self, key: str) -> None:
        """Delete what is stored."""
        self._reach("delete")
        self.objects.pop(key, None)
        self.changes += 1
        self._world.crash_point("after bucket delete")

    def list_objects(self, prefix: str, *, after: str = "", limit: int = 1000) -> list[ListedObject]:
        """Return what is stored there."""
        self._reach("list")
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)[:limit]
        now = self._world.now()
        return [
            ListedObject(key=key, size_bytes=self.objects[key].size_bytes, modified_at=now) for key in keys
        ]

    def delete_many(self, keys: list[str]) -> None:
        """Delete what is stored, one after another."""
        for key in keys:
            self.delete(key)

    def abort_multipart(self, key: str, multipart_id: str) -> None:
        """Not used by the passes."""
        raise AssertionError

    def complete_multipart(self, key: str, multipart_id: str, parts: list[Part]) -> None:
        """Not used by the passes."""
        raise AssertionError
