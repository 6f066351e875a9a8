"""Whether the process lives, and whether the services that it needs answer. Anyone may ask, at any rate.

So no request waits long, and no request thread waits for an outside service. Each part has a thread of its
own that checks it, one check at a time, however many requests there are.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from importlib.metadata import version
from math import inf

from fastapi import APIRouter, Response

from control.context import AppContext
from control.http.errors import ErrorBody
from control.http.threads import HEALTH
from control.store.database import require_writable
from control.telemetry.log import log_failure
from control.views.schemas.health import Health, Ready
from infra.ports import Refusal

LOOK_EVERY_S = 2.0
ANSWER_S = 1.0  # how long an answer waits for a running check; then it uses the last result
FIRST_S = 6.0  # how long when there is no last result: the check of the bucket has timed out by then
KEPT_S = 15.0  # how old the last result may be: a check that takes longer is a failure itself
SILENT = "does not answer"
BLOCKED = {
    Refusal.UNAUTHORIZED: "Fly refuses our token for the app {app}",
    Refusal.PAYMENT_REQUIRED: "Fly asks for a payment method before it makes machines in the app {app}",
}


def routes(context: AppContext) -> APIRouter:
    """Return `/api/health` and `/api/ready`, which need no token."""
    router = APIRouter(prefix="/api", tags=["health"], route_class=HEALTH.route)
    watched = {
        "database": _Part("database", lambda: _require_database(context)),
        "storage": _Part("storage", lambda: _require_storage(context)),
        "machines": _Part("machines", lambda: _require_an_answer(context)),
    }

    @router.get("/health")
    def health() -> Health:
        """Answer while the process lives."""
        active = context.views.active_jobs()
        return Health(status="ok", version=version("video-refresher"), active_jobs=active)

    @router.get("/ready", responses={503: {"model": Ready}, 500: {"model": ErrorBody}})
    async def ready(response: Response) -> Ready:
        """Answer 200 when every part works, else 503 with the failing part named; within a second or so."""
        states = await _states(watched)
        is_ready = set(states.values()) == {"ok"}
        response.status_code = 200 if is_ready else 503
        return Ready(ready=is_ready, parts=states)

    return router


async def _states(watched: Mapping[str, _Part]) -> dict[str, str]:
    """Return the state of each part: `ok`, or the problem."""
    is_first = not all(part.was_seen for part in watched.values())
    looks = [look for part in watched.values() if (look := part.look())]
    if looks:
        await asyncio.wait(map(asyncio.wrap_future, looks), timeout=FIRST_S if is_first else ANSWER_S)
    return {name: part.state for name, part in watched.items()}


class _Wrong(Exception):
    """A problem whose text may be shown to anyone."""


class _Part:
    """One of the services that control needs, with its last state. Call its methods on the event loop."""

    def __init__(self, name: str, check: Callable[[], object]) -> None:
        self._name, self._check = name, check
        self._look: Future[str] | None = None
        self._began_s = -inf  # on the monotonic clock, like all times here
        self._seen, self._seen_s = "", -inf

    def look(self) -> Future[str] | None:
        """Start a check if the last result is too old. Return the check that an answer should wait for."""
        now_s = time.monotonic()
        is_under_way = self._look is not None and not self._look.done()
        if not is_under_way and now_s >= self._began_s + LOOK_EVERY_S:
            self._began_s, self._look, is_under_way = now_s, self._begun(), True
        is_worth_a_wait = not self.was_seen or now_s < self._began_s + ANSWER_S
        return self._look if is_under_way and is_worth_a_wait else None

    @property
    def was_seen(self) -> bool:
        """Return whether a check has ever ended."""
        return bool(self._seen)

    @property
    def state(self) -> str:
        """`ok`, or the problem."""
        return self._seen if time.monotonic() < self._seen_s + KEPT_S else SILENT

    def _begun(self) -> Future[str]:
        look = Future[str]()

        def run() -> None:
            self._seen = _state(self._name, self._check)
            self._seen_s = time.monotonic()
            look.set_result(self._seen)

        threading.Thread(target=run, name=f"look at {self._name}", daemon=True).start()
        return look


def _state(name: str, check: Callable[[], object]) -> str:
    try:
        check()
    except Exception as error:  # noqa: BLE001 - whatever it is, the part does not work
        log_failure("not_ready", error, part=name)
        return str(error) if isinstance(error, _Wrong) else SILENT
    return "ok"


def _require_database(context: AppContext) -> None:
    context.views.active_jobs()
    try:
        require_writable(context.settings.database_url)
    except OSError as error:
        raise _Wrong("its disk cannot be written to") from error


def _require_storage(context: AppContext) -> None:
    context.storage.check()
    if context.cloud.rules_wrong is not None:
        raise _Wrong(context.cloud.rules_wrong)


def _require_an_answer(context: AppContext) -> None:
    for app, blocked in sorted(context.cloud.blocked.items()):
        raise _Wrong(BLOCKED[blocked.refusal].format(app=app))
    if context.cloud.silent:
        raise RuntimeError(f"Fly did not answer for {', '.join(sorted(context.cloud.silent))}")
