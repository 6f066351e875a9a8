"""The planner against simpler ways and a lower bound, simulated in the model of Fly with its limits.

Every way launches as quickly as Fly allows, with at most MACHINES_MAX machines at once. The results are the
end of the last machine and Fly's bill. The bound has the same rules, but its work divides evenly.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from bench.line import line
from control.domain.effects import effects
from control.planning.prices import cpus, machine_usd
from control.planning.schedule import DEARER_MAX, Capacity, choose, schedules
from control.planning.workload import (
    LEADER_S,
    SIBLING_S,
    SourceInfo,
    Speed,
    WorkUnit,
    machine_work_s,
    work_units,
)
from infra.flysim.events import StartProcess
from infra.flysim.faults import Faults
from infra.flysim.validation import FlyError
from infra.flysim.world import World

SIZES = ("performance-1x", "performance-2x", "performance-4x", "performance-8x")
MACHINES_MAX = 50
PULL_S, BOOT_S = 4.0, 1.0  # create to start: 5.2 s measured (facts of 2026-10)
TICK_S = 1.0
MIXES = ((1, 1), (2, 5), (10, 10), (100, 10), (100, 100))  # sources, variations of each
NOW = datetime(2026, 11, 21, tzinfo=UTC)


@dataclass(frozen=True)
class Lived:
    """What became of a way."""

    makespan_s: float
    machine_usd: float


def run() -> Iterator[str]:
    """Plan batches of 1 to 10,000 outputs and simulate each way."""
    for sources, variations in MIXES:
        parts, outputs = mix(sources, variations), sources * variations
        capacity = Capacity(sizes=SIZES, machines_max=MACHINES_MAX)
        began = time.process_time()
        ways = schedules(parts, capacity)
        chosen = choose(ways, deadline_s=None, max_cost_usd=None)
        plan_ms = (time.process_time() - began) * 1000
        ours = live([assignment.seconds for assignment in chosen.assignments], chosen.size)
        others_usd = chosen.cost_usd - sum(
            _usd(assignment.seconds, chosen.size) for assignment in chosen.assignments
        )
        cheapest_usd = min(way.cost_usd for way in ways)
        bound_s = lower_bound_s(parts, DEARER_MAX * cheapest_usd - others_usd)
        cost = (ours.machine_usd + others_usd) / cheapest_usd
        against = f"lower bound {bound_s:.1f} s; {_described(parts)}"
        name = f"plan of {outputs} outputs ({chosen.machines} x {chosen.size})"
        yield line(f"{name}, makespan", ours.makespan_s, "s", against=against)
        yield line(f"{name}, makespan", ours.makespan_s / bound_s, "x", against="the lower bound")
        yield line(f"{name}, cost", cost, "x", against=f"the cheapest way, ${cheapest_usd:.5f} with egress")
        yield line(f"{name}, planning", plan_ms, "ms CPU", against="aim 1000 ms")


def mix(sources: int, variations: int) -> list[WorkUnit]:
    """Return the work units of a batch with the usual durations and dimensions of ads."""
    dice = Random(7)
    source_info = [
        SourceInfo(
            size_bytes=dice.uniform(2e6, 40e6),
            duration_s=dice.choice((6, 6, 10, 15, 15, 15, 20, 30, 30, 45, 60)),
            pixels=dice.choice((720 * 1280, 1080 * 1080, 1080 * 1920, 1920 * 1080)),
        )
        for _ in range(sources)
    ]
    asked = [
        (source, effects(seed=7, fingerprint=str(source), variation=number + 1))
        for source in range(sources)
        for number in range(variations)
    ]
    return work_units(asked, source_info)


def _described(parts: Sequence[WorkUnit]) -> str:
    """Return time and cost (without egress) of simpler ways on the smallest machine."""
    by_source: dict[int, list[WorkUnit]] = {}
    for unit in parts:
        by_source.setdefault(unit.source, []).append(unit)
    alone = [_alone(unit) for unit in parts for _ in unit.outputs]
    ways = {
        "one machine per source": [_seconds(own) for own in by_source.values()],
        "one per output": alone,
        "all on one": [_seconds(parts)],
    }
    lived = {name: live(seconds, SIZES[0]) for name, seconds in ways.items()}
    return ", ".join(f"{name} {one.makespan_s:.0f} s ${one.machine_usd:.5f}" for name, one in lived.items())


def _alone(unit: WorkUnit) -> float:
    """Return the seconds of a machine for one output of a unit, which shares nothing."""
    siblings = len(unit.outputs) - 1
    leader_s = unit.work_s * LEADER_S / (LEADER_S + siblings * SIBLING_S)
    return Speed().seconds(unit.fetch_s + leader_s)


def _seconds(parts: Sequence[WorkUnit], size: str = SIZES[0]) -> float:
    return Speed().seconds(machine_work_s(parts, cpus(size)))


def _usd(seconds: float, size: str) -> float:
    return machine_usd(size=size, region="iad", seconds=seconds)


def lower_bound_s(parts: Sequence[WorkUnit], most_usd: float) -> float:
    """Return a lower bound of time for the same cost: by launch rate, by work, by the longest unit."""
    return min(_bound_of_size_s(parts, size, most_usd) for size in SIZES)


def _bound_of_size_s(parts: Sequence[WorkUnit], size: str, most_usd: float) -> float:
    setup_s, pace = Speed().line
    work_s = pace * sum(unit.work_s for unit in parts) / cpus(size)
    longest_s = setup_s + pace * max(unit.longest_s for unit in parts)
    affordable = int((most_usd / _usd(1, size) - work_s) / setup_s)
    capacity = Capacity(sizes=SIZES)
    best = float("inf")
    for machines in range(1, min(MACHINES_MAX, affordable) + 1):
        starts_s = sum(capacity.launched_s(index) + setup_s for index in range(machines))
        best = min(best, (work_s + starts_s) / machines)
    return PULL_S + BOOT_S + max(best, longest_s)


def live(seconds: Sequence[float], size: str) -> Lived:
    """Launch a machine for each job in the model of Fly, as control does, and return time and cost."""
    fly = World(["runners"], seed="bench", now=NOW, faults=Faults(pull_s=(PULL_S,) * 2, boot_s=(BOOT_S,) * 2))
    waiting, lives, ends = list(enumerate(seconds))[::-1], 0, list[tuple[datetime, str]]()
    now, begun, jobs = NOW, dict[str, datetime](), dict[str, float]()
    while waiting or lives:
        for effect in fly.advance(now):
            if isinstance(effect, StartProcess):
                fly.started(effect.machine_id)
                begun[effect.machine_id] = now
                ends.append((now + timedelta(seconds=jobs[effect.machine_id]), effect.machine_id))
        for end in sorted(one for one in ends if one[0] <= now):
            ends.remove(end)
            fly.exited(end[1], exit_code=0, signal=0)
            lives -= 1
        while waiting and lives < MACHINES_MAX:
            try:
                made = fly.create("runners", _body(f"m{waiting[-1][0]}"))
            except FlyError:
                break
            jobs[made["id"]] = waiting.pop()[1]
            lives += 1
        now = _next(fly, now, ends, is_waiting=bool(waiting))
    machines_s = sum(jobs[machine_id] for machine_id in begun)
    return Lived((now - NOW).total_seconds(), _usd(machines_s, size))


def _next(fly: World, now: datetime, ends: list[tuple[datetime, str]], *, is_waiting: bool) -> datetime:
    due = [one for one in (fly.next_due(), *(end for end, _ in ends)) if one is not None and one > now]
    if is_waiting:
        due.append(now + timedelta(seconds=TICK_S))
    return min(due, default=now)


def _body(name: str) -> dict[str, Any]:
    config = {"image": "runner", "auto_destroy": True, "restart": {"policy": "no"}}
    return {"name": name, "region": "iad", "config": config}
