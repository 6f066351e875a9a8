"""Sources that come with their batch: users' URLs, deleted at the end, and refused files."""

from __future__ import annotations

import pytest
from sqlmodel import col, select

from control.domain.errors import Code, ControlError
from control.domain.ids import new_id
from control.passes.retention import abandon
from control.planning.planner import PlannedSource, plan
from control.routes import runner
from control.store import batches, changes, retention
from control.store.queue import start
from control.store.reports import claim, finish
from control.store.tables import Delivery, Job, Output, Source, SourceData
from runner.contract import OutputError, OutputFault, OutputReport
from tests.support.rows import Rows, finished, ready, seen

URL = "https://example.com/ad.mp4?key=secret"
OUTPUT_URL = "https://example.com/put?key=secret"


def source(rows: Rows, **facts: object) -> Source:
    unseen = {"size_bytes": 0, "etag": new_id("x"), "duration_s": 0, "width": 0, "height": 0, "key": ""}
    return Source(id=new_id("src"), name="ad.mp4", created_at=rows.clock(), **(unseen | facts))


def submit(rows: Rows, *arrived: Source) -> str:
    """Store a batch of one variation of each source, and return its job's id."""
    sources = [PlannedSource(source_id=s.id, name=s.name, fingerprint=s.etag) for s in arrived]
    planned = plan(sources, variations=1, seed=7, new_id=lambda: new_id("out"))
    urls = {arrived[0].id: [OUTPUT_URL]}
    batch_id = batches.submit(rows.store, planned, deliveries=urls, arrived=arrived)
    return next(job.id for job in rows.all(Job) if job.batch_id == batch_id)


def end(rows: Rows, job_id: str, *, well: bool) -> None:
    """Let an attempt make the queued outputs, or fail them."""
    start(rows.store, ["runners"])
    attempt_id = f"{job_id}-{rows.job(job_id).attempts_used}"
    claim(rows.store, attempt_id, "m1")
    made = [output for output in rows.outputs(job_id) if output.state == "queued"]
    queued = [output.id for output in made]
    error = OutputError(code=OutputFault.SOURCE_UNREACHABLE, message="It answered 503.")
    failed = [OutputReport(output_id=id_, status="failed", error=error) for id_ in queued]
    message = finished(*(map(ready, queued) if well else failed))
    finish(rows.store, attempt_id, message, seen(*made))


def known_urls(rows: Rows) -> set[str]:
    known = {row.url for row in rows.all(Source)} | {row.url for row in rows.all(Delivery)}
    return {url for url in known if url}


def test_urls_are_known_while_the_batch_lives_and_forgotten_when_all_is_ready(rows):
    job_id = submit(rows, source(rows, url=URL))
    retention.forget_ended(rows.store)
    assert known_urls(rows) == {URL, OUTPUT_URL}
    end(rows, job_id, well=True)
    assert rows.job(job_id).status == "completed"
    retention.forget_ended(rows.store)
    assert known_urls(rows) == set()


def test_urls_stay_while_something_could_be_retried_and_go_when_that_is_over(rows, clock, settings):
    job_id = submit(rows, source(rows, url=URL))
    end(rows, job_id, well=False)
    retention.forget_ended(rows.store)
    assert known_urls(rows) == {URL, OUTPUT_URL}
    clock.forward(settings.retention_hours * 3600)
    retention.forget_ended(rows.store)
    assert known_urls(rows) == set()
    with pytest.raises(ControlError) as refused:
        changes.retry(rows.store, [job_id])
    assert refused.value.code is Code.EXPIRED


def test_the_rows_of_urls_and_refused_files_go_with_their_batch(rows):
    stored = source(rows, key="owner/sources/a.mp4", size_bytes=5)
    job_id = submit(rows, source(rows, url=URL), source(rows, refusal="This is a text file."), stored)
    batch_id = rows.batch_of(job_id).id
    with rows.store.transaction() as tx:
        tx.session.add(SourceData(batch_id=batch_id, source_id=stored.id, data={"sku": "A-1"}))
    changes.delete(rows.store, batch_id)
    retention.forget_ended(rows.store)
    assert known_urls(rows) == set()
    changes.remove_rows(rows.store, batch_id)
    assert [row.id for row in rows.all(Source)] == [stored.id]
    assert rows.all(SourceData) == []


def test_a_retry_makes_nothing_of_a_refused_file(rows):
    bad, good = source(rows, refusal="This is a text file."), source(rows, url=URL)
    job_id = submit(rows, bad, good)
    assert [output.state for output in rows.outputs(job_id)] == ["failed", "queued"]
    end(rows, job_id, well=False)
    assert rows.job(job_id).status == "failed"
    changes.retry(rows.store, [job_id])
    assert [output.state for output in rows.outputs(job_id)] == ["failed", "queued"]
    assert rows.outputs(job_id)[0].error_message == "This is a text file."
    end(rows, job_id, well=True)
    assert (rows.job(job_id).status, rows.job(job_id).partial) == ("completed", True)
    with pytest.raises(ControlError, match="nothing to retry"):
        changes.retry(rows.store, [job_id])


def test_a_runner_receives_the_rules_for_urls(rows, context, settings):
    job_id = submit(rows, source(rows, url=URL))
    start(rows.store, ["runners"])
    claim(rows.store, f"{job_id}-1", "m1")
    spec = runner.job_spec(context, f"{job_id}-1")
    assert (spec.sources[0].get_url, spec.sources[0].is_foreign) == (URL, True)
    assert spec.sources[0].size_bytes == settings.max_source_bytes
    assert spec.outputs[0].deliver_url == OUTPUT_URL
    assert spec.outbound_allow == list(settings.outbound_allow)


def test_progress_counts_videos_of_which_nothing_is_known_yet(rows, context):
    job_id = submit(rows, source(rows, url=URL), source(rows, url=URL + "2"))
    with rows.store.transaction() as tx:
        for output in tx.session.exec(select(Output).where(col(Output.job_id) == job_id)).all():
            output.percent = 50
    assert context.views.job(job_id).progress.percent == 50


def test_letting_go_is_no_business_of_batches_without_urls(rows, context, monkeypatch):
    job_id = rows.submit()
    monkeypatch.setattr(type(context.storage), "list_multiparts", lambda *_: [])
    abandon(context)
    assert rows.job(job_id).status == "queued"
    assert all(row.deleted_at is None for row in rows.all(Source))
