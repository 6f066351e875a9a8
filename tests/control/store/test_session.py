"""The session of a writing transaction stores and reads what SQLAlchemy's own unit of work would."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy.orm.exc import StaleDataError
from sqlmodel import Session, SQLModel, delete, select

from control.store.session import _change_of
from control.store.tables import Batch, Job, Machine, Meta, Output
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


def test_new_rows_are_stored_as_sqlalchemy_stores_them_whatever_the_order_in_which_they_were_added(
    rows: Rows,
):
    job_id = rows.submit(variations=1)
    batch_id, source_id = rows.job(job_id).batch_id, rows.outputs(job_id)[0].source_id

    def new(name: str) -> list[SQLModel]:
        """Return a job and its output, the output first, with JSON, no JSON and every kind of number."""
        of = {"batch_id": batch_id, "position": 9}
        now = rows.clock()
        job = Job(
            **of, id=f"job_{name}", status="queued", attempts_max=1, size="s", not_before=now, created_at=now
        )
        output = Output(
            **of, id=f"out_{name}", job_id=job.id, source_id=source_id, variation=1, name="n",
            effects={"a": 1}, state="queued", crc32=2**40, duration_s=0.1,
        )  # fmt: skip
        return [output, job]

    with rows.store.transaction() as tx:
        tx.session.add_all(new("ours"))
        assert tx.session.get_one(Job, "job_ours") in tx.session, "it is stored before it is looked for"
        tx.session.get_one(Output, "out_ours").percent = 50.0
    with Session(rows.engine) as session, session.begin():
        output, job = new("theirs")
        session.add(job)
        session.flush()
        session.add(output)
        output.percent = 50.0
    for table, kind in (("job", "job"), ("output", "out")):
        with rows.engine.connect() as connection:
            stored = connection.exec_driver_sql(f"SELECT * FROM {table}").mappings().all()
        ours, theirs = [
            next(row for row in stored if row["id"] == f"{kind}_{name}") for name in ("ours", "theirs")
        ]
        assert {name for name in ours if ours[name] != theirs[name]} <= {"id", "job_id"}


def test_a_row_that_is_made_has_the_defaults_of_its_table_and_shares_none_with_another():
    key = {
        "id": "b",
        "seed": 1,
        "variations": 1,
        "status": "queued",
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    batch, other = Batch(**key), Batch(**{**key, "without": ["mirror"]})
    assert (batch.strength, batch.without, batch.name, batch.partial) == (1.0, [], None, False)
    assert other.without == ["mirror"]
    assert Batch(**key).without is not batch.without


def test_a_row_may_be_stored_again_after_a_statement_has_removed_it(rows: Rows):
    with rows.store.transaction() as tx:
        tx.session.add(Meta(key="k", value="old"))
    with rows.store.transaction() as tx:
        old = tx.session.get_one(Meta, "k")
        tx.session.connection().exec_driver_sql("DELETE FROM meta WHERE key = 'k'")
        tx.session.add(Meta(key="k", value="new"))
        tx.session.flush()
        assert (old.value, tx.session.get_one(Meta, "k").value) == ("old", "new")
    with rows.store.transaction() as tx:
        assert tx.session.get_one(Meta, "k").value == "new"


def test_a_row_has_no_other_attributes_than_its_columns():
    row = Meta(key="k", value="v")
    with pytest.raises(AttributeError, match="Meta has no column valeu"):
        row.valeu = "w"
