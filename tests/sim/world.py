"""One seeded world on a virtual clock: control, Fly, the bucket, runners and users, and their faults.

Everything that happens is an event on one heap; the same seed gives the same life, in any process. Control
is the real core. A crash is an exception at a commit or a call outside, after which control is built anew
from the same rows. Time passes inside control too (`SLOW_CALL`): then others act between its steps.
"""

from __future__ import annotations

import heapq
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from random import Random
from typing import Any

from sqlalchemy.exc import OperationalError

from control.app import ANSWER_FIRST_S, PASSES
from control.auth.tokens import Signer
from control.cloud_state import Cloud
from control.context import AppContext
from control.domain import ids
from control.domain.errors import ControlError
from control.http.errors import STATUS
from control.passes.loop import is_idle
from control.passes.retention import expire, forget
from control.passes.watch import recall
from control.passes.weigh import weigh
from control.planning import boots
from control.routes.runner import (
    hear,
    is_any_ready,
    seen_as_reported,
    seen_so_far,
    take_claim,
    take_finish,
    take_heartbeat,
)
from control.settings import Settings, load_settings
from control.store import Store
from control.store.transaction import Transaction
from infra.flysim.events import HostBack, HostLost, SendSignal, StartProcess
from infra.flysim.faults import Faults
from infra.flysim.world import World as Fly
from infra.ports import OutsideError, Unanswered
from runner.contract import Reason
from tests.sim.database import Database
from tests.sim.oracle import Oracle, Violation
from tests.sim.outside import SimBucket, SimMachines
from tests.sim.runner import SimRunner
from tests.sim.speed import SimViews, here_only
from tests.sim.swarm import CLOCK_STEPS_S, Mishap, Swarm
from tests.sim.users import Users
from tests.support.settings import SETTINGS

BASE = datetime(2026, 11, 21, 12, tzinfo=UTC)
SLOW_TICK_S = 20.0
WEIGHED_EVERY = 3
FORGET_EVERY_S = 5.0


def take_beat(context: AppContext, id_: str, beat: Any) -> Any:
    """Take a heartbeat, as its route does."""
    if is_any_ready(beat.outputs):
        hear(context, id_, beat)
    return take_heartbeat(context, id_, beat, seen_so_far(context, id_, beat))


def take_end(context: AppContext, id_: str, end: Any) -> Any:
    """Take a finish, as its route does."""
    if is_any_ready(end.outputs):
        hear(context, id_, end)
    return take_finish(context, id_, end, seen_as_reported(context, id_, end))


TAKE = {"claim": take_claim, "heartbeat": take_beat, "finish": take_end}


class Crash(BaseException):
    """Control dies here."""


class Gone(Crash):
    """Control was ended from outside while it was in the middle of something."""


class Injected(Exception):
    """An I/O call of control fails here."""


