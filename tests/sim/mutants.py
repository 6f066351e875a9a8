"""Deliberate faults in the core: each must be noticed by some world, or the judge is blind to it.

A mutant patches the core while worlds live. Some are hidden by defence in depth until a second joins them.
"""

from __future__ import annotations

import inspect
import secrets
import textwrap
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from sqlalchemy import func

from control.api import runner
from control.domain import states
from control.domain.states import AttemptState, Trigger
from control.passes import launch, loop, observe, reap, retention, watch
from control.store import attempts, batches, changes, machines, queue, reports
from control.store import transaction as transactions
from infra.fly import client
from infra.flysim.faults import FailPoint, Faults
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
    attempts, batches, changes, states, retention, launch, machines, observe, reap, reports, runner,
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
    from control.cloud_state import Cloud

    put(stack, Cloud, "is_known", lambda *_: True)


def random_names(stack: ExitStack) -> None:
    """Each create has a name of its own."""
    put(stack, launch, "machine_name", lambda _: f"m-{secrets.token_hex(8)}")


def cap_counts_running(stack: ExitStack) -> None:
    """Only attempts that run count against the cap."""

    def running(_: Any) -> Any:
        mine = attempts.select(func.count()).where(attempts.Attempt.state == AttemptState.RUNNING)
        return mine.scalar_subquery()

    put(stack, attempts, "_count_possibly_alive", running)


def no_deleted_in_lists(stack: ExitStack) -> None:
    """Lists are asked for without machines that are destroyed."""
    real = client.FlyMachines.list

    def without(self: Any, app: str, metadata: Any) -> Any:
        return [machine for machine in real(self, app, metadata) if not machine.is_gone]

    put(stack, outside.SimMachines, "list", without)


def ends_not_final(stack: ExitStack) -> None:
    """The move table lets a finish end what has ended."""
    moves = dict.fromkeys(AttemptState, AttemptState.SUCCEEDED)
    put(stack, states, "TRANSITIONS", {**states.TRANSITIONS, Trigger.FINISHED_OK: moves})


def terminal_not_guarded(stack: ExitStack) -> None:
    """An attempt that has ended is moved by a late finish."""
    ends_not_final(stack)
    edit(stack, reports, "finish", "attempt.state == AttemptState.RUNNING or", "True or")


def shared_key(stack: ExitStack) -> None:
    """All attempts put an output under one key."""
    put(
        stack, runner, "output_key",
        lambda context, _, output_id, ending=".mp4": f"{context.store.owner_id}/outputs/{output_id}{ending}",
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
        stack, batches, "submit", "        if key is not None:\n            keys.note(",
        "        pass\n    with store.transaction() as tx:\n"
        "        if key is not None:\n            keys.note(",
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
    "ends are not final": ends_not_final,
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
        "attempts.end(parts.store, attempt.id, Trigger.LAUNCH_REFUSED, contract.Reason.RUNNER_CRASHED, '')",
    ),
    "absence from a list is gone": edited(
        observe, "_ask_after", "machine = parts.machines.get(row.app, row.id)",
        "machine = None; [ledger.miss(parts.store, row.app, row.id) for _ in 'abc']",
    ),
    "one 404 is gone": lambda stack: put(stack, machines, "MISSES_MAX", 1),
    "a new machine is gone at once": lambda stack: put(stack, machines, "NEW", timedelta(0)),
    "all is news": lambda stack: put(stack, machines, "is_news", lambda *_: True),
    "slot freed at the ask": edited(
        machines, "ask_to_destroy", ".destroy_asked_at = tx.now", ".gone_at = tx.now",
    ),
    "ready without looking": edited(
        runner, "_seen",
        "if reported is None or stored is None or not _is_as_reported(stored, reported):",
        "if reported is None:\n        return None\n    size = reported.size_bytes\n"
        "    stored = stored or StoredObject(size_bytes=size, etag=reported.md5)\n    if False:",
    ),
    "lease never extended": edited(
        reports, "heartbeat",
        "lease = leases.length(store.settings, next_beat_s)", "lease = timedelta(0)",
    ),
    "no amnesty": edited(
        watch, "judge", "_is_past(until.lease, now, until.amnesty)", "_is_past(until.lease, now)",
    ),
    "retry renders all again": edited(
        changes, "_missing", "if output.state != OutputState.READY", ""
    ),
    "cancel forgets launching": edited(
        changes, "_cancel", "col(Attempt.state).in_(domain.LIVE)", "col(Attempt.state) == 'running'"
    ),
    "finish is not idempotent": edited(
        reports, "finish", "if attempt.finish_digest != digest:", "if True:"
    ),
    "cost counted again": edited(
        machines, "observe", "if row.gone_at is None:", "if True:"
    ),
    "stale beat reports": edited(
        reports, "heartbeat",
        "if not is_owner or attempt.state != AttemptState.RUNNING:", "if False:",
    ),
    "old beats count": edited(reports, "heartbeat", "if beat.seq > attempt.seq:", "if True:"),
    "progress goes back": edited(
        reports, "_take_one", "max(output.percent, report.percent)", "report.percent"
    ),
    "cancelled job is queued again": edited(
        attempts, "end_within", "is_cancelled=job.cancelled_at is not None", "is_cancelled=False"
    ),
    "twins are spared": edited(
        reap, "_unwanted", "or_(has_none, has_ended, has_another)", "or_(has_none, has_ended)"
    ),
    "ended attempts keep machines": edited(
        reap, "_unwanted", "or_(has_none, has_ended, has_another)", "or_(has_none, has_another)"
    ),
    "destroyed once and forgotten": edited(
        reap, "_end", "elif has_come(", "elif machine.destroy_asked_at is None and has_come(",
    ),
    "retries without end": edited(
        attempts, "_may_retry", ">= job.attempts_max", ">= 10_000"
    ),
    "files go before machines": edited(
        retention, "_ready_to_go", "or_(lives,", "or_("
    ),
    "seen and not adopted": edited(machines, "_added", "if attempt is not None:", "if False:"),
    "no boot deadline": edited(
        watch, "judge", "if not is_running and _is_past(until.boot, now, until.amnesty):", "if False:"
    ),
    "creates are not noted beforehand": lambda stack: put(stack, attempts, "ask", lambda *_: True),
    "a machine gone hides a late one": edited(
        queue, "is_unseen",
        "own = and_(col(Machine.attempt_id) == col(Attempt.id), col(Machine.gone_at).is_(None))",
        "own = col(Machine.attempt_id) == col(Attempt.id)",
    ),
    "rows go before late machines": edited(
        retention, "_ready_to_go",
        "or_(lives, is_within(Attempt.asked_at, now, timedelta(seconds=UNKNOWN_CREATE_TTL_S)))", "lives",
    ),
    "ghosts do not count": lambda stack: put(stack, attempts, "UNKNOWN_CREATE_TTL_S", 0),
    "rests with work left": lambda stack: put(stack, loop, "_is_anything_left", lambda _: False),
    "looks are never due": lambda stack: put(stack, observe, "EVERY_IDLE_S", 9 * 86_400.0),
}  # fmt: skip

