"""Deliberate faults in the core: each must be noticed by some world, or the judge is blind to it.

A mutant patches the core while worlds live. Some are hidden by defence in depth until a second joins them.
"""

from __future__ import annotations

import inspect
import secrets
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from control import domain, forget, launch, observe, reap, runner_api, watch
from control.domain import AttemptState, Fact
from control.store import attempts, batches, changes, ledger, reports
from control.store import transaction as transactions
from infra import fly
from infra.flyfaults import Site
from tests.sim import outside, world
from tests.sim.campaign import live
from tests.sim.database import Database
from tests.sim.swarm import Mishap, Swarm

Mutant = Callable[[ExitStack], None]
NOTICED = Path(__file__).with_name("mutants.txt")


def put(stack: ExitStack, owner: Any, name: str, value: Any) -> None:
    """Set an attribute until the stack is closed."""
    real = getattr(owner, name)
    stack.callback(setattr, owner, name, real)
    setattr(owner, name, value)


def edit(stack: ExitStack, module: ModuleType, name: str, before: str, after: str) -> None:
    """Replace a function by one whose source differs in one place, everywhere it was imported to."""
    real = getattr(module, name)
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(real)))
    assert source.count(before) == 1, f"{name} no longer has {before!r} once"
    scope: dict[str, Any] = module.__dict__
    made: dict[str, Any] = {}
    exec(
        compile(f"from __future__ import annotations\n{source.replace(before, after)}", name, "exec"),
        scope,
        made,
    )
    for other in MODULES:
        if other.__dict__.get(name) is real:
            put(stack, other, name, made[name])


MODULES = (
    attempts, batches, changes, domain, forget, launch, ledger, observe, reap, reports, runner_api,
    transactions, watch,
)  # fmt: skip


def edited(module: ModuleType, name: str, before: str, after: str) -> Mutant:
    """Return the mutant that is one edit."""
    return lambda stack: edit(stack, module, name, before, after)


def no_reaper(stack: ExitStack) -> None:
    """Nothing is ever stopped or destroyed."""
    passes = tuple(run for run in world.PASSES if run is not reap.reap)
    put(stack, world, "PASSES", passes)


def no_watch(stack: ExitStack) -> None:
    """Nothing is ever judged overdue."""
    passes = tuple(run for run in world.PASSES if run is not watch.watch)
    put(stack, world, "PASSES", passes)


def no_barrier(stack: ExitStack) -> None:
    """What lives is believed to be known from the start."""
    from control.cloud import Cloud

    put(stack, Cloud, "is_known", property(lambda _: True))


def random_names(stack: ExitStack) -> None:
    """Each create has a name of its own."""
    put(stack, launch, "machine_name", lambda _: f"m-{secrets.token_hex(8)}")


def cap_counts_running(stack: ExitStack) -> None:
    """Only attempts that run count against the cap."""

    def running(tx: Any) -> int:
        rows = tx.session.exec(attempts.select(attempts.Attempt)).all()
        return sum(row.state == AttemptState.RUNNING for row in rows)

    put(stack, attempts, "possibly_alive", running)


def no_deleted_in_lists(stack: ExitStack) -> None:
    """Lists are asked for without machines that are destroyed."""
    real = fly.FlyMachines.list

    def without(self: Any, app: str, metadata: Any) -> Any:
        return [machine for machine in real(self, app, metadata) if not machine.is_gone]

    put(stack, outside.SimMachines, "list", without)


def terminal_not_guarded(stack: ExitStack) -> None:
    """An attempt that has ended is moved by a late finish."""
    moves = dict.fromkeys(AttemptState, AttemptState.SUCCEEDED)
    put(stack, domain, "MOVES", {**domain.MOVES, Fact.FINISHED_OK: moves})
    edit(stack, reports, "finish", "attempt.state == AttemptState.RUNNING or", "True or")


def shared_key(stack: ExitStack) -> None:
    """All attempts put an output under one key."""
    put(
        stack, runner_api, "output_key",
        lambda parts, _, output_id: f"{parts.store.owner_id}/outputs/{output_id}.mp4",
    )  # fmt: skip


def overwriting_puts(stack: ExitStack) -> None:
    """Signed PUTs do not ask for `If-None-Match`."""
    put(stack, outside.SimBucket, "sign_put", lambda _, key, **__: (key, {}))


def ack_before_commit(stack: ExitStack) -> None:
    """A submit is answered although its commit fails or dies."""
    real = batches.submit

    def early(store: Any, planned: Any, **key: Any) -> str:
        try:
            return real(store, planned, **key)
        except BaseException:  # noqa: BLE001 - a crash too
            return "bat_of_nothing"

    put(stack, batches, "submit", early)


