"""Prepared statements convert values as SQLAlchemy does, and readers see one state of the rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import Executable, bindparam
from sqlalchemy.dialects.sqlite import dialect
from sqlmodel import col, select
from sqlmodel.sql.sqltypes import UTCDateTime

from control.auth.tokens import Signer
from control.store import attempts
from control.store.prepared import NO_TIME, Moment, Prepared, _reader, _writer
from control.store.tables import Job
from control.views.batches import Views
from tests.support.rows import Rows

TIMES = [
    datetime(2026, 11, 26, 12, 0, 0, tzinfo=UTC),
    datetime(2026, 11, 26, 12, 0, 0, 1, tzinfo=UTC),
    datetime(2026, 11, 26, 1, 2, 3, 456789, tzinfo=timezone(timedelta(hours=-9, minutes=-30))),
    datetime(1, 1, 1, tzinfo=UTC),
    None,
]


@pytest.mark.parametrize("at", TIMES)
def test_a_time_is_stored_in_sqlite_and_read_again_as_by_sqlalchemy(at: datetime | None):
    own, sqlite = UTCDateTime(), dialect()
    theirs = own.dialect_impl(sqlite)
    write, read = theirs.bind_processor(sqlite), theirs.result_processor(sqlite, None)
    text = write(at)
    assert _writer(own, sqlite)(at) == text
    found = _reader(own, sqlite, None)(text)
    assert found == read(text) == at
    assert found is None or found.tzinfo is UTC


def test_a_time_without_a_zone_is_refused_as_by_sqlmodel():
    with pytest.raises(ValueError, match="time zone"):
        _writer(UTCDateTime(), dialect())(datetime(2026, 11, 26))  # noqa: DTZ001 - what must not be


def test_lists_of_any_length_share_a_few_texts_and_find_what_they_name(rows: Rows):
    ids = [rows.submit() for _ in range(9)]

    @Prepared
    def named(_: Moment) -> Executable:
        return select(Job.id).where(col(Job.id).in_(bindparam("ids", expanding=True)))

    @Prepared
    def others(_: Moment) -> Executable:
        return select(Job.id).where(col(Job.id).not_in(bindparam("ids", expanding=True)))

    with rows.engine.connect() as connection:
        for count in range(10):
            some = set(ids[:count])
            assert {id_ for (id_,) in named.rows(connection, NO_TIME, ids=some)} == some
            assert {id_ for (id_,) in others.rows(connection, NO_TIME, ids=some)} == {*ids} - some
    assert len(named._texts) == 6  # of 0, 1, 2, 4, 8 and 16


def test_all_queries_of_a_reading_see_the_rows_as_they_were_at_its_first_one(rows: Rows):
    job_id = rows.submit()
    views = Views(rows.engine, Signer("secret for tests"), rows.clock)
    with views.reading() as read:
        assert [row.status for row in read(attempts._statuses, batch_id=rows.job(job_id).batch_id)] == [
            "queued"
        ]
        with rows.store.transaction() as tx:
            tx.session.get_one(Job, job_id).status = "running"
        [row] = read(attempts._statuses, batch_id=rows.job(job_id).batch_id)
        assert row.status == "queued"
    [row] = views.rows(attempts._statuses, batch_id=rows.job(job_id).batch_id)
    assert row.status == "running"


def test_so_do_all_queries_of_a_session_of_the_views(rows: Rows):
    """The costs add up what is gone and what lives by two queries: a machine that ends counts once."""
    job_id = rows.submit()
    with Views(rows.engine, Signer("secret for tests"), rows.clock).session() as session:
        status = select(Job.status).where(col(Job.id) == job_id)
        assert session.exec(status).one() == "queued"
        with rows.store.transaction() as tx:
            tx.session.get_one(Job, job_id).status = "running"
        assert session.exec(status).one() == "queued"
