"""The ledger of our machines: observed facts, our requests, and costs."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import Executable, Update, bindparam, func, update
from sqlmodel import col, select

from control.domain.states import AttemptState, OutputState
from control.planning.prices import egress_usd, machine_usd, requests_usd
from control.settings import Settings
from control.store.attempts import adopt
from control.store.budget import leaked_seconds, limit_s_of, sent_bytes
from control.store.calibration import learn
from control.store.prepared import Moment, Prepared, Row
from control.store.tables import Attempt, Downloads, Machine, Output
from control.store.transaction import Store, Transaction
from infra import ports

MISSES_MAX = 3  # consecutive 404 answers after which a machine counts as gone
LEDGER_DAYS_MIN = 366  # a year of costs can be asked for, whatever HISTORY_DAYS is
NEW = timedelta(seconds=15)  # a read may not find a machine of this age yet (flyctl also waits for this)


def kept_since(settings: Settings, now: datetime) -> datetime:
    """Return since when the ledger is complete: the rows of machines that were gone before are removed."""
    return now - timedelta(days=max(settings.history_days, LEDGER_DAYS_MIN))


def is_news(row: Row | None, seen: ports.Machine, *, since: datetime) -> bool:
    """Return whether the cloud shows something about a machine that the ledger does not have yet.

    `since` is when the ledger begins: a machine of before that is gone may have been removed from it.
    """
    if row is None:
        return not (seen.is_gone and seen.created_at < since)
    if row.gone_at is not None:
        return False
    has_started = row.started_at is None and seen.started_at is not None
    has_exited = row.exited_at is None and seen.exit is not None
    return row.state != seen.state or row.misses > 0 or has_started or has_exited


def observe(store: Store, seen: Collection[ports.Machine]) -> None:
    """Record what the cloud shows: new machines, their states and exits, and machines that are gone.

    A machine of a launching attempt is adopted. A machine that is gone is settled, once.
    """
    if not seen:
        return
    with store.transaction() as tx:
        for machine in seen:
            row = tx.session.get(Machine, (machine.app, machine.id)) or _added(tx, machine)
            if not _is_settled(row):
                _take_in(tx, row, machine)


def _is_settled(row: Machine) -> bool:
    """Return whether the machine is known to be gone and its cost is final."""
    return row.gone_at is not None


def miss(store: Store, app: str, machine_id: str) -> bool:
    """Record a GET that did not find a machine. Return whether it counts as gone, after MISSES_MAX of them.

    Misses of a NEW machine do not count. Its age comes from Fly's clock, so a clock skew changes this grace
    period.
    """
    with store.transaction() as tx:
        row = tx.session.get_one(Machine, (app, machine_id))
        row.misses += tx.now >= row.created_at + NEW
        if row.misses >= MISSES_MAX and row.gone_at is None:
            _settle(tx, row, until=row.exited_at or tx.now)
        return row.gone_at is not None


def ask_to_stop(store: Store, app: str, machine_id: str) -> None:
    """Record that the cloud is about to be asked to stop a machine."""
    with store.transaction() as tx:
        tx.change(_stop_asked, its_app=app, its_id=machine_id)


def ask_to_destroy(store: Store, app: str, machine_id: str) -> None:
    """Record that the cloud is about to be asked to destroy a machine."""
    with store.transaction() as tx:
        tx.change(_destroy_asked, its_app=app, its_id=machine_id)


@Prepared
def _stop_asked(now: Moment) -> Executable:
    return _of_machine().values(stop_asked_at=now)


@Prepared
def _destroy_asked(now: Moment) -> Executable:
    return _of_machine().values(destroy_asked_at=now)


def _of_machine() -> Update:
    is_it = col(Machine.app) == bindparam("its_app"), col(Machine.id) == bindparam("its_id")
    return update(Machine).where(*is_it)


def _added(tx: Transaction, machine: ports.Machine) -> Machine:
    attempt_id = machine.metadata.get("attempt")
    row = Machine(
        app=machine.app,
        id=machine.id,
        name=machine.name,
        attempt_id=attempt_id,
        batch_id=machine.metadata.get("batch"),
        region=machine.region,
        size=machine.metadata.get("size"),
        state=machine.state,
        created_at=machine.created_at,
    )
    tx.session.add(row)
    tx.note("machine_seen", app=row.app, machine_id=row.id, attempt_id=attempt_id, region=row.region)
    attempt = tx.session.get(Attempt, attempt_id) if attempt_id else None
    if attempt is not None:
        row.reserve_usd = attempt.reserve_usd
        adopt(tx, attempt, machine.id, machine.region)
    elif row.size is not None:
        row.reserve_usd = machine_usd(size=row.size, region=row.region, seconds=limit_s_of(tx.settings))
    return row


def _take_in(tx: Transaction, row: Machine, machine: ports.Machine) -> None:
    row.state, row.misses = machine.state, 0
    row.started_at = row.started_at or machine.started_at
    if machine.exit is not None and row.exited_at is None:
        row.exited_at, row.exit_code = machine.exit.at, machine.exit.exit_code
        row.exit_signal, row.oom_killed = machine.exit.signal, machine.exit.oom_killed
    if machine.is_gone:
        _settle(tx, row, until=row.exited_at or tx.now)


def _settle(tx: Transaction, row: Machine, *, until: datetime) -> None:
    """Close a machine: from now on its seconds, bytes and cost never change.

    A machine that disappeared before it was seen started is billed from its creation.
    """
    started_at = row.started_at or (row.created_at if row.misses else None)
    attempt = tx.session.get(Attempt, row.attempt_id) if row.attempt_id else None
    if started_at is not None:
        row.machine_seconds = max(0.0, (until - started_at).total_seconds())
        row.leaked_seconds = leaked_seconds(row, attempt, until)
    if attempt is not None and attempt.claimed_by == row.id:
        _count_outputs(tx, row, attempt)
        if attempt.state == AttemptState.SUCCEEDED and row.exited_at is not None:
            learn(tx, attempt, wall_s=row.machine_seconds)
    if row.size is not None:
        row.cost_usd = machine_usd(size=row.size, region=row.region, seconds=row.machine_seconds)
    row.cost_usd += egress_usd(region=row.region, size_bytes=row.egress_bytes)
    row.cost_usd += requests_usd(outputs=row.outputs)
    row.gone_at = tx.now
    if attempt is not None and attempt.machine_id == row.id:
        attempt.machine_seconds, attempt.cost_usd = row.machine_seconds, row.cost_usd


def _count_outputs(tx: Transaction, row: Machine, attempt: Attempt) -> None:
    [(row.outputs, stored_bytes)] = tx.rows(_made, attempt_id=row.attempt_id)
    row.egress_bytes = sent_bytes(attempt, int(stored_bytes or 0))  # PostgreSQL sums to a decimal


@Prepared
def _made(_: Moment) -> Executable:
    made = select(func.count(), func.sum(Output.size_bytes))
    mine = col(Output.attempt_id) == bindparam("attempt_id")
    return made.where(mine, col(Output.state) == OutputState.READY)


def count_download(store: Store, size_bytes: int) -> None:
    """Add the bytes that were sent of an archive to the count of today (UTC)."""
    with store.transaction() as tx:
        day = tx.now.date().isoformat()
        row = tx.session.get(Downloads, day) or Downloads(day=day)
        row.size_bytes += size_bytes
        tx.session.add(row)
