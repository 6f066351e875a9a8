"""Many worlds, in one process or several: for a given time, or until so many are lived.

Each piece of seeds that is done is a line of its ledger, with all that the worlds went through.
"""

from __future__ import annotations

import gc
import resource
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import count, islice
from multiprocessing import get_context
from pathlib import Path

from tests.sim.database import Database
from tests.sim.swarm import APART, LASTING, OFTEN, Swarm
from tests.sim.world import Report, World
from tests.support.ledger import Ledger

HITS_MIN = 50  # of each fault site, or a soak proves nothing of it
PIECE = 20  # worlds
JUDGED = ("control", "runner", "infra", "tests/sim", "tests/support/settings.py", "requirements.lock")
REGRESSIONS = Path(__file__).with_name("regressions.txt")


def regressions() -> list[int]:
    """Return the seeds that once found something."""
    lines = REGRESSIONS.read_text().splitlines()
    return [int(line.split()[0]) for line in lines if line and not line.startswith("#")]


def live(database: Database, seed: int, swarm: Swarm | None = None) -> tuple[Report, str | None]:
    """Live one world; return its report, and what went wrong with how to see it again."""
    world = World(seed, database, swarm=swarm)
    try:
        return world.run(), None
    except Exception as error:  # noqa: BLE001 - a crash of the core is a finding like any other
        again = f".venv/bin/python -m tests.sim --seed {seed}"
        return world.report, f"{type(error).__name__}: {error}\n    again: {again}"


@dataclass
class Piece:
    """What some worlds of consecutive seeds went through."""

    first: int
    report: Report = field(default_factory=Report)
    failures: list[str] = field(default_factory=list)


def live_piece(first: int, worlds: int = PIECE, database: Database | None = None) -> Piece:
    """Live the worlds of so many seeds from `first`."""
    database, piece = database or _own_database(), Piece(first)
    for seed in range(first, first + worlds):
        report, failure = live(database, seed)
        piece.report.add(report)
        piece.failures += [failure] if failure else []
    return piece


_databases: list[Database] = []  # of this process, made for its first piece


def _own_database() -> Database:
    if not _databases:
        _databases.append(Database())
        gc.freeze()  # what was imported stays: not to be looked at in every collection
    return _databases[0]


class Lived:
    """The pieces that one state of the code has lived, by its ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.total = Piece(0)
        self.done: set[int] = set()
        for line in ledger.lines:
            self._count(Piece(line["first"], Report.of(line["report"]), line["failures"]))

    def _count(self, piece: Piece) -> None:
        self.done.add(piece.first)
        self.total.report.add(piece.report)
        self.total.failures += piece.failures

    def add(self, piece: Piece) -> None:
        """Count a piece, and write it down."""
        self._count(piece)
        self._ledger.add({**vars(piece), "report": vars(piece.report)})


def campaign(
    seconds: float | None,
    *,
    first: int,
    worlds: int | None = None,
    jobs: int = 1,
    ledger: Ledger | None = None,
    piece: int = PIECE,
) -> int:
    """Live worlds in pieces until time or seeds are over, and print what was covered so far.

    Return 1 if one failed, or, unless worlds are left, if a site was hit seldom.
    """
    lived = Lived(ledger or Ledger(None, ""))
    before, began, cpu_before_s = lived.total.report.worlds, time.monotonic(), _cpu_s()
    firsts = count(first, piece) if worlds is None else range(first, first + worlds, piece)
    todo = (each for each in firsts if each not in lived.done)
    until = None if seconds is None else began + seconds
    for failure in lived.total.failures:
        print(failure)
    for done in _lived(todo, piece, jobs, until):
        lived.add(done)
        for failure in done.failures:
            print(failure, flush=True)
    total, took_s = lived.total, time.monotonic() - began
    print(summary(total.report, took_s))
    now = total.report.worlds - before
    each_s = (_cpu_s() - cpu_before_s) / max(1, now)
    print(f"of these now: {now} worlds, in {jobs} processes, with {each_s:.3f} s of CPU each")
    is_over = worlds is None or total.report.worlds >= worlds
    seldom = {str(point): total.report.hits[point] for point in (*OFTEN, *LASTING, *APART)}
    seldom = {name: hits for name, hits in seldom.items() if hits < HITS_MIN and is_over}
    print(f"hit less than {HITS_MIN} times: {seldom or 'none'}; failures: {len(total.failures)}")
    return 1 if total.failures or seldom else 0


def _cpu_s() -> float:
    """Return the CPU seconds of this process and of those that it has ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _lived(todo: Iterator[int], piece: int, jobs: int, until: float | None) -> Iterator[Piece]:
    """Yield pieces as they are done; begin none once it is `until`."""

    def begun() -> Iterator[int]:
        for first in todo:
            if until is not None and time.monotonic() > until:
                return
            yield first

    if jobs == 1:
        yield from (live_piece(first, piece) for first in begun())
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        left, pending = begun(), set[Future[Piece]]()
        while True:
            room = jobs - len(pending)
            pending |= {pool.submit(live_piece, first, piece) for first in islice(left, room)}
            if not pending:
                return
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (each.result() for each in done)


def summary(report: Report, seconds: float) -> str:
    """Return what worlds covered, in a few lines."""
    hits = ", ".join(f"{fail_point} {count}" for fail_point, count in sorted(report.hits.items()))
    jobs = ", ".join(f"{status} {count}" for status, count in sorted(report.jobs.items()))
    return (
        f"{report.worlds} worlds in {seconds:.0f} s, {report.events} events, "
        f"{report.virtual_s / 3600:.1f} simulated hours, {report.crash_points} crash points, "
        f"{report.machines} machines; jobs: {jobs}\nhits: {hits}"
    )
