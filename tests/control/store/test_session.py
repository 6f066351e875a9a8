"""The session of a writing transaction stores and reads what SQLAlchemy's own unit of work would."""

from __future__ import annotations

import pytest
from sqlalchemy.orm.exc import StaleDataError
from sqlmodel import delete, select

from control.store.session import _change_of
from control.store.tables import Job, Machine, Output
from tests.support.rows import Rows


def test_changed_rows_are_stored_with_every_type_of_column_and_read_again_as_they_were(rows: Rows):
    job_id = rows.submit(variations=2)
    with rows.store.transaction() as tx:
        job, outputs = tx.session.get_one(Job, job_id), tx.outputs(job_id)
        job.started_at, job.partial, job.stored_bytes, job.estimate_usd = tx.now, True, 2**40, 0.5
        outputs[0].effects, outputs[0].ffmpeg_args = {"zoom": 1.5}, ["-i", "é"]
        outputs[1].percent = 50.0
        assert tx.session.get(Job, job_id) is job, "a row is one object in a transaction"
        new = Machine(app="a", id="m", name="n", region="iad", state="started", created_at=tx.now)
        tx.session.add(new)
        tx.session.flush()
        new.state = "stopped"
    with rows.store.transaction() as tx:
        again = {output.id: output for output in tx.session.exec(select(Output)).all()}
        stored = tx.session.get_one(Job, job_id)
        assert (stored.started_at, stored.partial) == (job.started_at, True)
        assert (stored.stored_bytes, stored.estimate_usd) == (2**40, 0.5)
        assert again[outputs[0].id].effects == {"zoom": 1.5}
        assert again[outputs[0].id].ffmpeg_args == ["-i", "é"]
        assert again[outputs[1].id].percent == 50.0
        assert tx.session.get_one(Machine, ("a", "m")).state == "stopped"
        assert tx.session.get(Machine, ("a", "unknown")) is None


def test_a_change_of_a_row_that_is_gone_is_an_error(rows: Rows):
    with rows.store.transaction() as tx:
        machine = Machine(app="a", id="m", name="n", region="iad", state="started", created_at=tx.now)
        tx.session.add(machine)
        tx.flush()
        machine.state = "stopped"
        assert tx.session.connection().execute(delete(Machine)).rowcount == 1
        with pytest.raises(StaleDataError, match="Machine is gone"):
            tx.flush()
        tx.session.rollback()


def test_lists_of_any_length_are_stored_by_one_statement(rows: Rows):
    rows.submit(variations=3)
    with rows.store.transaction() as tx:
        for length, output in enumerate(tx.session.exec(select(Output)).all()):
            output.ffmpeg_args = ["-i"] * (length + 1)
    forms = _change_of(Output, ("ffmpeg_args",))._texts
    assert len([form for form in forms if form[0] == rows.engine.dialect.name]) == 1
