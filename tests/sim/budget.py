"""I7 for the judge: no budget is exceeded, by Fly's own record of machines and not by our ledger.

A machine that has ended is worth what Fly bills for it, for its time and for each byte that it sent; one that
may still run is worth all that it can cost until its own deadline ends it and its allowance of bytes is used
up, and so is a live attempt without a machine yet. Twins are Fly's mistake: they
cannot be known beforehand, and each may go over by one reserve.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from control.planning.prices import egress_usd, machine_usd
from infra.flysim.machine import SimulatedMachine
from runner.contract import ENV_RUN_TIMEOUT_S
from tests.sim.protocol import SimWorld

EXIT_S = 10.0  # from the start of a machine to that of its process, and from its deadline to its end
EPSILON_USD = 1e-9


def overrun(world: SimWorld) -> str | None:
    """Return how a cap is passed at this moment, or None. Worlds end on the day on which they begin."""
    machines = world.fly.truth()
    settings = world.settings
    for name in ("budget_usd_per_day", "budget_usd_per_month"):
        cap_usd = getattr(settings, name)
        if cap_usd is not None and (found := _over(world, cap_usd, machines, name)):
            return found
    capped = "SELECT id, max_cost_usd FROM batch WHERE max_cost_usd IS NOT NULL"
    for batch_id, cap_usd in world.database.judge.execute(capped).fetchall():
        own = [one for one in machines if one.config["metadata"]["batch"] == batch_id]
        if found := _over(world, cap_usd, own, batch_id):
            return found
    return None


def _over(world: SimWorld, cap_usd: float, machines: Iterable[SimulatedMachine], name: str) -> str | None:
    most_usd = [_most_usd(world, machine) for machine in machines]
    names = Counter(machine.name for machine in machines)
    twins = sum(count - 1 for count in names.values())
    waiting_usd = sum(_without_machine(world, machines, name))
    total_usd = sum(most_usd) + waiting_usd
    excused_usd = twins * max([*most_usd, 0.0])
    if total_usd > cap_usd + excused_usd + EPSILON_USD:
        return f"I7: {name} of ${cap_usd:.6f} may come to ${total_usd:.6f} ({len(most_usd)} machines)"
    return None


def _without_machine(world: SimWorld, machines: Iterable[SimulatedMachine], name: str) -> list[float]:
    """Return the reserves of live attempts for which Fly has made no machine."""
    made = {machine.config["metadata"]["attempt"] for machine in machines}
    live = """SELECT attempt.id, attempt.reserve_usd, job.batch_id FROM attempt JOIN job ON job.id = job_id
      WHERE attempt.state = 'launching'"""
    rows = world.database.judge.execute(live).fetchall()
    is_batch = not name.startswith("budget")
    return [usd for id_, usd, batch_id in rows if id_ not in made and (not is_batch or batch_id == name)]


def _most_usd(world: SimWorld, machine: SimulatedMachine) -> float:
    """Return what a machine costs by Fly's own record and the bytes of its runner, or can at most, in USD."""
    config, runner = machine.config, world.runners.get(machine.id)
    seconds = _seconds(machine.events)
    sent_bytes = runner.sent_bytes if runner else 0
    if seconds is None:
        has_ended = machine.state in ("destroyed", "failed")
        seconds = 0.0 if has_ended else float(config["env"][ENV_RUN_TIMEOUT_S]) + EXIT_S
        sent_bytes = sent_bytes if has_ended else max(sent_bytes, _may_send(world, machine))
    time_usd = machine_usd(size=config["metadata"]["size"], region=machine.region, seconds=seconds)
    return time_usd + egress_usd(region=machine.region, size_bytes=sent_bytes)


def _may_send(world: SimWorld, machine: SimulatedMachine) -> int:
    """Return how many bytes a machine may send that has not ended: as its runner was told, or will be.

    One that stopped its work sends no more.
    """
    runner = world.runners.get(machine.id)
    if runner is not None and (runner.stop_reason is not None or runner.over):
        return runner.sent_bytes
    if runner is not None and runner.total:
        return runner.sent_bytes if runner.send_bytes_max is None else runner.send_bytes_max
    attempt = (
        "SELECT send_bytes_max FROM attempt WHERE id = ? AND state IN ('launching', 'booting', 'running')"
    )
    row = world.database.judge.execute(attempt, (machine.config["metadata"]["attempt"],)).fetchone()
    return row[0] or 0 if row else 0


def _seconds(events: list[dict[str, Any]]) -> float | None:
    started = [one["timestamp"] for one in events if (one["type"], one["status"]) == ("start", "started")]
    exits = [one["request"]["exit_event"] for one in events if one["type"] == "exit"]
    if not started or not exits:
        return None
    ended_at = datetime.fromisoformat(exits[0]["exited_at"]).astimezone(UTC)
    return (ended_at - datetime.fromtimestamp(min(started) / 1000, UTC)).total_seconds()
