"""Spreads work units over machines: their size, their number, and the work of each. PURE, deterministic.

Fly limits create calls (one a second for each app), so additional machines start later, and each start costs
money. The default is the fastest plan that costs at most a tenth more than the cheapest one. One file,
since all of it is one search.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from control.planning import prices
from control.planning.workload import Speed, WorkUnit, machine_work_s
from infra.ratelimit import ORDINARY

DEARER_MAX = 1.10  # the cost of the default, at most, as a multiple of the cheapest
GRAINS = 8  # the smallest number of bundles in the share of a machine, so that shares become equal
ROOM_TO_EVEN_OUT = 1.25  # jobs need some free places, or their shares cannot become equal
COUNT_STEP = 1.12  # the factor from one tried machine count to the next, at least
TRIED_UNITS = 100_000  # work units over all tried counts of one size: with more units fewer counts are tried


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """The machines that work can be spread over."""

    sizes: Sequence[str]  # allowed guest presets, each with enough memory for the work
    speeds: dict[str, Speed] = field(default_factory=dict)
    region: str = "iad"
    apps: int = 1
    machines_max: int = 50  # at once
    jobs_max: int | None = None  # None: no limit; jobs beyond `machines_max` run one after another
    outputs_max: int = 200  # of one machine

    def speed(self, size: str) -> Speed:
        """Return the measured speed of a size, or that of the size with the most measurements."""
        best = max(self.speeds.values(), key=lambda speed: speed.jobs, default=Speed())
        return self.speeds.get(size, best)

    def launched_s(self, index: int) -> float:
        """Return the seconds from the first create call to that of the machine with this number."""
        return max(0.0, (index + 1 - ORDINARY.burst * self.apps) / (ORDINARY.per_s * self.apps))


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """The part of one machine."""

    work_units: Sequence[WorkUnit]
    seconds: float  # billed
    usd: float

    @property
    def bytes_max(self) -> float:
        """The most bytes that it may send."""
        return sum(unit.bytes_max for unit in self.work_units)

    @property
    def room_bytes(self) -> float:
        """The storage that is reserved for its outputs."""
        return sum(unit.room_bytes for unit in self.work_units)

    @property
    def outputs(self) -> list[int]:
        """Its outputs, in order."""
        return sorted(index for unit in self.work_units for index in unit.outputs)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One possible schedule. `makespan_s` is from the first create call to the last report."""

    size: str
    assignments: Sequence[Assignment]
    makespan_s: float

    @property
    def machines(self) -> int:
        """The number of machines, which is the number of jobs."""
        return len(self.assignments)

    @property
    def cost_usd(self) -> float:
        """The estimated cost."""
        return sum(assignment.usd for assignment in self.assignments)


