"""The faults of Fly, as an input to the model: how often, when, and for how long. Pure, stdlib only.

The same seed and the same requests give the same history. Must never decide what a fault does: `gate`,
`fleet`, `machine` and `record` do, each at the place that a `FailPoint` names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from random import Random
from typing import Any, ClassVar

Seconds = tuple[float, float]  # shortest, longest: drawn evenly from between
CAPACITY_ANSWERS = ("insufficient_capacity", "aborted", "aborted_412", "quota")


class FailPoint(StrEnum):
    """A place where a fault can happen. Each is counted when it affects a request or a machine."""

    # any request
    REFUSED = "refused"  # no connection: not done
    UNAVAILABLE = "unavailable"  # 502, 503 or 504: not done
    READ_LOST = "read_lost"  # a read's connection is cut
    CREATE_LOST_DONE = "create_lost_done"  # 408, 500 or a cut connection, and a machine was made
    CREATE_LOST_UNDONE = "create_lost_undone"  # the same answers, and none was made
    END_LOST_DONE = "end_lost_done"  # the same for stop, signal and destroy
    END_LOST_UNDONE = "end_lost_undone"
    APP_REFUSED = "app_refused"  # 401 or 403: our token does not reach this app (`Faults.refused_apps`)
    # create
    PAYMENT_REQUIRED = "payment_required"  # 422 or 403: the organisation has no payment method
    MACHINE_LIMIT = "machine_limit"  # 422: the organisation has as many machines as it may have
    IMAGE_NOT_FOUND = "image_not_found"  # 400: the registry does not have the image, or not yet
    NO_CAPACITY = "no_capacity"  # in none of the named regions
    TWIN = "twin"  # the name is held, but Fly does not see it: two machines with one name
    SIZE_REFUSED = "size_refused"  # 422: the organisation may not use this kind of CPU
    # reads
    UNSEEN = "unseen"  # a new machine is 404 to reads for `unseen_s`
    LIST_LAG = "list_lag"  # a change shows in lists only after `list_lag_s`
    EMPTY_LIST = "empty_list"  # 200 with nothing in it
    PARTIAL_LIST = "partial_list"  # 200 with some machines missing
    GONE_IS_404 = "gone_is_404"  # a GET of a destroyed machine is 404 while lists still show it
    # a machine's life
    STUCK_FOR_HOURS = "stuck_for_hours"  # stays `created` for `stuck_s`, then boots
    STUCK_FOR_EVER = "stuck_for_ever"  # stays `created`
    START_FAILED = "start_failed"  # ends in `failed`, without a process
    LAUNCH_FAILED = "launch_failed"  # `launch_failed`, then destroyed, without a process
    EXITS = "exits"  # the process ends by itself with code 1 after `death_s`
    KILLED = "killed"  # the process dies of SIGSEGV
    OUT_OF_MEMORY = "out_of_memory"  # the kernel kills the process: 137, oom_killed
    STAYS_STOPPED = "stays_stopped"  # auto_destroy does not happen
    SHOWN_STOPPED = "shown_stopped"  # auto_destroy takes `stopped_s`, and the machine is `stopped` until then
    LATE_DESTROY = "late_destroy"  # a destroy is accepted and done only `late_destroy_s` later
    HOST_CUT_OFF = "host_cut_off"  # the host does not answer for `host_away_s`; the process runs on, a zombie
    HOST_DOWN = "host_down"  # the same, but the process died; that shows when the host is back
    # counted only: they follow from the requests
    RATE_LIMITED = "rate_limited"
    REGION_FULL = "region_full"  # skipped for the next region of the list


@dataclass(frozen=True, kw_only=True)
class Window:
    """A time during which a fail point has another rate, in seconds since the faults were set."""

    fail_point: FailPoint
    from_s: float
    until_s: float
    rate: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Faults:
    """The behaviour of Fly. By default limits are enforced, there are no faults, and nothing takes time."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}  # for code that reads this from JSON

    rate_limits: bool = True  # 429 over the documented limits
    rates: Mapping[FailPoint, float] = field(
        default_factory=dict
    )  # the probability of each, where it can happen
    windows: Sequence[Window] = ()
    capacity: Mapping[str, int] = field(
        default_factory=dict
    )  # machines per region; a region that is not named has no limit
    capacity_answer: str = CAPACITY_ANSWERS[0]
    machine_limit: int | None = None  # machines that the organisation may have; None: no limit
    refused_cpu_kinds: Sequence[str] = ()  # of SIZE_REFUSED; a free trial has no "performance" CPUs
    refused_apps: Sequence[str] = ()  # the apps of APP_REFUSED; none named: all of them
    pull_s: Seconds = (0, 0)  # in `created`
    boot_s: Seconds = (0, 0)  # in `starting`
    unseen_s: Seconds = (1, 10)
    list_lag_s: Seconds = (1, 30)
    stuck_s: Seconds = (600, 10_000)
    death_s: Seconds = (0, 300)
    stopped_s: Seconds = (1, 30)
    late_destroy_s: Seconds = (10, 600)
    host_lost_s: Seconds = (0, 300)  # from the start of the process
    host_away_s: Seconds = (60, 7200)
    retention_s: float = 24 * 3600  # how long a destroyed machine can be read; Fly's real value is not known

    def __post_init__(self) -> None:
        if self.capacity_answer not in CAPACITY_ANSWERS:
            raise ValueError(f"capacity_answer must be one of {', '.join(CAPACITY_ANSWERS)}")


