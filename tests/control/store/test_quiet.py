"""Control may end only when nothing runs and nothing has to be done within the hour."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlmodel import select

from control.store import Store, retention
from control.store.quiet import is_quiet
from control.store.tables import Attempt, Batch, Delivery, Job, Machine, Output, Source, Upload, Webhook
from tests.support.fakes import Clock
from tests.support.rows import Rows

HOUR = timedelta(hours=1)
Change = Callable[[datetime], dict[str, Any]]

# Each changes one row of a control at rest so that something runs or is due. The second value of a
# pair is the same change when it is still too far away to matter.
BUSY: dict[str, tuple[type, Change, Change | None]] = {
    "a live batch": (Batch, lambda _: {"ended_at": None}, None),
    "a deleted batch": (Batch, lambda now: {"deleted_at": now}, None),
    "results that expire soon": (
        Batch,
        lambda now: {"expires_at": now + 0.9 * HOUR},
        lambda now: {"expires_at": now + 1.1 * HOUR},
    ),
    "files of an expired batch": (Batch, lambda _: {"status": "expired"}, None),
    "a machine that may run": (Machine, lambda _: {"gone_at": None}, None),
    "a machine that may appear": (
        Attempt,
        lambda now: {"asked_at": now - timedelta(seconds=60)},
        lambda now: {"asked_at": now - 30 * HOUR},
    ),
    "an attempt that has just ended": (
        Attempt,
        lambda now: {"ended_at": now - timedelta(minutes=1)},
        lambda now: {"ended_at": now - HOUR},
    ),
    "a due webhook": (Webhook, lambda _: {"state": "due"}, lambda _: {"state": "dead"}),
    "an upload that expires soon": (
        Upload,
        lambda now: {"expires_at": now + 0.9 * HOUR},
        lambda now: {"expires_at": now + 1.1 * HOUR},
    ),
    "a source that is being deleted": (
        Source,
        lambda now: {"deleted_at": now},
        lambda now: {"deleted_at": now, "key": ""},
    ),
    "an unused source that is due soon": (
        Source,
        lambda now: {"created_at": now - 23.5 * HOUR},
        lambda now: {"created_at": now - 22.5 * HOUR},
    ),
    "more than fits": (Job, lambda _: {"stored_bytes": 2**40}, None),
}


@pytest.fixture
def at_rest(store: Store, rows: Rows, clock: Clock) -> Store:
    """An ended batch, a machine that is gone, an open upload, and a source that may be used."""
    job_id = rows.submit(variations=1)
    now, unused = clock(), rows.source("unused.mp4")
    later = now + 20 * HOUR
    with store.transaction() as tx:
        job = tx.session.get_one(Job, job_id)
        batch = tx.session.get_one(Batch, job.batch_id)
        for ended in (job, batch):
            ended.status, ended.ended_at = "completed", now - 2 * HOUR
        batch.expires_at, job.stored_bytes = later, 10
        for output in tx.outputs(job_id):
            output.state = "failed"  # so that its source is kept for a retry
        batch.partial = True
        common = {"app": "app", "region": "iad", "created_at": now - 3 * HOUR}
        tx.session.add(
            Attempt(id=f"{job_id}-1", job_id=job_id, number=1, state="succeeded", size="s", image="i",
                    launch_after=now, **common)
        )  # fmt: skip
        tx.session.add(Machine(id="m", name="m", state="destroyed", gone_at=now - HOUR, **common))
        tx.session.add(
            Webhook(batch_id=batch.id, subject="batch", message_id="msg", url=None, state="delivered")
        )
        tx.session.add(
            Upload(id="upl", name="a", content_type="video/mp4", size_bytes=1, key="k", multipart_id="m",
                   part_size_bytes=1, state="open", created_at=now, expires_at=later)
        )  # fmt: skip
        source = tx.session.get_one(Source, unused.source_id)
        source.created_at = now
    return store


def changed(store: Store, clock: Clock, table: type, change: Change) -> bool:
    """Return whether control is quiet after the change of one row."""
    with store.transaction() as tx:
        rows = tx.session.exec(select(table)).all()
        row = next((each for each in rows if getattr(each, "name", "") == "unused.mp4"), rows[0])
        for name, value in change(clock()).items():
            setattr(row, name, value)
    with store.transaction() as tx:
        return is_quiet(tx.session, store.settings, clock())


def test_a_control_at_rest_is_quiet(at_rest: Store, clock: Clock) -> None:
    assert changed(at_rest, clock, Output, lambda _: {})


@pytest.mark.parametrize("name", BUSY)
def test_what_runs_or_is_due_within_the_hour_keeps_control_awake(
    at_rest: Store, clock: Clock, name: str
) -> None:
    table, change, harmless = BUSY[name]
    if harmless is not None:
        assert changed(at_rest, clock, table, harmless)
        if name == "a source that is being deleted":
            change = lambda now: {"deleted_at": now, "key": "key"}  # noqa: E731
    assert not changed(at_rest, clock, table, change)


def test_a_url_that_no_retry_can_need_keeps_control_awake_until_it_is_removed(
    at_rest: Store, clock: Clock
) -> None:
    with at_rest.transaction() as tx:
        for output in tx.session.exec(select(Output)).all():
            url = "https://host/put?signature=x"
            tx.session.add(Delivery(output_id=output.id, batch_id=output.batch_id, url=url))
    assert changed(at_rest, clock, Output, lambda _: {})
    with at_rest.transaction() as tx:
        for output in tx.session.exec(select(Output)).all():
            tx.session.get_one(Source, output.source_id).refusal = "It is no video."
    assert not changed(at_rest, clock, Output, lambda _: {})
    retention.forget_ended(at_rest)
    assert changed(at_rest, clock, Output, lambda _: {})