def schedules(work_units: Sequence[WorkUnit], capacity: Capacity) -> list[Schedule]:
    """Return the possible schedules: for each size, several machine counts from the smallest possible up."""
    count = sum(len(unit.outputs) for unit in work_units)
    fewest = -(-count // capacity.outputs_max)
    most = max(fewest, min(capacity.machines_max, len(work_units)))
    counts = [*_counts(fewest, most, tries=max(1, TRIED_UNITS // len(work_units)))]
    if capacity.jobs_max is None and fewest > 1 and ROOM_TO_EVEN_OUT * fewest > capacity.machines_max:
        counts.append(capacity.machines_max * math.ceil(ROOM_TO_EVEN_OUT * fewest / capacity.machines_max))
    return [_schedule(work_units, machines, size, capacity) for size in capacity.sizes for machines in counts]


def choose(ways: Sequence[Schedule], *, deadline_s: float | None, max_cost_usd: float | None) -> Schedule:
    """Return the fastest schedule that costs at most DEARER_MAX times the cheapest one.

    With a deadline: the cheapest one that meets it, or the fastest if none does. Only schedules that cost at
    most `max_cost_usd` count; when there is none, return the cheapest of all.
    """
    paid = [way for way in ways if max_cost_usd is None or way.cost_usd <= max_cost_usd]
    if not paid:
        return min(ways, key=_by_cost)
    if deadline_s is not None:
        in_time = [way for way in paid if way.makespan_s <= deadline_s]
        return min(in_time, key=_by_cost) if in_time else min(paid, key=_by_time)
    most_usd = DEARER_MAX * min(way.cost_usd for way in paid)
    return min((way for way in paid if way.cost_usd <= most_usd), key=_by_time)


def _by_time(way: Schedule) -> tuple[float, float, int]:
    return way.makespan_s, way.cost_usd, way.machines


def _by_cost(way: Schedule) -> tuple[float, float, int]:
    return way.cost_usd, way.makespan_s, way.machines


def _counts(fewest: int, most: int, *, tries: int) -> Iterator[int]:
    """Yield about so many machine counts, or fewer, from the smallest to the largest, with growing steps."""
    count, step = fewest, max(COUNT_STEP, (most / fewest) ** (1 / tries))
    while count < most:
        yield count
        count = max(count + 1, int(count * step))
    yield most


def _schedule(work_units: Sequence[WorkUnit], machines: int, size: str, capacity: Capacity) -> Schedule:
    cores, speed = prices.cpus(size), capacity.speed(size)
    setup_s, pace = speed.line
    at_once = min(machines, capacity.machines_max)
    starts = [capacity.launched_s(index) if machines <= at_once else 0.0 for index in range(machines)]
    shares = _assign(_bundles(work_units, machines), starts, pace / cores, capacity.outputs_max)
    assignments = [
        _load(share, setup_s + pace * machine_work_s(share, cores), size, capacity)
        for share in shares
        if share
    ]
    return Schedule(
        size=size,
        assignments=assignments,
        makespan_s=_makespan_s([assignment.seconds for assignment in assignments], at_once, capacity)
        + speed.launch_s,
    )


def _load(share: Sequence[WorkUnit], seconds: float, size: str, capacity: Capacity) -> Assignment:
    size_bytes = capacity.speed(size).bytes_ratio * sum(unit.likely_bytes for unit in share)
    usd = (
        prices.machine_usd(size=size, region=capacity.region, seconds=seconds)
        + prices.egress_usd(region=capacity.region, size_bytes=size_bytes)
        + prices.requests_usd(outputs=sum(len(unit.outputs) for unit in share))
    )
    return Assignment(work_units=share, seconds=seconds, usd=usd)


def _makespan_s(seconds: Sequence[float], at_once: int, capacity: Capacity) -> float:
    """Return when the last machine is done. Each starts when it may be created and a place is free."""
    places = [0.0] * at_once
    for index, each in enumerate(seconds):
        begins = max(heapq.heappop(places), capacity.launched_s(index))
        heapq.heappush(places, begins + each)
    return max(places)


def _bundles(work_units: Sequence[WorkUnit], machines: int) -> list[list[WorkUnit]]:
    """Return the work units in bundles of one source, each about as large as a grain of a machine's share.

    Units of one bundle share a fetch. Small bundles make it possible to give machines equal shares.
    """
    grain_s = sum(unit.work_s for unit in work_units) / machines / GRAINS
    bundles: list[list[WorkUnit]] = []
    filled_s = 0.0
    for unit in work_units:
        is_apart = not bundles or bundles[-1][0].source != unit.source
        if is_apart or filled_s + unit.work_s > grain_s:
            bundles.append([])
            filled_s = 0.0
        bundles[-1].append(unit)
        filled_s += unit.work_s
    return bundles


def _assign(
    bundles: Sequence[Sequence[WorkUnit]], starts: Sequence[float], pace: float, outputs_max: int
) -> list[list[WorkUnit]]:
    """Assign each bundle, the longest first, to the machine with room that would be done first."""
    crew = _Crew(starts, pace, outputs_max)
    for bundle in sorted(bundles, key=lambda bundle: -sum(unit.work_s for unit in bundle)):
        if not crew.take(bundle):
            for unit in bundle:
                if not crew.take([unit]):  # only when nearly all machines are full
                    for output in unit.outputs:
                        crew.take([_cut(unit, output)])
    for share in crew.shares:
        share.sort(key=lambda unit: unit.outputs[0])
    return crew.shares


class _Crew:
    """The machines, ordered by when they would be done."""

    def __init__(self, starts: Sequence[float], pace: float, outputs_max: int) -> None:
        self.shares: list[list[WorkUnit]] = [[] for _ in starts]
        self._done = [(start, index) for index, start in enumerate(starts)]  # a heap, since in order
        self._room = [outputs_max] * len(starts)
        self._fetched = [set[int]() for _ in starts]
        self._pace = pace

    def take(self, work_units: Sequence[WorkUnit]) -> bool:
        """Assign units of one source to the first machine with room for all; return False if none has it."""
        count = sum(len(unit.outputs) for unit in work_units)
        passed_over = []
        while self._done and self._room[self._done[0][1]] < count:
            passed_over.append(heapq.heappop(self._done))
        has_room = bool(self._done)
        if has_room:
            done, index = heapq.heappop(self._done)
            heapq.heappush(self._done, (done + self._seconds(index, work_units), index))
            self.shares[index] += work_units
            self._room[index] -= count
        for each in passed_over:
            if self._room[each[1]]:
                heapq.heappush(self._done, each)
        return has_room

    def _seconds(self, index: int, work_units: Sequence[WorkUnit]) -> float:
        source, fetch_s = work_units[0].source, 0.0
        if source not in self._fetched[index]:
            self._fetched[index].add(source)
            fetch_s = work_units[0].fetch_s
        return fetch_s + self._pace * sum(unit.work_s for unit in work_units)


def _cut(unit: WorkUnit, output: int) -> WorkUnit:
    """Return the part of a work unit that makes one of its outputs."""
    share = 1 / len(unit.outputs)
    return replace(
        unit,
        outputs=[output],
        work_s=unit.work_s * share,
        likely_bytes=unit.likely_bytes * share,
        bytes_max=unit.bytes_max * share,
        room_bytes=unit.room_bytes * share,
    )
