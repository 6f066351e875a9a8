"""Runs the passes repeatedly, except while no row needs any of them. A pass that fails never stops the next.

Whether a pass is needed is read from the rows, never remembered, so nothing is missed after a crash. Every
state that a pass handles must be part of the query here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Executable, or_
from sqlmodel import col, select

from control.context import AppContext
from control.domain import states
from control.domain.states import JobStatus
from control.passes.observe import is_due
from control.store.prepared import Moment, Prepared
from control.store.tables import Attempt, Job, Machine
from control.telemetry import counters, log

GAP_S = 0.25  # between two rounds: several pokes in a row cause one round


@dataclass
class Every:
    """A pass and how often it runs. A `promptly` pass also runs whenever the ticker is poked."""

    seconds: float
    run: Callable[[], None]
    promptly: bool = False
    name: str = "pass"  # in the log
    due_at: float = field(default=0.0, init=False)  # on the monotonic clock


class Ticker:
    """One thread, named `name`. Call `start` once, `poke` from any thread, `stop` as often as needed.

    The passes are not run while `is_idle` returns True.
    """

    def __init__(self, name: str, *, is_idle: Callable[[], bool] = lambda: False) -> None:
        self._is_idle = is_idle
        self._passes: Sequence[Every] = ()
        self._poked = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def start(self, passes: Sequence[Every], *, after_s: float = 0.0) -> None:
        """Start to run the passes in their order, each of them after `after_s` for the first time."""
        self._passes = passes
        for each in passes:
            each.due_at = time.monotonic() + after_s
        for each in passes:  # a pass that never succeeds is noticed by its age
            counters.PASS_SUCCESS.labels(each.name).set_to_current_time()
        self._thread.start()

    def poke(self) -> None:
        """Run the prompt passes now instead of at their next time."""
        self._poked.set()

    def stop(self, *, wait_s: float) -> bool:
        """Start no further pass; return whether the current one has ended within `wait_s`."""
        self._stopping = True
        self._poked.set()
        if self._thread.ident is not None:  # it was started
            self._thread.join(wait_s)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        while not self._stopping:
            if poked := self._poked.is_set():  # a poke that comes after this is not lost
                self._poked.clear()
            now = time.monotonic()
            due = [each for each in self._passes if now >= each.due_at or (poked and each.promptly)]
            if due:
                self._round(due)
                time.sleep(GAP_S)
            wait_s = min(each.due_at for each in self._passes) - time.monotonic()
            self._poked.wait(max(0.0, wait_s))

    def _round(self, due: Sequence[Every]) -> None:
        is_idle = self._nothing_to_do()
        for each in due:
            if self._stopping:
                return
            if not is_idle:
                self._run(each)
            each.due_at = time.monotonic() + each.seconds

    def _nothing_to_do(self) -> bool:
        try:
            return self._is_idle()
        except Exception as error:  # noqa: BLE001 - the passes report what is wrong
            log.log_failure("pass_failed", error, name="is_idle")
            return False

    def _run(self, each: Every) -> None:
        try:
            each.run()
        except Exception as error:  # noqa: BLE001 - the next run tries again
            log.log_failure("pass_failed", error, name=each.name)
        else:
            counters.PASS_SUCCESS.labels(each.name).set_to_current_time()


@Prepared
def _left(_: Moment) -> Executable:
    return select(
        or_(
            select(Job.id).where(col(Job.status) == JobStatus.QUEUED).exists(),  # launch
            select(Attempt.id).where(col(Attempt.state).in_(states.LIVE)).exists(),  # launch, watch
            select(Machine.id).where(col(Machine.gone_at).is_(None)).exists(),  # observe, reap
        )
    )


def is_idle(context: AppContext) -> bool:
    """Return whether no pass has anything to do and no observation of the cloud is due."""
    return not is_due(context) and not _is_anything_left(context)


def _is_anything_left(context: AppContext) -> bool:
    [(is_left,)] = context.views.rows(_left)
    return bool(is_left)
