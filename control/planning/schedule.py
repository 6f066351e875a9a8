"""Pieces of work over machines: which size, how many, and which machine makes what. PURE and deterministic.

Creates are limited (one a second for each app), so more machines start later, and each costs its start. The
default is the fastest plan that costs at most a tenth more than the cheapest.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from control.planning import prices
from control.planning.workload import Piece, Speed, machine_work_s

LAUNCH_BURST = 3  # creates at once for each app, then one a second (facts/fly.md, section 3)
DEARER_MAX = 1.10  # so much more than the cheapest may the default cost
GRAINS = 8  # a machine's share is made of at least so many bundles, so that they even out
ROOM_TO_EVEN_OUT = 1.25  # jobs that are full to the last output cannot be made equal
COUNT_STEP = 1.12  # machine counts that are tried lie so far apart


@dataclass(frozen=True, kw_only=True)
class Means:
    """What there is to spread work over."""

    sizes: Sequence[str]  # guest presets that may be taken, each with room for the work
    speeds: dict[str, Speed] = field(default_factory=dict)
    region: str = "iad"
    apps: int = 1
    machines_max: int = 50  # at once
    jobs_max: int | None = None  # None: more than machines at once may take turns
    outputs_max: int = 200  # of one machine

    def speed(self, size: str) -> Speed:
        """Return what is known of a size, or of the one that most is known of."""
        best = max(self.speeds.values(), key=lambda speed: speed.jobs, default=Speed())
        return self.speeds.get(size, best)

    def launched_s(self, index: int) -> float:
        """Return when the machine of this number is created, from the first create."""
        return max(0.0, (index + 1 - LAUNCH_BURST * self.apps) / self.apps)


@dataclass(frozen=True, kw_only=True)
class Load:
    """One machine's part."""

    pieces: Sequence[Piece]
    seconds: float  # billed
    usd: float

    @property
    def bytes_max(self) -> float:
        """What its outputs may amount to."""
        return sum(piece.bytes_max for piece in self.pieces)

    @property
    def outputs(self) -> list[int]:
        """Its outputs, in order."""
        return sorted(index for piece in self.pieces for index in piece.outputs)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A way to do it. `makespan_s` is from the first create to the last report."""

    size: str
    loads: Sequence[Load]
    makespan_s: float

    @property
    def machines(self) -> int:
        """How many machines, and so jobs, it takes."""
        return len(self.loads)

    @property
    def cost_usd(self) -> float:
        """What it will cost."""
        return sum(load.usd for load in self.loads)


def spreads(pieces: Sequence[Piece], means: Means) -> list[Spread]:
    """Return the ways to do it: for each size, some counts of machines from the fewest that it takes."""
    count = sum(len(piece.outputs) for piece in pieces)
    fewest = -(-count // means.outputs_max)
    most = max(fewest, min(means.machines_max, len(pieces)))
    counts = [*_counts(fewest, most)]
    if means.jobs_max is None and fewest > 1 and ROOM_TO_EVEN_OUT * fewest > means.machines_max:
        counts.append(means.machines_max * math.ceil(ROOM_TO_EVEN_OUT * fewest / means.machines_max))
    return [_spread(pieces, machines, size, means) for size in means.sizes for machines in counts]


def choose(ways: Sequence[Spread], *, deadline_s: float | None, max_cost_usd: float | None) -> Spread:
    """Return the fastest of the ways that cost at most DEARER_MAX of the cheapest.

    With a deadline, the cheapest that meets it, or the fastest if none does. Among those that cost at most
    `max_cost_usd`; when none does, the cheapest of all.
    """
    paid = [way for way in ways if max_cost_usd is None or way.cost_usd <= max_cost_usd]
    if not paid:
        return min(ways, key=_by_cost)
    if deadline_s is not None:
        in_time = [way for way in paid if way.makespan_s <= deadline_s]
        return min(in_time, key=_by_cost) if in_time else min(paid, key=_by_time)
    most_usd = DEARER_MAX * min(way.cost_usd for way in paid)
    return min((way for way in paid if way.cost_usd <= most_usd), key=_by_time)


def _by_time(way: Spread) -> tuple[float, float, int]:
    return way.makespan_s, way.cost_usd, way.machines


def _by_cost(way: Spread) -> tuple[float, float, int]:
    return way.cost_usd, way.makespan_s, way.machines


def _counts(fewest: int, most: int) -> Iterator[int]:
    """Yield counts of machines from the fewest to the most, further apart as they grow."""
    count = fewest
    while count < most:
        yield count
        count = max(count + 1, int(count * COUNT_STEP))
    yield most


def _spread(pieces: Sequence[Piece], machines: int, size: str, means: Means) -> Spread:
    cores, speed = prices.cpus(size), means.speed(size)
    setup_s, pace = speed.line
    at_once = min(machines, means.machines_max)
    starts = [means.launched_s(index) if machines <= at_once else 0.0 for index in range(machines)]
    shares = _assign(_bundles(pieces, machines), starts, pace / cores, means.outputs_max)
    loads = [
        _load(share, setup_s + pace * machine_work_s(share, cores), size, means) for share in shares if share
    ]
    return Spread(
        size=size,
        loads=loads,
        makespan_s=_makespan_s([load.seconds for load in loads], at_once, means) + speed.launch_s,
    )


def _load(share: Sequence[Piece], seconds: float, size: str, means: Means) -> Load:
    size_bytes = means.speed(size).bytes_ratio * sum(piece.likely_bytes for piece in share)
    usd = (
        prices.machine_usd(size=size, region=means.region, seconds=seconds)
        + prices.egress_usd(region=means.region, size_bytes=size_bytes)
        + prices.requests_usd(outputs=sum(len(piece.outputs) for piece in share))
    )
    return Load(pieces=share, seconds=seconds, usd=usd)


def _makespan_s(seconds: Sequence[float], at_once: int, means: Means) -> float:
    """Return when the last machine is done: each starts when it may be created and a place is free."""
    places = [0.0] * at_once
    for index, each in enumerate(seconds):
        begins = max(heapq.heappop(places), means.launched_s(index))
        heapq.heappush(places, begins + each)
    return max(places)


def _bundles(pieces: Sequence[Piece], machines: int) -> list[list[Piece]]:
    """Return the pieces in bundles of one source, none much larger than a grain of a machine's share.

    What is together in a bundle shares a fetch; what is small evens out.
    """
    grain_s = sum(piece.work_s for piece in pieces) / machines / GRAINS
    bundles: list[list[Piece]] = []
    filled_s = 0.0
    for piece in pieces:
        is_apart = not bundles or bundles[-1][0].source != piece.source
        if is_apart or filled_s + piece.work_s > grain_s:
            bundles.append([])
            filled_s = 0.0
        bundles[-1].append(piece)
        filled_s += piece.work_s
    return bundles


def _assign(
    bundles: Sequence[Sequence[Piece]], starts: Sequence[float], pace: float, outputs_max: int
) -> list[list[Piece]]:
    """Give each bundle, the longest first, to the machine that would be done first, while it has room."""
    crew = _Crew(starts, pace, outputs_max)
    for bundle in sorted(bundles, key=lambda bundle: -sum(piece.work_s for piece in bundle)):
        if not crew.take(bundle):
            for piece in bundle:
                if not crew.take([piece]):  # only when nearly every machine is full to the last output
                    for output in piece.outputs:
                        crew.take([_cut(piece, output)])
    for share in crew.shares:
        share.sort(key=lambda piece: piece.outputs[0])
    return crew.shares


class _Crew:
    """Machines by when they would be done."""

    def __init__(self, starts: Sequence[float], pace: float, outputs_max: int) -> None:
        self.shares: list[list[Piece]] = [[] for _ in starts]
        self._done = [(start, index) for index, start in enumerate(starts)]  # a heap, since in order
        self._room = [outputs_max] * len(starts)
        self._fetched = [set[int]() for _ in starts]
        self._pace = pace

    def take(self, pieces: Sequence[Piece]) -> bool:
        """Give the pieces of one source to the first machine with room for all; False when there is none."""
        count = sum(len(piece.outputs) for piece in pieces)
        passed_over = []
        while self._done and self._room[self._done[0][1]] < count:
            passed_over.append(heapq.heappop(self._done))
        has_room = bool(self._done)
        if has_room:
            done, index = heapq.heappop(self._done)
            heapq.heappush(self._done, (done + self._seconds(index, pieces), index))
            self.shares[index] += pieces
            self._room[index] -= count
        for each in passed_over:
            if self._room[each[1]]:
                heapq.heappush(self._done, each)
        return has_room

    def _seconds(self, index: int, pieces: Sequence[Piece]) -> float:
        source, fetch_s = pieces[0].source, 0.0
        if source not in self._fetched[index]:
            self._fetched[index].add(source)
            fetch_s = pieces[0].fetch_s
        return fetch_s + self._pace * sum(piece.work_s for piece in pieces)


def _cut(piece: Piece, output: int) -> Piece:
    """Return the part of a piece that makes one of its outputs."""
    share = 1 / len(piece.outputs)
    return replace(
        piece,
        outputs=[output],
        work_s=piece.work_s * share,
        likely_bytes=piece.likely_bytes * share,
        bytes_max=piece.bytes_max * share,
    )