def reboot(*, from_s: float, down_s: float, cold_s: float) -> tuple[Window, Window]:
    """Return a restart of the API: no connection for `down_s`, then lists that are empty for `cold_s`.

    As in https://fly.io/infra-log/ machines-api-duplicates.
    """
    back_s = from_s + down_s
    return (
        Window(fail_point=FailPoint.REFUSED, from_s=from_s, until_s=back_s),
        Window(fail_point=FailPoint.EMPTY_LIST, from_s=back_s, until_s=back_s + cold_s),
    )


class FaultInjector:
    """Decides at random which faults happen, and counts them in `hits`."""

    def __init__(self, rng: Random, faults: Faults, *, since: datetime) -> None:
        self._rng = rng
        self.hits: Counter[str] = Counter()
        self.set(faults, since=since)

    def set(self, faults: Faults, *, since: datetime) -> None:
        """Use `faults` from now on; their windows count from `since`."""
        self.faults, self._since = faults, since

    def draws(self, fail_point: FailPoint, *, now: datetime) -> bool:
        """Return whether this fail point should fail now, without counting it."""
        rate = self._rate(fail_point, now)
        return rate > 0 and self._rng.random() < rate

    def fires(self, fail_point: FailPoint, *, now: datetime) -> bool:
        """Return whether this fail point fails now, and count it if so."""
        drawn = self.draws(fail_point, now=now)
        if drawn:
            self.hits[fail_point] += 1
        return drawn

    def among(self, fail_points: Sequence[FailPoint], *, now: datetime) -> FailPoint | None:
        """Return the first of the fail points that should fail, if any, without counting it."""
        return next((fail_point for fail_point in fail_points if self.draws(fail_point, now=now)), None)

    def seconds(self, span: Seconds) -> float:
        """Return a random time within the span."""
        shortest, longest = span
        return self._rng.uniform(shortest, longest) if longest > shortest else shortest

    def one_of(self, count: int) -> int:
        """Return a number from 0 to `count - 1`."""
        return self._rng.randrange(count)

    def some_of(self, items: list[Any]) -> list[Any]:
        """Return about half of the items, in order, at least one of them missing."""
        missing = self._rng.randrange(len(items))
        return [item for n, item in enumerate(items) if n != missing and self._rng.random() < 0.5]

    def _rate(self, fail_point: FailPoint, now: datetime) -> float:
        faults = self.faults
        if faults.windows:
            since_s = (now - self._since).total_seconds()
            for window in faults.windows:
                if window.fail_point is fail_point and window.from_s <= since_s < window.until_s:
                    return window.rate
        return faults.rates.get(fail_point, 0.0)