def commits_in_two(stack: ExitStack) -> None:
    """The key of a submit is stored in a transaction of its own."""
    edit(
        stack, batches, "submit", "        if key is not None:\n            tx.session.add(",
        "        pass\n    with store.transaction() as tx:\n"
        "        if key is not None:\n            tx.session.add(",
    )  # fmt: skip


@contextmanager
def mutated(*names: str) -> Iterator[None]:
    """Patch the core with these mutants."""
    with ExitStack() as stack:
        for name in names:
            MUTANTS[name](stack)
        yield


MUTANTS: dict[str, Mutant] = {
    "no reaper": no_reaper,
    "no watch": no_watch,
    "no barrier": no_barrier,
    "random machine names": random_names,
    "cap counts running only": cap_counts_running,
    "lists hide the destroyed": no_deleted_in_lists,
    "terminal not guarded": terminal_not_guarded,
    "shared output key": shared_key,
    "overwriting PUTs": overwriting_puts,
    "answered before the commit": ack_before_commit,
    "submit in two transactions": commits_in_two,
    "no claim CAS": edited(
        reports, "claim", "if attempt.claimed_by is not None:", "if False:"
    ),
    "unanswered is failed": edited(
        launch, "_create",
        "attempts.record_unanswered(parts.store, attempt.id, retry_after=UNANSWERED_RETRY_AFTER)",
        "attempts.end(parts.store, attempt.id, Fact.LAUNCH_REFUSED, contract.Reason.RUNNER_CRASHED, '')",
    ),
    "absence from a list is gone": edited(
        observe, "_ask_after", "machine = parts.machines.get(row.app, row.id)",
        "machine = None; [ledger.miss(parts.store, row.app, row.id) for _ in 'abc']",
    ),
    "one 404 is gone": lambda stack: put(stack, ledger, "MISSES_MAX", 1),
    "slot freed at the ask": edited(
        ledger, "ask_to_destroy", ".destroy_asked_at = tx.now", ".gone_at = tx.now",
    ),
    "ready without looking": edited(
        runner_api, "_verified",
        "if file is not None and stored is not None and _is_as_reported(stored, file):",
        "stored = stored or StoredObject(size_bytes=file.size_bytes, etag=file.md5)\n        if True:",
    ),
    "lease never extended": edited(
        reports, "heartbeat", "attempt.lease_until = tx.now + _lease(tx, next_beat_s)", "pass"
    ),
    "no amnesty": edited(
        watch, "judge", "amnesty_until = since + timedelta(seconds=2 * settings.lease_s)",
        "amnesty_until = None",
    ),
    "retry renders all again": edited(
        changes, "_missing", "if output.state != OutputState.READY", ""
    ),
    "cancel forgets launching": edited(
        changes, "_cancel", "col(Attempt.state).in_(domain.LIVE)", "col(Attempt.state) == 'running'"
    ),
    "finish is not idempotent": edited(
        reports, "finish", "elif attempt.finish_digest != digest:", "else:"
    ),
    "cost counted again": edited(
        ledger, "observe", "if row.gone_at is None:", "if True:"
    ),
    "stale beat reports": edited(
        reports, "heartbeat",
        "if not runs and not is_cancelled:\n"
        "            tx.refuse(attempt, Fact.HEARTBEAT)\n        elif runs:",
        "if True:",
    ),
    "old beats count": edited(reports, "heartbeat", "if beat.seq > attempt.seq:", "if True:"),
    "progress goes back": edited(
        reports, "_take_one", "max(output.percent, report.percent)", "report.percent"
    ),
    "cancelled job is queued again": edited(
        attempts, "end_within", "is_cancelled=job.cancelled_at is not None", "is_cancelled=False"
    ),
    "twins are spared": edited(
        reap, "_owns", "attempt.claimed_by in (None, machine.id)", "True"
    ),
    "ended attempts keep machines": edited(
        reap, "_owns", "if attempt.state not in domain.LIVE:", "if False:"
    ),
    "destroyed once and forgotten": edited(
        reap, "_destroy_at", "return machine.destroy_asked_at + ASK_AGAIN_AFTER",
        "return machine.destroy_asked_at + timedelta(days=9)",
    ),
    "retries without end": edited(
        attempts, "_may_retry", ">= job.attempts_max", ">= 10_000"
    ),
    "files go before machines": edited(
        forget, "_ready_to_go", "or_(lives,", "or_("
    ),
    "seen and not adopted": edited(ledger, "_added", "if attempt is not None:", "if False:"),
    "no boot deadline": edited(
        watch, "judge", "if not is_running and _is_past(boot_until, now, amnesty_until):", "if False:"
    ),
    "creates are not noted beforehand": lambda stack: put(stack, attempts, "ask", lambda *_: True),
    "a machine gone hides a late one": edited(
        attempts, "is_unseen",
        "own = and_(col(Machine.attempt_id) == col(Attempt.id), col(Machine.gone_at).is_(None))",
        "own = col(Machine.attempt_id) == col(Attempt.id)",
    ),
    "rows go before late machines": edited(
        forget, "_ready_to_go",
        "or_(lives, col(Attempt.asked_at) > now - timedelta(seconds=GHOST_S))", "lives",
    ),
    "ghosts do not count": lambda stack: put(stack, attempts, "GHOST_S", 0),
}  # fmt: skip

