"""Runs the passes again and again, unless no row needs any. A pass that crashes never stops the next.

It is asked of the rows, never remembered: a pass finds all by itself, after a crash too. Whatever state some
pass takes in must be asked for here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import or_
from sqlmodel import col, select

from control.context import AppContext
from control.domain import states
from control.domain.states import JobStatus
from control.passes.observe import is_due
from control.store.tables import Attempt, Batch, Job, Machine
from control.telemetry import counters, log

GAP_S = 0.25  # between two rounds: a burst of pokes is one


@dataclass
class Every:
    """A pass and how often it runs; `promptly` ones also run whenever somebody pokes the ticker."""

    seconds: float
    run: Callable[[], None]
    promptly: bool = False
    name: str = "pass"  # in the log
    due_at: float = field(default=0.0, init=False)  # on the monotonic clock


class Ticker:
    """One thread, named `name`. `start` once, `poke` from anywhere, `stop` more than once if need be.

    While `is_idle` says so, the passes are not run.
    """

    def __init__(self, name: str, *, is_idle: Callable[[], bool] = lambda: False) -> None:
        self._is_at_rest = is_idle
        self._passes: Sequence[Every] = ()
        self._poked = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def start(self, passes: Sequence[Every]) -> None:
        """Begin to run the passes in their order, each at once."""
        self._passes = passes
        for each in passes:  # one that never succeeds is to be noticed too
            counters.PASS_SUCCESS.labels(each.name).set_to_current_time()
        self._thread.start()

    def poke(self) -> None:
        """Run the prompt passes now instead of at their next turn."""
        self._poked.set()

    def stop(self, *, wait_s: float) -> bool:
        """Begin no pass from here on; return whether the one that runs has ended within `wait_s`."""
        self._stopping = True
        self._poked.set()
        if self._thread.ident is not None:  # it was started
            self._thread.join(wait_s)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        while not self._stopping:
            poked = self._poked.is_set()
            self._poked.clear()
            now = time.monotonic()
            due = [each for each in self._passes if now >= each.due_at or (poked and each.promptly)]
            if due:
                self._round(due)
                time.sleep(GAP_S)
            wait_s = min(each.due_at for each in self._passes) - time.monotonic()
            self._poked.wait(max(0.0, wait_s))

    def _round(self, due: Sequence[Every]) -> None:
        rests = self._rests()
        for each in due:
            if self._stopping:
                return
            if not rests:
                self._run(each)
            each.due_at = time.monotonic() + each.seconds

    def _rests(self) -> bool:
        try:
            return self._is_at_rest()
        except Exception as error:  # noqa: BLE001 - the passes tell what is wrong
            log.log_failure("pass_failed", error, name="is_idle")
            return False

    def _run(self, each: Every) -> None:
        try:
            each.run()
        except Exception as error:  # noqa: BLE001 - the next turn tries again
            log.log_failure("pass_failed", error, name=each.name)
        else:
            counters.PASS_SUCCESS.labels(each.name).set_to_current_time()


_LEFT = select(
    or_(
        select(Job.id).where(col(Job.status) == JobStatus.QUEUED).exists(),  # launch
        select(Attempt.id).where(col(Attempt.state).in_(states.LIVE)).exists(),  # launch, watch
        select(Machine.id).where(col(Machine.gone_at).is_(None)).exists(),  # observe, reap
        select(Batch.id).where(col(Batch.deleted_at).is_not(None)).exists(),  # forget
    )
)


def is_idle(context: AppContext) -> bool:
    """Tell whether no pass has anything to do, and no look at the cloud is due."""
    return not is_due(context) and not _is_anything_left(context)


def _is_anything_left(context: AppContext) -> bool:
    with context.views.session() as session:
        return bool(session.scalar(_LEFT))