# The faults that bring a mutant, or a pair, to light.
M, S = Mishap, FailPoint
FOCUS: dict[str, dict[Mishap | FailPoint, float]] = {
    "no reaper": {S.STAYS_STOPPED: 0.9, M.RENDER_HANGS: 0.5},
    "no watch": {M.RENDER_HANGS: 0.9, S.KILLED: 0.5},
    "random machine names": {S.CREATE_LOST_DONE: 0.9, S.LIST_LAG: 0.9},
    "cap counts running only": {},
    "lists hide the destroyed": {S.CREATE_LOST_DONE: 0.9, S.LIST_LAG: 0.9, S.KILLED: 0.9},
    "terminal not guarded": {M.RUNNER_CUT_OFF: 0.9, S.END_LOST_UNDONE: 0.9, S.LATE_DESTROY: 0.9},
    "answered before the commit": {M.CRASH: 0.05},
    "submit in two transactions": {M.CRASH: 0.05},
    "no claim CAS": {S.TWIN: 1.0, S.CREATE_LOST_DONE: 0.9, S.LIST_LAG: 0.9},
    "unanswered is failed + ghosts do not count": {S.CREATE_LOST_DONE: 0.9, S.LIST_LAG: 0.9},
    "absence from a list is gone": {S.PARTIAL_LIST: 0.5, S.EMPTY_LIST: 0.5, S.LIST_LAG: 0.5},
    "one 404 is gone": {S.UNSEEN: 0.9, S.LIST_LAG: 0.9},
    "a new machine is gone at once": {S.UNSEEN: 0.9, S.LIST_LAG: 0.9},
    "slot freed at the ask": {M.CANCEL: 0.9, S.LATE_DESTROY: 0.9},
    "ready without looking": {M.PUT_VANISHES: 0.5},
    "lease never extended": {M.RENDER_HANGS: 0.5},
    "no amnesty": {M.AWAY: 1.0, M.RENDER_HANGS: 0.7},
    "retry renders all again": {M.RENDER_FAILED: 0.4, M.RETRY: 1.0},
    "cancel forgets launching": {M.CANCEL: 0.9, S.CREATE_LOST_UNDONE: 0.7},
    "cost counted again + all is news": {S.KILLED: 0.5},
    "stale beat reports": {S.KILLED: 0.9, M.MESSAGE_LATE: 0.5},
    "cancelled job is queued again": {M.CANCEL: 1.0, M.RENDER_HANGS: 0.5},
    "ended attempts keep machines": {S.STAYS_STOPPED: 0.9},
    "destroyed once and forgotten": {S.STAYS_STOPPED: 0.9, S.END_LOST_UNDONE: 0.9},
    "retries without end": {S.KILLED: 0.9, S.START_FAILED: 0.5},
    "files go before machines": {M.DELETE: 0.9, S.END_LOST_UNDONE: 0.9, S.LATE_DESTROY: 0.9},
    "no boot deadline": {S.STUCK_FOR_EVER: 0.9},
    "creates are not noted beforehand": {M.CRASH_IN_CREATE: 0.3, M.CREATE_LATE: 0.5, M.CANCEL: 0.9},
    "a machine gone hides a late one": {M.CREATE_LATE: 0.8, S.KILLED: 0.5, S.LIST_LAG: 0.3},
    "rows go before late machines": {M.CREATE_LATE: 0.8, M.DELETE: 0.9, S.LIST_LAG: 0.9},
    "ghosts do not count": {M.CREATE_LATE: 0.8, M.CANCEL: 0.9, S.LIST_LAG: 0.8},
    "twins are spared": {
        S.TWIN: 1.0, S.CREATE_LOST_DONE: 0.9, S.LIST_LAG: 0.9, S.STAYS_STOPPED: 0.9, M.RENDER_HANGS: 0.7,
    },
    "seen and not adopted": {S.CREATE_LOST_DONE: 0.9, S.LAUNCH_FAILED: 0.5, S.KILLED: 0.5},
    "finish is not idempotent + ends are not final": {M.MESSAGE_TWICE: 0.5, M.ANSWER_LOST: 0.5},
    "overwriting PUTs + shared output key": {M.PUT_LATE: 0.5, S.KILLED: 0.5},
    "old beats count + progress goes back": {M.MESSAGE_LATE: 0.4, M.MESSAGE_TWICE: 0.5},
    "rests with work left + looks are never due": {},
    "no barrier + random machine names": {M.CRASH_IN_CREATE: 0.5, S.READ_LOST: 0.8},
}  # fmt: skip
SMALL = {
    "heartbeat_s": 5, "lease_s": 20, "boot_timeout_s": 40, "run_timeout_s": 120, "attempts_max": 3,
    "max_machines": 2, "runner_apps": "runners", "runner_regions": "iad",
}  # fmt: skip

