"""Deliberate faults in the core: each must be noticed by some world, or the judge cannot see it.

A mutant replaces something that the core looks up while worlds live: a function or a constant of a module, a
method of a port. Nothing depends on how the core is written inside of these. Some mutants are hidden by
defence in depth until a second joins them.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, false, func, true
from sqlmodel import Session, col, select

from control.cloud_state import Cloud
from control.domain import states
from control.domain.states import AttemptState, Trigger
from control.http.guard import Guard
from control.passes import launch, loop, observe, reap, retention, watch
from control.routes import runner
from control.store import (
    alive,
    attempts,
    batches,
    changes,
    idempotency,
    leases,
    machines,
    queue,
    reports,
    usage,
)
from control.store import retention as stored_retention
from control.store.files import StoredFile
from control.store.prepared import Prepared
from control.store.tables import Attempt, Job, Machine
from control.views import shared
from infra.flysim.faults import FailPoint, Faults
from runner.contract import Reason
from tests.sim import outside, world
from tests.sim.campaign import live
from tests.sim.database import Database
from tests.sim.swarm import ROOM_BYTES, Mishap, Swarm

Mutant = Callable[[ExitStack], None]
NOTICED = Path(__file__).with_name("mutants.txt")


def put(stack: ExitStack, owner: Any, name: str, value: Any) -> None:
    """Set an attribute until the stack is closed. It must exist: a mutant of nothing proves nothing."""
    real = getattr(owner, name)
    stack.callback(setattr, owner, name, real)
    setattr(owner, name, value)


def switched(owner: Any, name: str, value: Any) -> Mutant:
    """Return the mutant that is one replaced attribute."""
    return lambda stack: put(stack, owner, name, value)


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
    put(stack, Cloud, "is_known", lambda *_: True)


def random_names(stack: ExitStack) -> None:
    """Each create has a name of its own."""
    put(stack, launch, "machine_name", lambda _: f"m-{secrets.token_hex(8)}")


def cap_counts_running(stack: ExitStack) -> None:
    """Only attempts that run count against the cap."""

    def running(_: Any) -> Any:
        counted = select(func.count()).where(col(Attempt.state) == AttemptState.RUNNING)
        return counted.correlate(None).scalar_subquery()

    for owner in (alive, queue):
        put(stack, owner, "count_possibly_alive", running)
    put(stack, attempts, "count_others", running)


def no_deleted_in_lists(stack: ExitStack) -> None:
    """Lists are asked for without machines that are destroyed."""
    real = outside.SimMachines.list

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
    put(stack, reports, "_may_report", lambda _, *, is_owner: is_owner)


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
    note, submit = idempotency.note, batches.submit
    later: list[tuple[Any, ...]] = []

    def in_two(store: Any, planned: Any, **named: Any) -> str:
        later.clear()
        batch_id = submit(store, planned, **named)
        with store.transaction() as tx:
            for noted in later:
                note(tx, *noted)
        return batch_id

    put(stack, idempotency, "note", lambda _, *noted: later.append(noted))
    put(stack, batches, "submit", in_two)


def unanswered_fails(stack: ExitStack) -> None:
    """A create without an answer counts as refused for ever."""

    def fail(store: Any, attempt_id: str, *, retry_after: timedelta) -> None:
        attempts.end(store, attempt_id, Trigger.LAUNCH_REFUSED, Reason.RUNNER_CRASHED, "")

    put(stack, attempts, "record_unanswered", fail)


def absence_is_gone(stack: ExitStack) -> None:
    """What a list lacks is gone: no machine is asked for by itself."""
    put(stack, outside.SimMachines, "get", lambda *_: None)
    put(stack, machines, "MISSES_MAX", 1)


def slot_freed_at_the_ask(stack: ExitStack) -> None:
    """A machine counts as gone as soon as its end is asked for."""

    def gone(store: Any, app: str, machine_id: str) -> None:
        with store.transaction() as tx:
            tx.session.get_one(Machine, (app, machine_id)).gone_at = tx.now

    put(stack, machines, "ask_to_destroy", gone)


def ready_without_looking(stack: ExitStack) -> None:
    """What a runner reports is believed."""

    def believed(_: Any, key: str, reported: Any) -> StoredFile | None:
        if reported is None:
            return None
        named = {name: getattr(reported, name) for name in ("size_bytes", "sha256", "crc32")}
        return StoredFile(key=key, etag=reported.md5, **named)

    put(stack, runner, "_seen", believed)


def judged_by(change: Callable[[watch.Until], watch.Until]) -> Mutant:
    """Return the mutant that judges attempts by other deadlines."""

    def mutant(stack: ExitStack) -> None:
        real = watch.judge
        put(
            stack, watch, "judge",
            lambda attempt, now, until: real(attempt, now, change(until)),
        )  # fmt: skip

    return mutant


def cancel_forgets_launching(stack: ExitStack) -> None:
    """A cancel ends only an attempt that runs."""
    real = changes._live_attempt

    def running(tx: Any, job: Any) -> Attempt | None:
        attempt = real(tx, job)
        return attempt if attempt is not None and attempt.state == AttemptState.RUNNING else None

    put(stack, changes, "_live_attempt", running)


def cancelled_job_is_queued_again(stack: ExitStack) -> None:
    """What follows an attempt does not depend on a cancel."""
    real = states.job_outcome

    def never_cancelled(outputs: Any, **named: Any) -> states.JobOutcome:
        return real(outputs, **{**named, "is_cancelled": False})

    put(stack, states, "job_outcome", never_cancelled)


def reaped(is_spared: Callable[[Any], bool]) -> Mutant:
    """Return the mutant that leaves machines alone that should end."""

    def mutant(stack: ExitStack) -> None:
        real = reap._unwanted

        class Some(Prepared):
            def rows(self, connection: Any, now: Any, **_: object) -> Any:
                return [machine for machine in real.rows(connection, now) if not is_spared(machine)]

        put(stack, reap, "_unwanted", Some(real._build))

    return mutant


def has_another(machine: Any) -> bool:
    """Return whether a live attempt has been claimed by another machine than this."""
    return machine.attempt_state in states.LIVE and machine.claimed_by != machine.id


def is_its_own(machine: Any) -> bool:
    """Return whether no other machine has claimed the attempt of this one, which may have ended."""
    return machine.attempt_state is not None and machine.claimed_by in (None, machine.id)


def counted_reserves(is_counted: Callable[[], ColumnElement[bool]]) -> Mutant:
    """Return the mutant that reserves the room of other jobs than the live ones."""

    def mutant(stack: ExitStack) -> None:
        left = func.sum(func.max(0, col(Job.room_bytes) - col(Job.stored_bytes)))
        put(stack, usage, "_to_be_made", Prepared(lambda _: select(left).where(is_counted())))

    return mutant


def room_checked_beforehand(stack: ExitStack) -> None:
    """A submit looks for room before its transaction, and not in it."""
    real, check = batches.submit, usage.require_space

    def early(store: Any, planned: Any, **key: Any) -> str:
        with Session(store._readers) as session:
            check(session, store.settings, store.clock(), more_bytes=planned.room_bytes)
        return real(store, planned, **key)

    put(stack, batches, "submit", early)
    put(stack, batches, "require_space", lambda *_, **__: None)


@contextmanager
def mutated(*names: str) -> Iterator[None]:
    """Patch the core with these mutants."""
    with ExitStack() as stack:
        stack.callback(forget_queries)
        for name in names:
            MUTANTS[name](stack)
        forget_queries()
        yield


def forget_queries() -> None:
    """Have the core build its prepared queries again: a mutant may have changed what they are made of."""
    core = [module for name, module in sys.modules.items() if name.startswith("control.")]
    for value in [value for module in core for value in vars(module).values()]:
        if isinstance(value, Prepared):
            value.forget()


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
    "no claim CAS": switched(reports, "_is_free", lambda _: True),
    "unanswered is failed": unanswered_fails,
    "absence from a list is gone": absence_is_gone,
    "one 404 is gone": switched(machines, "MISSES_MAX", 1),
    "a new machine is gone at once": switched(machines, "NEW", timedelta(0)),
    "all is news": switched(machines, "is_news", lambda *_, **__: True),
    "slot freed at the ask": slot_freed_at_the_ask,
    "ready without looking": ready_without_looking,
    "lease never extended": switched(leases.Leases, "extend", lambda *_: None),
    "no amnesty": judged_by(lambda until: replace(until, amnesty=-inf)),
    "retry renders all again": switched(changes, "_missing", lambda tx, job: list(tx.outputs(job.id))),
    "cancel forgets launching": cancel_forgets_launching,
    "finish is not idempotent": switched(reports, "_is_first", lambda *_: True),
    "cost counted again": switched(machines, "_is_settled", lambda _: False),
    "stale beat reports": switched(reports, "_may_report", lambda *_, **__: True),
    "old beats count": switched(reports, "_is_newer", lambda *_: True),
    "progress goes back": switched(reports, "_progress", lambda _, report: report.percent),
    "cancelled job is queued again": cancelled_job_is_queued_again,
    "twins are spared": reaped(has_another),
    "ended attempts keep machines": reaped(is_its_own),
    "destroyed once and forgotten": reaped(lambda machine: machine.destroy_asked_at is not None),
    "retries without end": switched(attempts, "_may_retry", lambda *_: True),
    "files go before machines": switched(retention, "_may_store", lambda _: false()),
    "seen and not adopted": switched(machines, "adopt", lambda *_: None),
    "no boot deadline": judged_by(lambda until: replace(until, boot=None)),
    "stuck boots use up attempts": switched(attempts, "not_", lambda _: true()),
    "creates are not noted beforehand": switched(attempts, "ask", lambda *_: True),
    "a machine gone hides a late one": switched(
        alive, "_is_own_live_machine", lambda: col(Machine.attempt_id) == col(Attempt.id)
    ),
    "rows go before late machines": switched(retention, "may_appear", lambda _: false()),
    "no lease without the bucket": switched(world, "hear", lambda *_: None),
    "ghosts do not count": switched(alive, "UNKNOWN_CREATE_TTL_S", 0),
    "rests with work left": switched(loop, "_is_anything_left", lambda _: False),
    "looks are never due": switched(observe, "EVERY_IDLE_S", 9 * 86_400.0),
    "grace is ignored": switched(stored_retention, "_had_its_grace", lambda _: true()),
    "room is not reserved": counted_reserves(false),
    "room is never given back": counted_reserves(true),
    "room is checked beforehand": room_checked_beforehand,
    "what ended lately makes room": switched(
        usage.Holdings, "fixed", property(lambda held: held.live + held.coming)
    ),
    "nothing is evicted": switched(stored_retention, "evict", lambda _: False),
    "a quote always fits": switched(usage, "fits", lambda *_: True),
    "links outlive their batch": switched(shared, "_is_over", lambda *_: False),
    "a ticket opens every batch": switched(Guard, "is_shared", lambda *_: True),
}  # fmt: skip

# The faults that bring a mutant, or a pair, to light.
M, S = Mishap, FailPoint
FOCUS: dict[str, dict[Mishap | FailPoint, float]] = {
    "no reaper": {S.STAYS_STOPPED: 0.9, M.RENDER_HANGS: 0.5},
    "no watch": {M.RENDER_HANGS: 0.9, S.KILLED: 0.5},
    "random machine names": {S.CREATE_LOST_DONE: 0.9, S.LIST_LAG: 0.9},
    "cap counts running only": {},
    "lists hide the destroyed": {S.CREATE_LOST_DONE: 0.9, S.LIST_LAG: 0.9, S.LAUNCH_FAILED: 0.9},
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
    "no lease without the bucket": {M.BUCKET_SLOW_DOWN: 0.7},
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
    "stuck boots use up attempts": {S.STUCK_FOR_EVER: 0.9},
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
    "grace is ignored": {M.RENDER_FAILED: 0.4, M.RETRY: 1.0},
    "room is not reserved": {},
    "room is never given back": {},
    "room is checked beforehand": {M.SLOW_CALL: 0.9},
    "what ended lately makes room": {},
    "nothing is evicted": {},
    "a quote always fits": {},
    "links outlive their batch": {M.SHARE: 0.9, M.DELETE: 0.9},
    "a ticket opens every batch": {M.SHARE: 0.9},
}  # fmt: skip
LITTLE_ROOM: dict[str, object] = {"storage_cap_bytes": 3 * ROOM_BYTES + 10_000, "evict_grace_s": 40.0}
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


SHORT_LIFE: dict[str, Any] = {
    "batches": 2,
    "jobs_max": 2,
    "submits_s": 10.0,
    "faults_s": 80.0,
    "rest_s": 1500.0,
}
CROWDED_LIFE: dict[str, Any] = {
    "batches": 6,
    "jobs_max": 1,
    "submits_s": 40.0,
    "faults_s": 150.0,
    "rest_s": 500.0,
}
OWN: dict[str, dict[str, object]] = {  # settings without which a small world is over too soon
    "stuck boots use up attempts": {"attempts_max": 1},
    **dict.fromkeys(list(FOCUS)[list(FOCUS).index("grace is ignored") :], LITTLE_ROOM),
    "grace is ignored": {**LITTLE_ROOM, "evict_grace_s": 20.0},
    "links outlive their batch": {**LITTLE_ROOM, "retention_hours": 0.01},
}


@cache
def noticed_by() -> dict[str, int]:
    """Return mutants, and pairs of them, with a seed whose world once noticed them."""
    lines = NOTICED.read_text().splitlines()
    pairs = [line.rsplit(maxsplit=1) for line in lines if line and not line.startswith("#")]
    return {name.strip(): int(seed) for name, seed in pairs}


def swarm_for(name: str, seed: int) -> Swarm:
    """Return a small world with the faults that a mutant or a pair is about, and no others."""
    focus, own = FOCUS[name], OWN.get(name, {})
    life = CROWDED_LIFE if own.keys() >= LITTLE_ROOM.keys() else SHORT_LIFE
    return Swarm(
        rates={mishap: rate for mishap, rate in focus.items() if isinstance(mishap, Mishap)},
        fly=Faults(
            rates={point: rate for point, rate in focus.items() if isinstance(point, FailPoint)},
            pull_s=(0, 12), boot_s=(0.3, 1), death_s=(0, 10), stopped_s=(1, 10), late_destroy_s=(10, 120),
            unseen_s=(10, 16.5),
        ),
        settings={**SMALL, "max_machines": 1 + seed % 2, **own},
        outputs_max=3, tick_s_max=5.0, **life,
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