# The faults that bring a mutant to light, where those of a plain seed seldom meet.
FOCUS: dict[str, dict[Mishap | Site, float]] = {
    "shared output key": {Mishap.RUNNER_CUT_OFF: 0.9, Site.LATE_DESTROY: 0.9, Site.END_LOST_UNDONE: 0.9},
    "answered before the commit": {Mishap.CRASH: 0.05},
    "no claim CAS": {Site.TWIN: 1.0, Site.CREATE_LOST_DONE: 0.9, Site.LIST_LAG: 0.9},
    "lease never extended": {},
    "stale beat reports": {Mishap.RUNNER_CUT_OFF: 0.9, Mishap.RENDER_HANGS: 0.3, Site.LATE_DESTROY: 0.9},
    "old beats count": {Mishap.MESSAGE_LATE: 0.4, Mishap.MESSAGE_TWICE: 0.5},
    "twins are spared": {Site.TWIN: 1.0, Site.CREATE_LOST_DONE: 0.9, Site.STAYS_STOPPED: 0.9},
    "files go before machines": {Mishap.DELETE: 0.9, Site.END_LOST_UNDONE: 0.9, Site.LATE_DESTROY: 0.9},
    "creates are not noted beforehand": {
        Mishap.CRASH: 0.012, Mishap.CREATE_LATE: 0.3, Mishap.CANCEL: 0.9, Site.LIST_LAG: 0.9,
    },
    "a machine gone hides a late one": {Mishap.CREATE_LATE: 0.8, Site.KILLED: 0.5, Site.LIST_LAG: 0.3},
    "rows go before late machines": {Mishap.CREATE_LATE: 0.8, Mishap.DELETE: 0.9, Site.LIST_LAG: 0.9},
    "ghosts do not count": {Mishap.CREATE_LATE: 0.8, Mishap.CANCEL: 0.9, Site.LIST_LAG: 0.8},
}  # fmt: skip

# Defence in depth, or waste that no invariant forbids. Those that a pair shows are in `mutants.txt` as pairs.
HARMLESS_ALONE: dict[str, str] = {
    "finish is not idempotent": "the move table refuses to end an attempt twice",
    "seen and not adopted": "the same create is asked again and answers with it, and a claim adopts as well",
    "twins are spared": "a twin is refused its claim and exits; it costs seconds until then",
    "shared output key": "If-None-Match refuses the second PUT, and what is not as reported is not ready",
    "overwriting PUTs": "no two attempts share a key",
    "progress goes back": "a beat that came late or twice reports nothing",
    "old beats count": "progress is the larger of two, and what is final stays",
    "no barrier": "creates are noted beforehand, and no verdict trusts a single list",
}


@cache
def noticed_by() -> dict[str, int]:
    """Return mutants, and pairs of them, with a seed whose world once noticed them."""
    lines = NOTICED.read_text().splitlines()
    pairs = [line.rsplit(maxsplit=1) for line in lines if line and not line.startswith("#")]
    return {name.strip(): int(seed) for name, seed in pairs}


def swarm_for(name: str, seed: int) -> Swarm | None:
    """Return a world with the faults that a mutant is about, or None where any world will do."""
    focus = FOCUS.get(name.split(" + ")[0])
    if focus is None:
        return None
    plain = Swarm.of(seed)
    return replace(
        plain,
        rates={site: rate for site, rate in focus.items() if isinstance(site, Mishap)},
        fly=replace(plain.fly, rates={site: rate for site, rate in focus.items() if isinstance(site, Site)}),
        settings={**plain.settings, "max_machines": 2},
        batches=3, outputs_max=3, dead_at_s=None, submits_s=20.0, faults_s=100.0,
    )  # fmt: skip


def notices(database: Database, name: str, seed: int) -> str | None:
    """Return what a world says of a mutant or a pair, if it notices."""
    with mutated(*name.split(" + ")):
        return live(database, seed, swarm_for(name, seed))[1]


def hunt(database: Database, names: Iterable[str], seeds: Iterable[int]) -> int:
    """Print for each mutant or pair which seed notices it; return how many none does."""
    missed = 0
    for name in names:
        tried = (*([noticed_by()[name]] if name in noticed_by() else []), *seeds)
        seed, said = next(
            ((seed, said) for seed in tried if (said := notices(database, name, seed))), (0, "")
        )
        missed += not seed and name not in HARMLESS_ALONE
        print(f"{name:45} {seed or 'not noticed'} {(said or '')[:90]!r}", flush=True)
    return missed