# What defence in depth hides, and what else has to fail before a world can notice.
DEFENDED: dict[str, str] = {
    "finish is not idempotent": "the move table refuses to end an attempt twice",
    "ends are not final": "no finish gets as far as the move table once its attempt has ended",
    "shared output key": "If-None-Match refuses the second PUT, and what is not as reported is not ready",
    "overwriting PUTs": "no two attempts share a key",
    "unanswered is failed": "its place under the cap is held for as long as its machine could turn up",
    "cost counted again": "what the ledger knows to be gone is not written again",
    "all is news": "what is gone stays as it is",
    "progress goes back": "a beat that came late or twice reports nothing",
    "old beats count": "progress is the larger of two, and what is final stays",
    "rests with work left": "at the next look at the cloud, within a minute, every pass runs",
    "looks are never due": "whatever is left to do ends the rest",
    "no barrier": "the same create is asked again by name, and adopts; no verdict trusts a single list",
}


@cache
def noticed_by() -> dict[str, int]:
    """Return mutants, and pairs of them, with a seed whose world once noticed them."""
    lines = NOTICED.read_text().splitlines()
    pairs = [line.rsplit(maxsplit=1) for line in lines if line and not line.startswith("#")]
    return {name.strip(): int(seed) for name, seed in pairs}


def swarm_for(name: str, seed: int) -> Swarm:
    """Return a small world with the faults that a mutant or a pair is about, and no others."""
    focus = FOCUS[name]
    return Swarm(
        rates={mishap: rate for mishap, rate in focus.items() if isinstance(mishap, Mishap)},
        fly=Faults(
            rates={point: rate for point, rate in focus.items() if isinstance(point, FailPoint)},
            pull_s=(0, 12), boot_s=(0.3, 1), death_s=(0, 10), stopped_s=(1, 10), late_destroy_s=(10, 120),
            unseen_s=(10, 16.5),
        ),
        settings={**SMALL, "max_machines": 1 + seed % 2},
        batches=2, jobs_max=2, outputs_max=3, submits_s=10.0, faults_s=80.0, rest_s=1500.0, tick_s_max=5.0,
    )  # fmt: skip


def notices(database: Database, name: str, seed: int) -> str | None:
    """Return what a world says of a mutant or a pair, if it notices."""
    with mutated(*name.split(" + ")):
        return live(database, seed, swarm_for(name, seed))[1]


def hunt(database: Database, names: Iterable[str], seeds: Iterable[int]) -> int:
    """Print for each mutant or pair which seed notices it; return how many none does."""
    missed = 0
    for name in names:
        seed, said = next(
            ((seed, said) for seed in seeds if (said := notices(database, name, seed))), (0, None)
        )
        missed += not seed
        print(f"{name:45} {seed or 'not noticed'}  # {said and said.split(': ', 2)[2][:70]}", flush=True)
    return missed
