"""Whether the process lives, and whether what it stands on answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from math import inf

from fastapi import APIRouter, Response

from control.errors import ErrorBody
from control.log import failure
from control.parts import Parts
from control.shapes import Health, Ready

LOOK_EVERY_S = 2.0


def routes(parts: Parts) -> APIRouter:
    """Return `/api/health` and `/api/ready`, which need no token."""
    router = APIRouter(prefix="/api", tags=["health"])
    readiness = _Readiness(
        {
            "database": parts.views.active_jobs,
            "storage": parts.storage.check,
            "machines": lambda: _require_an_answer(parts),
        }
    )

    @router.get("/health")
    def health() -> Health:
        """Answer while the process lives."""
        active = parts.views.active_jobs()
        return Health(status="ok", version=version("video-refresher"), active_jobs=active)

    @router.get("/ready", responses={503: {"model": Ready}, 500: {"model": ErrorBody}})
    def ready(response: Response) -> Ready:
        """Answer 200 when every part works, else 503 with the failing part named."""
        states = readiness.look()
        is_ready = set(states.values()) == {"ok"}
        response.status_code = 200 if is_ready else 503
        return Ready(ready=is_ready, parts=states)

    return router


class _Readiness:
    """Looks at the parts, at most every LOOK_EVERY_S however many ask: nobody needs a token to."""

    def __init__(self, checks: Mapping[str, Callable[[], object]]) -> None:
        self._checks = checks
        self._lock = threading.Lock()
        self._states: dict[str, str] = {}
        self._fresh_until = -inf  # on the monotonic clock

    def look(self) -> Mapping[str, str]:
        """Return the state of each part: `ok`, or what is wrong."""
        with self._lock:
            if time.monotonic() >= self._fresh_until:
                self._states = {name: _state(name, check) for name, check in self._checks.items()}
                self._fresh_until = time.monotonic() + LOOK_EVERY_S
            return self._states


def _state(name: str, check: Callable[[], object]) -> str:
    try:
        check()
    except Exception as error:  # noqa: BLE001 - whatever it is, the part does not work
        failure("not_ready", error, part=name)
        return "does not answer"
    return "ok"


def _require_an_answer(parts: Parts) -> None:
    if parts.cloud.refused is not None:
        raise RuntimeError(f"Fly refuses our token: {parts.cloud.refused}")
    if parts.cloud.silent:
        raise RuntimeError("Fly did not answer the last time that it was asked")
