"""The thread limits of routes: each class of routes has its own, so that no class can starve another.

A route gets its class from its router (`route_class=API.route`) or from a decorator (`@FLY`).
`require_threads` refuses a route without one. A route that never blocks is `async` and needs no thread.
docs/decisions/0019-threads.md explains the numbers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial, wraps
from inspect import iscoroutinefunction
from math import inf
from typing import Any, ParamSpec, TypeVar

from anyio import CapacityLimiter, WouldBlock, move_on_after, to_thread
from anyio.lowlevel import RunVar
from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from control.domain.errors import Code, ControlError

RETRY_AFTER_S = 2

Given = ParamSpec("Given")
Answer = TypeVar("Answer")

_counted_elsewhere = RunVar[CapacityLimiter]("no limit: the class has counted the thread already")


class Busy(ControlError):
    """All threads of the class are busy. Nothing was done, so the client may repeat the call."""

    def __init__(self, name: str) -> None:
        message = f"Control has as many calls for {name} under way as it takes. Try again in a few seconds."
        super().__init__(Code.UNAVAILABLE, message, headers={"Retry-After": str(RETRY_AFTER_S)})


@dataclass(frozen=True, eq=False)
class Threads:
    """A class of routes: at most `total` calls run at once; a further call waits up to `patience_s`.

    The limit holds for each event loop. `name` completes the sentence "as many calls for ...".
    """

    name: str
    total: int
    patience_s: float = inf
    _limiter: RunVar[CapacityLimiter] = field(init=False, default_factory=lambda: RunVar("threads"))

    async def run(self, work: Callable[Given, Answer], *args: Given.args, **named: Given.kwargs) -> Answer:
        """Run `work` in a thread of this class and return its result. Raises Busy, and what `work` raises."""
        limiter, place = _of_this_loop(self._limiter, self.total), object()
        await self._take(limiter, place)
        try:
            free = _of_this_loop(_counted_elsewhere, inf)
            return await to_thread.run_sync(partial(work, *args, **named), limiter=free)
        finally:
            limiter.release_on_behalf_of(place)

    async def _take(self, limiter: CapacityLimiter, place: object) -> None:
        try:
            limiter.acquire_on_behalf_of_nowait(place)
        except WouldBlock:
            with move_on_after(self.patience_s) as patience:
                await limiter.acquire_on_behalf_of(place)
            if patience.cancelled_caught:
                raise Busy(self.name) from None

    def __call__(self, work: Callable[Given, Answer]) -> Callable[Given, Awaitable[Answer]]:
        """Return an async function that runs `work` in these threads."""

        @wraps(work)
        async def in_threads(*args: Given.args, **named: Given.kwargs) -> Answer:
            return await self.run(work, *args, **named)

        return in_threads

    @cached_property
    def route(self) -> type[APIRoute]:
        """The route class of a router whose routes run in these threads."""
        threads = self

        class Route(APIRoute):
            def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
                is_async = iscoroutinefunction(endpoint)
                super().__init__(path, endpoint if is_async else threads(endpoint), **options)

        return Route


RUNNER = Threads("runners", 16)
REPORTS = Threads("looks at reported outputs", 16, patience_s=1.0)  # a runner waits 4 s for an answer
HEALTH = Threads("health", 2)
API = Threads("rows", 6, patience_s=10.0)  # a page of lists may take 10 MB; a flood leaves a short queue
# Bound by the CPU, so more at once would not be faster; 10,000 outputs take up to 60 MB in each thread.
PLANNING = Threads("plans", 2, patience_s=10.0)
BATCHES = Threads("whole batches", 2, patience_s=10.0)
BUCKET = Threads("the bucket", 16, patience_s=0)
FLY = Threads("Fly", 1, patience_s=0)
SHARED = Threads("shared batches", 2, patience_s=2.0)  # whole batches, for anyone with a link
SIGN_IN = Threads("sign-ins", 2)
METRICS = Threads("metrics", 1)
STREAMS = Threads("event streams", 4)


def require_threads(router: APIRouter) -> APIRouter:
    """Return the router if all of its routes have a thread class. Raises TypeError for one that has none.

    The framework would run such a route in a pool that all of them share.
    """
    for route in [each for each in router.routes if isinstance(each, APIRoute)]:
        for call in _calls(route.dependant):
            if not (iscoroutinefunction(call) or iscoroutinefunction(type(call).__call__)):
                raise TypeError(f"{route.path}: {call} has no threads of its own (control/http/threads.py)")
    return router


def _calls(dependant: Dependant) -> Iterator[Callable[..., Any]]:
    if dependant.call is not None:
        yield dependant.call
    for each in dependant.dependencies:
        yield from _calls(each)


def _of_this_loop(limiter: RunVar[CapacityLimiter], total: float) -> CapacityLimiter:
    try:
        return limiter.get()
    except LookupError:
        limiter.set(CapacityLimiter(total))
        return limiter.get()