@dataclass
class Report:
    """What worlds went through."""

    worlds: int = 0
    events: int = 0
    virtual_s: float = 0.0
    crash_points: int = 0
    machines: int = 0
    jobs: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Report:
        """Return the report with these `vars`."""
        counted = {name: Counter(stored[name]) for name in ("jobs", "hits")}
        return cls(**{**stored, **counted})

    def add(self, other: Report) -> None:
        """Add another report to this one."""
        for name in ("worlds", "events", "virtual_s", "crash_points", "machines"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.jobs.update(other.jobs)
        self.hits.update(other.hits)


class SimStore(Store):
    """The store; control may die before and after each commit."""

    def __init__(self, world: World, settings: Settings) -> None:
        self._world = world
        super().__init__(world.database.engine, settings, world.now, monotonic=world.seconds)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Yield a transaction that a crash may end before or after its commit."""
        self._world.io("commit")
        with super().transaction() as tx:
            yield tx
            tx.flush()
            self._world.crash_point("before commit")
            if self._world.is_during(Mishap.DISK_FULL):
                raise OperationalError("disk full", None, Injected())
        self._world.oracle.check()
        self._world.crash_point("after commit")


@cache
def _settings(overrides: tuple[tuple[str, object], ...]) -> Settings:
    return load_settings(**{**SETTINGS, **dict(overrides)})


class World:
    """A world that has not begun; `run` lives it. Raises Violation."""

    def __init__(
        self,
        seed: int,
        database: Database,
        *,
        swarm: Swarm | None = None,
        crash_at: int | None = None,
        fail_at: int | None = None,
    ) -> None:
        database.reset()
        self.seed, self.database, self.swarm = seed, database, swarm or Swarm.of(seed)
        self.crash_at, self.fail_at = crash_at, fail_at
        self.t, self._events, self._asked = 0.0, [], 0
        self.injector = Random(f"{seed} dice")
        self.report = Report(worlds=1)
        self.hits = self.report.hits
        self.io_calls = self.calls_outside = 0
        self.settings = _settings(tuple(sorted(self.swarm.settings.items())))
        self.fly = Fly(self.settings.runner_apps, seed=str(seed), now=BASE, faults=self.swarm.fly)
        self.rates: dict[Mishap, float] = dict(self.swarm.rates)
        self.windows: dict[Mishap, list[tuple[float, float]]] = {}
        self.runners: dict[str, SimRunner] = {}
        self.bucket = SimBucket(self)
        self.context: AppContext | None = None
        self.generation = 0  # of control's process
        self._depth = self._ticks = 0
        self._clock_ahead_s, self.started_at, self._now = 0.0, 0.0, (0.0, BASE)
        self.clock_steps_at: list[float] = []
        self._woken = False
        self.is_over = self.is_calm = False
        self.log: list[str] | None = None
        self.oracle = Oracle(self)
        self.users = Users(self)

    # --- time -----------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """Return the instant, as the wall clock of control shows it."""
        shown_s = self.t + self._clock_ahead_s
        if shown_s != self._now[0]:
            self._now = shown_s, BASE + timedelta(seconds=shown_s)
        return self._now[1]

    def seconds(self) -> float:
        """Return the time of control's monotonic clock."""
        return self.t

    def after(self, seconds: float, do: Callable[[], object], *, is_tick: bool = False) -> None:
        """Do it then."""
        self._asked += 1
        heapq.heappush(self._events, (self.t + seconds, self._asked, is_tick, do))

    def say(self, text: str) -> None:
        """Keep a line, for who replays."""
        if self.log is not None:
            self.log.append(f"{self.t:9.2f} {text}")

    def pump(self) -> None:
        """Let Fly live until now, and do what it asks for."""
        instant = BASE + timedelta(seconds=self.t)
        while effects := self.fly.advance(instant):
            for effect in effects:
                self._perform(effect)

    def _next_at(self) -> float | None:
        due = self.fly.next_due()
        own = self._events[0][0] if self._events else None
        if due is None:
            return own
        fly_at = max(self.t, (due - BASE).total_seconds())
        return fly_at if own is None else min(own, fly_at)

    def _step(self, *, may_tick: bool = True) -> Any:
        """Do the next event; return a tick that may not run now."""
        at = self._next_at()
        assert at is not None
        self.t = max(self.t, at)
        self.pump()
        if not self._events or self._events[0][0] > self.t:
            return None
        event = heapq.heappop(self._events)
        if event[2] and not may_tick:
            return event
        self.report.events += 1
        event[3]()
        self.pump()
        self.oracle.check()
        return None

    def pause(self, seconds: float) -> None:
        """Let time pass inside control, while others act."""
        if self._depth > 2 or not self.database.is_idle:
            return
        until, held, generation = self.t + seconds, [], self.generation
        self._depth += 1
        try:
            while (at := self._next_at()) is not None and at <= until:
                held.append(self._step(may_tick=False))
        finally:
            self._depth -= 1
            for event in filter(None, held):
                heapq.heappush(self._events, (max(event[0], self.t), *event[1:]))
        self.t = max(self.t, until)
        self.pump()
        if generation != self.generation:
            raise Gone

    # --- chance ---------------------------------------------------------------------------------------

    def fires(self, mishap: Mishap) -> bool:
        """Return whether it happens here, and count it."""
        rate = self.rates.get(mishap, 0.0)
        struck = rate > 0 and self.injector.random() < rate
        if struck:
            self.hits[mishap] += 1
            self.say(f"! {mishap}")
        return struck

    def is_during(self, mishap: Mishap) -> bool:
        """Return whether it is one of the times at which this goes wrong."""
        struck = any(start <= self.t < end for start, end in self.windows.get(mishap, ()))
        if struck:
            self.hits[mishap] += 1
        return struck

    def io(self, what: str) -> None:
        """Pass a place where control is about to reach outside itself: it may die, fail, or wait here."""
        assert self.database.is_idle, "nothing is called while a transaction is open"
        self.crash_point(f"before {what}")
        self.io_calls += 1
        self.calls_outside += what != "commit"
        if self.io_calls == self.fail_at:
            self.say(f"! failure {self.io_calls}: {what}")
            if what == "commit":
                raise OperationalError("injected", None, Injected())
            raise Unanswered(f"injected: {what}")
        if self._depth < 2 and self.context is not None and self.fires(Mishap.SLOW_CALL):
            self.pause(self.injector.choice((0.5, 2, 8)))

    def crash_point(self, what: str, mishap: Mishap = Mishap.CRASH) -> None:
        """Pass a place where control may die."""
        if self.context is None:
            return
        self.report.crash_points += 1
        if self.report.crash_points == self.crash_at or self.fires(mishap):
            self.say(f"! crash {self.report.crash_points}: {what}")
            raise Crash

    # --- control --------------------------------------------------------------------------------------

    def start_control(self) -> None:
        """Build control from its rows, as a new process does."""
        if self.context is not None or self.is_dead_for_ever:
            return
        try:
            store = SimStore(self, self.settings)
        except OperationalError:  # the first commit failed: whoever supervises control starts it again
            self.after(1.0, self.start_control)
            return
        signer = Signer("secret for tests")
        self._woken = False
        self.context = AppContext(
            settings=self.settings,
            clock=self.now,
            store=store,
            views=SimViews(self, signer),
            signer=signer,
            storage=self.bucket,
            machines=SimMachines(self),
            cloud=Cloud(started_at=self.seconds()),
            bucket_http=None,  # type: ignore[arg-type]
            wake=self._wake,
        )
        self.generation += 1
        self.started_at = self.t
        self.say("control starts")
        recall(self.context)
        self._tick_after(0.0)
        generation = self.generation
        self.after(ANSWER_FIRST_S, lambda: self._forget(generation))
        if self.swarm.can_expire:
            self.after(ANSWER_FIRST_S, lambda: self._slow_tick(generation, 0))

    @property
    def is_dead_for_ever(self) -> bool:
        """True once control will never come back."""
        return self.swarm.dead_at_s is not None and self.t >= self.swarm.dead_at_s

    def end_control(self, down_s: float) -> None:
        """Have control be gone for so long."""
        if self.context is not None:
            self.context = None
            self.generation += 1
            self.say("control is gone")
        self.after(down_s, self.start_control)

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            self._tick_after(0.05)

    def _tick_after(self, seconds: float) -> None:
        """Have the passes run then, and not at the time that was set before."""
        self._ticks += 1
        generation, number = self.generation, self._ticks
        self.after(seconds, lambda: self._tick(generation, number), is_tick=True)

    def _tick(self, generation: int, number: int) -> None:
        """Run the passes once, as the ticker does: one that fails never stops the next."""
        if (generation, number) != (self.generation, self._ticks) or self.context is None:
            return
        self._woken = False
        before, calls = self.oracle.version(), self.calls_outside
        for run in () if is_idle(self.context) else PASSES:
            self._run(run)
        if generation != self.generation:
            return
        is_quiet = self.calls_outside == calls and self.oracle.version() == before
        self._pace_s = min(self._pace_s * 2, self.swarm.tick_s_max) if is_quiet else self.swarm.tick_s
        if not self._woken:
            self._tick_after(self._pace_s)
        if self.is_calm and is_quiet and not self._woken:
            self.is_over = self.oracle.is_idle()

    def _run(self, run: Callable[[AppContext], None]) -> bool:
        """Run one pass; return whether it succeeded."""
        assert self.context is not None
        try:
            run(self.context)
        except OutsideError as error:
            self.say(f"{run.__name__}: {error}")
        except OperationalError as error:
            if not isinstance(error.orig, Injected):
                raise
        else:
            return True
        return False

    def _forget(self, generation: int) -> None:
        """Remove deleted batches, now and again later, also while another pass waits for a call."""
        if generation == self.generation and self.context is not None:
            self._run(forget)
            self.after(FORGET_EVERY_S, lambda: self._forget(generation))

    def _slow_tick(self, generation: int, number: int) -> None:
        """Run the passes of the slow ticker that a world with little storage needs, and again later."""
        if generation != self.generation or self.context is None:
            return
        began = self.t
        if self._run(expire) and self.t == began:
            self.oracle.storage.after_pass()
        if number % WEIGHED_EVERY == 0:
            self._run(weigh)
        self.after(SLOW_TICK_S, lambda: self._slow_tick(generation, number + 1))

    _pace_s = 1.0

    def serve(self, do: Callable[[AppContext], Any]) -> tuple[int | None, Any]:
        """Have control answer a request: the status and the answer, or None and None from a dead one."""
        if self.context is None:
            return None, None
        try:
            return 200, do(self.context)
        except ControlError as error:
            return STATUS[error.code], error.code
        except OutsideError:
            return 503, None
        except OperationalError as error:
            if not isinstance(error.orig, Injected):
                raise
            return 500, None

    def post(self, runner: SimRunner, call: str, body: Any, timeout_s: float, then: Any) -> None:
        """Carry a runner's call to control, and the answer back, as a network does."""
        sent_at, is_open = self.t, [True]

        def answer(status: int | None, content: Any) -> None:
            if is_open[0]:
                is_open[0] = False
                then(status, content)

        def ask(context: AppContext) -> Any:
            if not context.signer.is_attempt_token(runner.token, runner.attempt_id):
                raise Violation(self, "a runner's token is not that of its attempt")
            return TAKE[call](context, runner.attempt_id, body)

        def arrive() -> None:
            status: int | None = None
            content = None
            try:
                status, content = self.serve(ask)
            finally:  # a crash of control ends the connection as well
                self.say(f"{call} of {runner.machine_id[:4]} for {runner.attempt_id[-8:]}: {status}")
                if status is None or not self.fires(Mishap.ANSWER_LOST):
                    self.after(0.02, lambda: answer(status, content))

        self.after(timeout_s, lambda: answer(None, None))
        if runner.is_muted or self.fires(Mishap.MESSAGE_LOST):
            return
        late_s = self.injector.uniform(1, 90) if self.fires(Mishap.MESSAGE_LATE) else 0.05
        self.after(late_s, arrive)
        if self.fires(Mishap.MESSAGE_TWICE):
            self.after(late_s + self.injector.choice((0, 1, 60)), lambda: self.serve(ask))
        assert sent_at <= self.t

    # --- machines -------------------------------------------------------------------------------------

    def _perform(self, effect: Any) -> None:
        runner = self.runners.get(effect.machine_id)
        match effect:
            case StartProcess():
                self.say(f"machine {effect.machine_id[:4]} runs")
                self.runners[effect.machine_id] = SimRunner(self, effect.machine_id, dict(effect.env))
                self.fly.started(effect.machine_id)
            case SendSignal() if runner is not None and runner.alive:
                if effect.signum == 9:
                    runner.kill()
                else:
                    runner.because(Reason.CANCELLED)
            case HostLost() if runner is not None:
                runner.is_muted = self.fires(Mishap.ZOMBIE_MUTE)
            case HostBack() if runner is not None:
                runner.is_muted = False

    def exited(self, runner: SimRunner, code: int, *, signal: int) -> None:
        """Report to Fly that a process has ended."""
        self.say(f"machine {runner.machine_id[:4]} exits {int(code)}")
        self.fly.exited(runner.machine_id, exit_code=int(code), signal=signal)

    # --- life -----------------------------------------------------------------------------------------

    def run(self) -> Report:
        """Live until all is at rest; return what happened. Raises Violation."""
        logging.getLogger("control").setLevel(logging.CRITICAL)
        with _seeded_ids(self.seed), _learning(self.swarm.boots_min):
            self._begin()
            while not self.is_over and (at := self._next_at()) is not None:
                if at > self.swarm.faults_s + self.swarm.rest_s:
                    break
                try:
                    self._step()
                except Gone:
                    continue
                except Crash:
                    self.end_control(self.injector.uniform(0.5, 15))
            self.oracle.at_rest()
        return self._reported()

    def _begin(self) -> None:
        swarm = self.swarm
        for mishap in (Mishap.TOKEN_REFUSED, Mishap.BUCKET_AWAY, Mishap.AWAY):
            self.windows[mishap] = list(self._drawn_windows(mishap, self.injector))
        apart = Random(f"{self.seed} path style")
        self.windows[Mishap.PATH_STYLE_REFUSED] = list(self._drawn_windows(Mishap.PATH_STYLE_REFUSED, apart))
        self.windows[Mishap.DISK_FULL] = list(
            self._drawn_windows(Mishap.DISK_FULL, Random(f"{self.seed} disk"))
        )
        if self.rates.pop(Mishap.CLOCK_STEP, 0.0):
            clock = Random(f"{self.seed} clock")
            for _ in range(clock.randint(1, 3)):
                step_s = clock.choice(CLOCK_STEPS_S)
                self.after(clock.uniform(0, swarm.faults_s), lambda step_s=step_s: self._step_clock(step_s))
        for start_s, end_s in self.windows.pop(Mishap.AWAY):
            self.after(start_s, lambda s=end_s - start_s: self._go_away(s))
        if swarm.dead_at_s is not None:
            self.after(swarm.dead_at_s, lambda: self.end_control(0))
        self.after(swarm.faults_s, self._calm)
        self.start_control()
        self.users.begin()

    def _drawn_windows(self, mishap: Mishap, injector: Random) -> Iterator[tuple[float, float]]:
        rate = self.rates.pop(mishap, 0.0)
        for _ in range(3):
            start_s = injector.uniform(0, self.swarm.faults_s)
            length_s = injector.choice((5, 20, 60, 330))
            if injector.random() < rate:
                yield start_s, min(start_s + length_s, self.swarm.faults_s)

    def _go_away(self, down_s: float) -> None:
        self.hits[Mishap.AWAY] += 1
        self.end_control(down_s)

    def _step_clock(self, step_s: float) -> None:
        self.hits[Mishap.CLOCK_STEP] += 1
        self.say(f"! the clock jumps by {step_s:.0f} s")
        self._clock_ahead_s += step_s
        self.clock_steps_at.append(self.t)

    def _calm(self) -> None:
        """End all faults; what was drawn already stays."""
        self.say("calm")
        self.rates.clear()
        spans = {"pull_s": (0, 1), "boot_s": (0.3, 1)}
        self.fly.set_faults(replace(Faults(), late_destroy_s=self.swarm.fly.late_destroy_s, **spans))
        self.is_calm = True

    def _boots_given_up(self) -> int:
        """Return how many attempts were ended by a boot deadline that was learned."""
        ended = "SELECT boot_from, ended_at FROM attempt WHERE reason = 'boot_deadline' AND number = 1"
        rows = self.database.judge.execute(ended).fetchall()
        took_s = [
            (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
            for start, end in rows
        ]
        return sum(took < self.settings.boot_timeout_s for took in took_s)

    def _reported(self) -> Report:
        self.report.virtual_s = self.t
        self.report.machines = len(self.fly.truth())
        self.report.jobs.update(status for (status,) in self.database.judge.execute("SELECT status FROM job"))
        self.hits[Mishap.BOOT_GIVEN_UP] += self._boots_given_up()
        self.hits.update({str(fail_point): count for fail_point, count in self.fly.hits.items()})
        return self.report


@contextmanager
def _learning(boots_min: int) -> Iterator[None]:
    """Have so few boots be enough to learn from while a world lives."""
    real, boots.SAMPLES_MIN = boots.SAMPLES_MIN, boots_min
    try:
        yield
    finally:
        boots.SAMPLES_MIN = real


@contextmanager
def _seeded_ids(seed: int) -> Iterator[None]:
    """Have ids come from the seed while a world lives."""
    injector = Random(f"{seed} ids")

    class Seeded:
        token_hex = staticmethod(
            here_only(lambda count: injector.randbytes(count).hex(), ids.secrets.token_hex)
        )

    real, ids.secrets = ids.secrets, Seeded  # type: ignore[assignment,misc]
    try:
        yield
    finally:
        ids.secrets = real
