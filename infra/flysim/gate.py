"""The entrance of the model of Fly: which requests and which answers pass. Pure.

Knows rate limits, tokens and the faults between caller and machines. Must never know what a request does.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

from infra.flysim.events import EventQueue
from infra.flysim.faults import FailPoint, FaultInjector
from infra.flysim.validation import FlyError
from infra.ratelimit import GET_MACHINE, ORDINARY, TokenBuckets

T = TypeVar("T")


class Action(StrEnum):
    """The kinds of requests; limits are counted per action."""

    CREATE = "create"
    LIST = "list"
    GET = "get"
    EVENTS = "events"
    WAIT = "wait"
    STOP = "stop"
    SIGNAL = "signal"
    DESTROY = "destroy"


READS = frozenset({Action.LIST, Action.GET, Action.EVENTS, Action.WAIT})
APP_REFUSALS = (
    (401, "Authenticate: token validation error"),
    (403, "unauthorized: the token is not valid for this app"),
)
UNAVAILABLE = ((502, "bad gateway"), (503, "service unavailable"), (504, "gateway timeout"))
AMBIGUOUS = ((408, "deadline_exceeded: context deadline exceeded"), (500, "internal: unknown error"))


class Cut(Exception):
    """There is no answer: the connection was refused, or it was cut before one."""


class Gate:
    """Lets a request and its answer pass, or stops one of them."""

    def __init__(self, queue: EventQueue, injector: FaultInjector) -> None:
        self._queue, self._injector = queue, injector
        self._buckets, self._began = TokenBuckets(), queue.now

    def through(self, action: Action, app: str, do: Callable[[], T], *, machine_id: str = "") -> T:
        """Return the result of `do`. Raises FlyError or Cut; `do` may have been called before.

        `machine_id` is empty for a create or a list, whose rate limit is that of the app.
        """
        self._let_in(action, app, machine_id or app)
        answer = do()
        self._let_out(action)
        return answer

    def _let_in(self, action: Action, app: str, scope: str) -> None:
        if self._strikes(FailPoint.REFUSED):
            raise Cut("connection refused")
        refused_apps = self._injector.faults.refused_apps
        if (not refused_apps or app in refused_apps) and self._strikes(FailPoint.APP_REFUSED):
            raise FlyError(*APP_REFUSALS[self._injector.one_of(len(APP_REFUSALS))])
        self._count(action, scope)
        if self._strikes(FailPoint.UNAVAILABLE):
            raise FlyError(*UNAVAILABLE[self._injector.one_of(len(UNAVAILABLE))])
        if action in READS:
            if self._strikes(FailPoint.READ_LOST):
                raise Cut("connection cut")
        elif self._strikes(
            FailPoint.CREATE_LOST_UNDONE if action is Action.CREATE else FailPoint.END_LOST_UNDONE
        ):
            self._lose()

    def _let_out(self, action: Action) -> None:
        if action not in READS:
            fail_point = FailPoint.CREATE_LOST_DONE if action is Action.CREATE else FailPoint.END_LOST_DONE
            if self._strikes(fail_point):
                self._lose()

    def _count(self, action: Action, scope: str) -> None:
        """Refuse what is over the rate limit. The body of Fly's 429 is not known."""
        rate = GET_MACHINE if action is Action.GET else ORDINARY
        now_s = (self._queue.now - self._began).total_seconds()
        if self._injector.faults.rate_limits and self._buckets.take((action, scope), rate, now_s):
            self._injector.hits[FailPoint.RATE_LIMITED] += 1
            raise FlyError(429, "rate limit exceeded")

    def _lose(self) -> None:
        kind = self._injector.one_of(len(AMBIGUOUS) + 1)
        if kind == len(AMBIGUOUS):
            raise Cut("connection cut")
        raise FlyError(*AMBIGUOUS[kind])

    def _strikes(self, fail_point: FailPoint) -> bool:
        return self._injector.fires(fail_point, now=self._queue.now)
