"""I7: no crash makes control exceed a budget, in BUDGET_WORLDS short worlds with too little money."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from sqlalchemy import false

from control.planning.planner import PlannedBatch
from control.routes import runner
from control.routes.runner import job_spec as _job_spec
from control.store import batches, budget, queue
from control.store import machines as ledger
from tests.sim import users
from tests.sim.budget import overrun
from tests.sim.database import Database
from tests.sim.mutants import forget_queries
from tests.sim.swarm import Mishap, Swarm
from tests.sim.world import World

WORLDS = int(os.environ.get("BUDGET_WORLDS", "15"))
DAY_USD = (0.0015, 0.004, 0.012, 0.03)
OWN_USD = (None, 0.001, 0.003)
EACH_S = 20.0
NOTICED = 47  # a world that notices those faults which few worlds do
EACH_BYTES = 20_000_000  # two or three tries of an output


@pytest.fixture(autouse=True)
def _short_lives_with_estimates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Submits have estimates and caps of their own and are not refused: it is the launch that must hold."""
    plain, injector = users.planned, Random(5)

    def planned(jobs: list[int], *source: str) -> PlannedBatch:
        little = users.schedule(jobs, each_s=EACH_S, each_bytes=EACH_BYTES, usd=0.0003)
        return replace(plain(jobs, *source), schedule=little, max_cost_usd=injector.choice(OWN_USD))

    monkeypatch.setattr(users, "planned", planned)
    monkeypatch.setattr(batches, "require_money", lambda *_: None)


def life(database: Database, seed: int) -> tuple[World, str | None]:
    """Return a world that has lived on little money, and how it went over, if it did."""
    plain = Swarm.of(seed)
    swarm = replace(
        plain,
        rates={Mishap.CRASH: 0.01, **plain.rates},
        settings={**plain.settings, "budget_usd_per_day": DAY_USD[seed % len(DAY_USD)]},
        faults_s=min(plain.faults_s, 200.0),
        rest_s=120.0,
    )
    world = World(seed, database, swarm=swarm)
    found = list[str]()

    def check_money() -> None:  # and nothing else: the rest of the invariants is judged elsewhere
        if not found and (text := overrun(world)):
            found.append(f"seed {seed} at {world.t:.2f} s: {text}")

    world.oracle.check = check_money  # type: ignore[method-assign]
    world.oracle.at_rest = lambda: None  # type: ignore[method-assign]  # a job may wait for tomorrow's money
    world.run()
    return world, found[0] if found else None


def test_no_budget_is_overrun_by_any_crash(
    database: Database, record_property: Callable[[str, object], None]
):
    machines = crashes = waited = 0
    failures = []
    for seed in range(1, WORLDS + 1):
        world, failure = life(database, seed)
        failures += [failure] if failure else []
        machines += world.report.machines
        crashes += world.hits[Mishap.CRASH]
        waiting = "SELECT count(*) FROM event WHERE name = 'waiting' AND facts LIKE '%budget%'"
        waited += database.judge.execute(waiting).fetchone()[0]
    lived = f"{WORLDS} worlds, {machines} machines, {crashes} crashes, {waited} waits for money"
    record_property("budgets", lived)
    assert not failures, "\n".join(failures)
    assert machines > WORLDS
    assert crashes
    assert waited


@pytest.mark.parametrize(
    ("where", "name", "mutant"),
    [
        (budget, "_reserved_usd", lambda *_: 0.0),
        (budget, "spent_usd", lambda *_: 0.0),
        (budget, "shared_budgets", lambda *_: []),
        (queue, "is_unseen", lambda _: false()),
        (ledger, "sent_bytes", lambda _, stored_bytes: stored_bytes),
        (ledger, "sent_bytes", lambda attempt, stored_bytes: max(stored_bytes, attempt.sent_bytes or 0)),
        (
            runner,
            "job_spec",
            lambda *asked: _job_spec(*asked).model_copy(update={"send_bytes_max": None}),
        ),
    ],
    ids=[
        "reserves do not count",
        "what is spent does not count",
        "no caps",
        "launching does not count",
        "only what is stored counts as sent",
        "who dies unreported has sent nothing",
        "a runner knows no allowance",
    ],
)
def test_the_judge_notices_who_does_not_keep_the_money(
    database: Database, monkeypatch: pytest.MonkeyPatch, where, name, mutant
):
    monkeypatch.setattr(where, name, mutant)
    forget_queries()
    monkeypatch.setitem(life.__globals__, "DAY_USD", DAY_USD[:2])
    try:
        assert any(life(database, seed)[1] for seed in (NOTICED, *range(1, 31)))
    finally:
        forget_queries()
