"""The costs of many machines, on both databases: sums of the database, equal to adding up row by row."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import event, text

from control.store.tables import Machine
from control.views import costs as viewed
from control.views.costs import costs
from control.views.schemas.costs import Costs

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)  # when the clock of the tests begins
MIDNIGHT = datetime(2026, 11, 21, tzinfo=UTC)


def machine(number: int, gone_at: datetime | None, batch_id: str | None, **columns: object) -> Machine:
    """Return a machine of the ledger; a live one has run for a minute."""
    started_at = (gone_at or NOON) - timedelta(minutes=1)
    return Machine(
        app="runners",
        id=f"m{number}",
        name=f"name-{number}",
        batch_id=batch_id,
        region="iad",
        size="performance-1x",
        state="started" if gone_at is None else "destroyed",
        created_at=started_at,
        started_at=started_at,
        gone_at=gone_at,
        **columns,
    )


def ledger(rows, *, gone: int, live: int, batches: int) -> list[Machine]:
    """Store machines of some days and batches, and of none; return those that are gone."""
    chance = random.Random(7)
    ended = [
        machine(
            number,
            NOON - timedelta(seconds=chance.randrange(5 * 86400)),
            chance.choice([None, *(f"batch_{n}" for n in range(batches))]),
            machine_seconds=chance.random() * 300,
            leaked_seconds=chance.random(),
            egress_bytes=chance.randrange(2**40),  # their sum needs more than 32 bits
            outputs=chance.randrange(4),
            cost_usd=chance.random() / 100,
        )
        for number in range(gone)
    ]
    alive = [machine(gone + number, None, f"batch_{number}") for number in range(live)]
    with rows.store.transaction() as tx:
        tx.session.add_all([*ended, *alive])
    return ended


def shown(context, first: date, last: date) -> Costs:
    return costs(context.views, context.settings, NOON, first, last)


def test_machines_that_are_gone_are_summed_and_not_loaded(context, rows):
    ledger(rows, gone=300, live=2, batches=20)
    loaded: list[Machine] = []

    def note(row: Machine, _: object) -> None:
        loaded.append(row)

    event.listen(Machine, "load", note)
    try:
        found = shown(context, date(2026, 11, 1), date(2026, 11, 21))
        before_today = shown(context, date(2026, 11, 1), date(2026, 11, 20))
    finally:
        event.remove(Machine, "load", note)
    assert {row.gone_at for row in loaded} == {None}
    assert len(loaded) == 2, "live machines, if today is asked for"
    assert sum(day.machines for day in found.days) == 302
    assert 0 < sum(day.machines for day in before_today.days) < 300


def test_the_sums_are_those_of_the_rows(context, rows):
    ended = ledger(rows, gone=300, live=0, batches=20)
    found = shown(context, date(2026, 11, 18), date(2026, 11, 21))
    asked = [each for each in ended if each.gone_at >= datetime(2026, 11, 18, tzinfo=UTC)]
    assert len(asked) < len(ended)
    for day in found.days:
        mine = [each for each in asked if each.gone_at.date() == day.date]
        assert day.machines == len(mine)
        assert day.egress_bytes == sum(each.egress_bytes for each in mine)
        assert day.outputs == sum(each.outputs for each in mine)
        assert day.machine_seconds == pytest.approx(sum(each.machine_seconds for each in mine), abs=0.001)
        assert day.leaked_seconds == pytest.approx(sum(each.leaked_seconds for each in mine), abs=0.001)
        assert day.cost_usd == pytest.approx(sum(each.cost_usd for each in mine), abs=1e-6)
    assert [day.date for day in found.days] == sorted({each.gone_at.date() for each in asked})
    assert {each.batch_id: each.machines for each in found.batches} == Counter(
        each.batch_id for each in asked if each.batch_id is not None
    )
    for batch in found.batches:
        usd = sum(each.cost_usd for each in asked if each.batch_id == batch.batch_id)
        assert batch.cost_usd == pytest.approx(usd, abs=1e-6)
    in_order = [each.cost_usd for each in found.batches]
    assert in_order == sorted(in_order, reverse=True)
    assert found.cost_usd == pytest.approx(sum(each.cost_usd for each in asked), abs=1e-6)


def test_the_dearest_batches_are_those_with_their_live_machines(context, rows, monkeypatch):
    monkeypatch.setattr(viewed, "BATCHES_MAX", 2)
    minute_usd = 60 * 1.2731e-05
    usd = {"batch_0": 0.9 * minute_usd, "batch_1": minute_usd, "batch_2": 1.5 * minute_usd}
    with rows.store.transaction() as tx:
        for number, (batch_id, cost_usd) in enumerate(usd.items()):
            tx.session.add(machine(number, NOON, batch_id, cost_usd=cost_usd, outputs=1))
        tx.session.add(machine(3, None, "batch_0"))
        tx.session.add(machine(4, None, None))
    found = shown(context, date(2026, 11, 21), date(2026, 11, 21))
    assert [(each.batch_id, each.machines) for each in found.batches] == [("batch_0", 2), ("batch_2", 1)]
    assert found.batches[0].cost_usd == pytest.approx(1.9 * minute_usd, abs=1e-6)
    assert found.days[0].machines == 5


def test_a_day_begins_at_midnight_utc_whatever_the_time_zone_of_the_server(context, rows, engine):
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(text(f"ALTER DATABASE {engine.url.database} SET timezone = 'Asia/Tokyo'"))
        engine.dispose()  # new connections have it
    with rows.store.transaction() as tx:
        tx.session.add(machine(0, MIDNIGHT - timedelta(microseconds=1), None))
        tx.session.add(machine(1, MIDNIGHT, None))
        tx.session.add(machine(2, MIDNIGHT + timedelta(days=1) - timedelta(microseconds=1), None))
    found = shown(context, date(2026, 11, 1), date(2026, 11, 21))
    assert [(day.date.day, day.machines) for day in found.days] == [(20, 1), (21, 2)]
