"""Retention: expiry, eviction and the sweep, on a clock that tests move, with a real bucket."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import httpx
import pytest

from control.context import AppContext
from control.domain.amounts import in_words
from control.domain.errors import Code, ControlError
from control.domain.ids import new_id
from control.downloads import contents
from control.passes.launch import launch
from control.passes.retention import expire, forget, sweep
from control.passes.weigh import EVERY_S, weigh
from control.planning.planner import PlannedBatch, PlannedSource, plan
from control.routes import quote
from control.routes.batches import _submit as submitted
from control.routes.runner import URL_MARGIN_S, output_key
from control.store import batches, changes, machines, reports, retention
from control.store import uploads as uploads_store
from control.store.files import StoredFile, named_by
from control.store.tables import Batch, Event, Job, Machine, Meta, Output, Source, Upload
from control.store.usage import Holdings, holdings, require_space
from control.uploads.sources import named
from control.views.schemas.quote import NewQuote
from control.views.schemas.submit import NewJob, SourceRef
from infra.ports import Unanswered
from infra.s3 import TigrisStorage
from runner.contract import OutputError, OutputFault, OutputReport
from tests.support.fakes import Clock
from tests.support.rows import Rows, finished, made

H = 3600.0
FAULT = OutputError(code=OutputFault.RENDER_FAILED, message="no")
SIZE = 500  # of each source and output


class Died(BaseException):
    """Control dies here."""


class Mortal:
    """A bucket in whose deletions control may die, before or after they are done, or get no answer."""

    def __init__(self, storage: TigrisStorage) -> None:
        self._storage = storage
        self.fate: Callable[[], str] = lambda: ""

    def __getattr__(self, name: str):
        return getattr(self._storage, name)

    def delete_many(self, keys) -> None:
        fate = self.fate()
        if fate == "before":
            raise Died
        if fate == "away":
            raise Unanswered("the bucket does not answer")
        self._storage.delete_many(keys[: len(keys) // 2] if fate == "half" else keys)
        if fate in ("after", "half"):
            raise Died


@dataclass
class Keep:
    """A control with a bucket, and what tests do to it."""

    context: AppContext
    rows: Rows
    clock: Clock
    bucket: Mortal

    @property
    def prefix(self) -> str:
        return f"{self.context.store.owner_id}/"

    def stored(self) -> set[str]:
        return {found.key for found in self.bucket.list_objects(self.prefix)}

    def put(self, key: str, size_bytes: int = SIZE) -> None:
        url, headers = self.bucket.sign_put(key, expires_s=60)
        assert httpx.put(url, headers=headers, content=b"x" * size_bytes).status_code == 200

    def source(self) -> PlannedSource:
        planned = self.rows.source()
        key = f"{self.prefix}sources/{planned.source_id}.mp4"
        with self.context.store.transaction() as tx:
            source = tx.session.get_one(Source, planned.source_id)
            source.key, source.size_bytes = key, SIZE
        self.put(key)
        return planned

    def submit(self, *sources: PlannedSource, variations: int = 2, bound: int = SIZE) -> str:
        """Store a batch of one job, whose outputs have at most `bound` bytes each; return the job's id."""
        planned = plan(list(sources), variations=variations, seed=7, new_id=lambda: new_id("out"))
        batch_id = batches.submit(self.context.store, bounded(planned, bound))
        return next(job.id for job in self.rows.all(Job) if job.batch_id == batch_id)

    def run(self, job_id: str, *, failing: int = 0) -> None:
        """Have a machine make what is missing, but `failing` outputs, and finish."""
        launch(self.context)
        attempt_id = f"{job_id}-{self.rows.job(job_id).attempts_used}"
        reports.claim(self.context.store, attempt_id, self.rows.attempt(attempt_id).machine_id)
        todo = [output for output in self.rows.outputs(job_id) if output.state in ("queued", "running")]
        done, verified = [], {}
        for output in todo[failing:]:
            key = output_key(self.context, attempt_id, output.id)
            self.put(key)
            done.append(OutputReport(output_id=output.id, status="ready", percent=100, file=made(SIZE)))
            file = StoredFile(key=key, etag="d" * 32, size_bytes=SIZE, sha256="5" * 64, crc32=7)
            verified[output.id] = reports.Seen(file=file)
        failed = [OutputReport(output_id=o.id, status="failed", error=FAULT) for o in todo[:failing]]
        reports.finish(self.context.store, attempt_id, finished(*done, *failed), verified)
        gone = [replace(m, state="destroyed") for m in self.context.machines.machines.values()]
        machines.observe(self.context.store, gone)

    def made(self, *sources: PlannedSource, failing: int = 0, variations: int = 2) -> str:
        job_id = self.submit(*sources, variations=variations)
        self.run(job_id, failing=failing)
        return job_id

    def status(self, job_id: str) -> tuple[str, str]:
        return self.rows.job(job_id).status, self.rows.batch_of(job_id).status

    def capped(self, cap_bytes: int, *, grace_s: float = H) -> Keep:
        changed = {"storage_cap_bytes": cap_bytes, "evict_grace_s": grace_s}
        settings = self.context.settings.model_copy(update=changed)
        self.context.store.settings = settings
        return replace(self, context=replace(self.context, settings=settings))


def bounded(planned: PlannedBatch, each_bytes: int) -> PlannedBatch:
    """Return the plan with another bound of its outputs: a real one is far larger than objects of tests."""
    assignments = [
        replace(
            assignment,
            work_units=[replace(p, room_bytes=each_bytes * len(p.outputs)) for p in assignment.work_units],
        )
        for assignment in planned.schedule.assignments
    ]
    return replace(planned, schedule=replace(planned.schedule, assignments=assignments))


def space(keep: Keep, more_bytes: int) -> None:
    with keep.context.views.session() as session:
        require_space(session, keep.context.settings, keep.clock(), more_bytes=more_bytes)


def held(keep: Keep) -> Holdings:
    with keep.context.views.session() as session:
        return holdings(session, keep.context.settings, keep.clock())


@pytest.fixture
def keep(context: AppContext, rows: Rows, clock: Clock, storage: TigrisStorage) -> Keep:
    clock.now = datetime.now(UTC)  # the bucket has a clock of its own, which nobody can move
    bucket = Mortal(storage)
    return Keep(replace(context, storage=bucket), rows, clock, bucket)


def refused(call: Callable[[], object]) -> Code:
    with pytest.raises(ControlError) as error:
        call()
    return error.value.code


def download(keep: Keep, job_id: str) -> object:
    with keep.context.views.session() as session:
        return contents.laid_out(session, session.get_one(Job, job_id), now=keep.context.clock())


# --- results ------------------------------------------------------------------------------------------


def test_results_live_for_the_retention_time_after_the_batch_s_end(keep: Keep) -> None:
    job_id = keep.made(keep.source())
    assert keep.rows.batch_of(job_id).expires_at == keep.clock.now + timedelta(hours=24)
    keep.clock.forward(24 * H - 1)
    expire(keep.context)
    assert keep.status(job_id) == ("completed", "completed")
    download(keep, job_id)
    keep.clock.forward(1)
    expire(keep.context)
    assert keep.status(job_id) == ("expired", "expired")
    assert keep.stored() == set()
    assert refused(lambda: download(keep, job_id)) is Code.EXPIRED
    assert refused(lambda: changes.retry(keep.context.store, [job_id])) is Code.EXPIRED
    assert {output.state for output in keep.rows.outputs(job_id)} == {"ready"}, "the rows stay"
    assert [event.name for event in keep.rows.all(Event)][-4:] == [
        "job_expired", "job_ended", "batch_expired", "batch_ended",
    ]  # fmt: skip
    before = keep.rows.all(Event)
    expire(keep.context)
    assert keep.rows.all(Event) == before, "once"


def test_a_retry_moves_the_expiry_to_after_the_new_end(keep: Keep) -> None:
    job_id = keep.made(keep.source(), failing=1)
    keep.clock.forward(23 * H)
    changes.retry(keep.context.store, [job_id])
    keep.clock.forward(2 * H)
    expire(keep.context)
    assert keep.status(job_id)[1] == "queued", "what lives never expires"
    keep.run(job_id)
    keep.clock.forward(24 * H - 1)
    expire(keep.context)
    assert keep.status(job_id)[1] == "completed"
    assert len(keep.stored()) == 2


def test_what_an_output_holds_is_the_size_of_all_its_files(keep: Keep) -> None:
    sizes = {"file": SIZE, "playlist": 7, "poster": 8}
    files = {
        name: StoredFile(key=name, etag="", size_bytes=size_bytes, sha256="", crc32=0)
        for name, size_bytes in sizes.items()
    }
    assert reports.Seen(**files).stored_bytes == SIZE + 15
    job_id = keep.made(keep.source(), variations=2)
    with keep.context.views.session() as session:
        assert holdings(session, keep.context.settings, keep.clock()).used == 3 * SIZE
    keep.clock.forward(24 * H)
    expire(keep.context)
    with keep.context.views.session() as session:
        assert holdings(session, keep.context.settings, keep.clock()).used == 0
    assert keep.rows.job(job_id).stored_bytes == 0


def test_playlists_and_posters_go_with_their_output_and_so_does_every_unreported_file(keep: Keep) -> None:
    job_id = keep.made(keep.source())
    stray = output_key(keep.context, f"{job_id}-1", "never-reported")
    output = keep.rows.outputs(job_id)[0]
    extra = {name: f"{output.key}.{name}" for name in ("playlist", "poster")}
    with keep.context.store.transaction() as tx:
        row = tx.session.get_one(Output, output.id)
        row.playlist = {"key": extra["playlist"], "size_bytes": 7}
        row.poster = {"key": extra["poster"], "size_bytes": 8}
    for key in (stray, *extra.values()):
        keep.put(key)
    keep.clock.forward(24 * H)
    expire(keep.context)
    assert keep.stored() == set()
    assert [list(named_by(output)) for output in keep.rows.outputs(job_id)] == [[], []]


@pytest.mark.parametrize("fate", ["before", "after", "half", "away"])
def test_a_crash_between_row_and_object_leaves_nothing_behind(keep: Keep, fate: str) -> None:
    jobs = [keep.made(keep.source()) for _ in range(2)]
    keep.clock.forward(24 * H)
    fates = ["", fate, fate, "", fate]
    keep.bucket.fate = lambda: fates.pop() if fates else ""
    while fates:
        with suppress(Died, Unanswered):
            expire(keep.context)
        assert refused(lambda: download(keep, jobs[0])) is Code.EXPIRED
    expire(keep.context)
    assert keep.stored() == set()
    assert {source.key for source in keep.rows.all(Source)} == {""}
    with keep.context.views.session() as session:
        assert holdings(session, keep.context.settings, keep.clock()).used == 0


# --- history ------------------------------------------------------------------------------------------


def test_rows_of_ended_batches_and_uploads_go_after_history_days_and_the_ledger_stays(keep: Keep) -> None:
    old, unused = keep.made(keep.source()), keep.source()
    cost = sum(machine.cost_usd for machine in keep.rows.all(Machine))
    with keep.context.store.transaction() as tx:
        tx.session.add(upload(keep, "completed"))
    keep.clock.forward(25 * H)
    expire(keep.context)
    keep.clock.forward(90 * 24 * H - 25 * H - 1)
    live = keep.submit(keep.source())
    history_ends(keep)
    assert {job.id for job in keep.rows.all(Job)} == {old, live}, "89.99 days are not 90"
    keep.clock.forward(26 * H)
    history_ends(keep)
    assert [job.id for job in keep.rows.all(Job)] == [live]
    assert unused.source_id not in {source.id for source in keep.rows.all(Source)}
    assert len(keep.rows.all(Source)) == 1
    assert keep.rows.all(Upload) == []
    assert {event.job_id for event in keep.rows.all(Event)} <= {live, None}
    assert {event.batch_id for event in keep.rows.all(Event)} == {keep.rows.job(live).batch_id}
    assert sum(machine.cost_usd for machine in keep.rows.all(Machine)) == cost > 0


def test_machines_leave_the_ledger_when_no_cost_and_no_batch_can_need_them(keep: Keep) -> None:
    keep.made(keep.source())
    keep.clock.forward(25 * H)
    expire(keep.context)
    stored = keep.made(keep.source())  # it never expires here, so its own budget still counts its machine
    [first, its_own] = sorted(keep.rows.all(Machine), key=lambda machine: machine.created_at)
    with keep.context.store.transaction() as tx:
        orphan = {"app": "runners", "id": "orphan", "name": "x", "region": "iad", "state": "started"}
        tx.session.add(Machine(**orphan, created_at=keep.clock()))
    keep.clock.now = first.gone_at + timedelta(days=366) - timedelta(seconds=1)
    history_ends(keep)
    assert len(keep.rows.all(Machine)) == 3
    keep.clock.forward(1)
    history_ends(keep)
    assert {machine.id for machine in keep.rows.all(Machine)} == {its_own.id, "orphan"}
    keep.clock.forward(400 * 24 * H)
    history_ends(keep)
    assert {machine.id for machine in keep.rows.all(Machine)} == {its_own.id, "orphan"}
    assert [job.id for job in keep.rows.all(Job)] == [stored]
    since = machines.kept_since(keep.context.settings, keep.clock())
    [shown, *_] = [m for m in keep.context.machines.machines.values() if m.id == first.id]
    assert not machines.is_news(None, replace(shown, state="destroyed"), since=since), "it would cost twice"
    assert machines.is_news(None, shown, since=since), "an old machine that runs is ours"
    expire(keep.context)
    history_ends(keep)
    history_ends(keep)
    assert [machine.id for machine in keep.rows.all(Machine)] == ["orphan"]


def history_ends(keep: Keep) -> None:
    retention.end_history(keep.context.store)
    for _ in keep.rows.all(Batch):
        forget(keep.context)


# --- sources ------------------------------------------------------------------------------------------


def sources_left(keep: Keep) -> int:
    expire(keep.context)
    return sum("/sources/" in key for key in keep.stored())


def test_an_unused_source_lives_for_a_day(keep: Keep) -> None:
    keep.source()
    keep.clock.forward(24 * H - 1)
    assert sources_left(keep) == 1
    keep.clock.forward(1)
    assert sources_left(keep) == 0


def test_a_source_outlives_the_last_whole_batch_by_an_hour(keep: Keep) -> None:
    source = keep.source()
    keep.made(source)
    keep.clock.forward(H / 2)
    second = keep.submit(source)
    keep.clock.forward(30 * H)
    assert sources_left(keep) == 1, "a batch that lives needs it"
    keep.run(second)
    keep.clock.forward(H - 1)
    assert sources_left(keep) == 1
    keep.clock.forward(1)
    assert sources_left(keep) == 0
    assert refused(lambda: keep.submit(source)) is Code.SOURCE_GONE


def test_while_something_may_be_retried_its_source_stays(keep: Keep) -> None:
    partial, cancelled = keep.source(), keep.source()
    keep.made(partial, failing=1)
    job_id = keep.submit(cancelled)
    changes.cancel(keep.context.store, [job_id])
    keep.clock.forward(24 * H - 1)
    assert sources_left(keep) == 2
    changes.retry(keep.context.store, [job_id])
    keep.clock.forward(1)
    assert sources_left(keep) == 1, "of the partial batch, which has expired"
    keep.run(job_id)
    assert sources_left(keep) == 1


def test_a_source_whose_time_is_over_is_gone_for_who_names_it(keep: Keep) -> None:
    ref = SourceRef(source_id=keep.source().source_id)
    order = NewJob(sources=[ref], variations=1)
    first = submitted(keep.context, "job", order, "a key")
    changes.delete(keep.context.store, first)
    keep.clock.forward(25 * H)
    for _ in range(2):  # the second finds its file deleted
        expire(keep.context)
        with pytest.raises(ControlError) as refused:
            named(keep.context, [ref])
        assert refused.value.code is Code.SOURCE_GONE


def test_a_repeat_gets_the_first_answer_though_its_video_is_gone(keep: Keep) -> None:
    order = NewJob(sources=[SourceRef(source_id=keep.source().source_id)], variations=1)
    first = submitted(keep.context, "job", order, "a key")
    with keep.context.store.transaction() as tx:
        tx.session.get_one(Source, order.sources[0].source_id).deleted_at = tx.now
    assert submitted(keep.context, "job", order, "a key") == first
    keep.clock.forward(24 * H)
    with pytest.raises(ControlError) as refused:
        submitted(keep.context, "job", order, "a key")
    assert refused.value.code is Code.SOURCE_GONE


def test_a_source_whose_only_batch_is_deleted_counts_as_unused(keep: Keep) -> None:
    job_id = keep.made(keep.source())
    changes.delete(keep.context.store, keep.rows.batch_of(job_id).id)
    keep.clock.forward(2 * H)
    assert sources_left(keep) == 1
    keep.clock.forward(22 * H)
    assert sources_left(keep) == 0


def test_a_deleted_batch_goes_although_another_one_names_its_source_whose_file_is_gone(keep: Keep) -> None:
    source = keep.source()
    deleted, kept = keep.made(source), keep.made(source)
    keep.clock.forward(25 * H)
    expire(keep.context)
    for job_id, sources in ((deleted, 1), (kept, 0)):
        changes.delete(keep.context.store, keep.rows.batch_of(job_id).id)
        forget(keep.context)
        assert job_id not in {job.id for job in keep.rows.all(Job)}
        assert len(keep.rows.all(Source)) == sources


def test_a_submit_between_the_mark_and_the_deletion_learns_that_the_source_is_gone(keep: Keep) -> None:
    source = keep.source()
    keep.clock.forward(24 * H)
    keep.bucket.fate = lambda: "before"
    with pytest.raises(Died):
        expire(keep.context)
    assert len(keep.stored()) == 1
    assert refused(lambda: keep.submit(source)) is Code.SOURCE_GONE
    keep.bucket.fate = lambda: ""
    assert sources_left(keep) == 0


def test_a_submit_just_before_the_mark_keeps_its_source(keep: Keep) -> None:
    source = keep.source()
    keep.clock.forward(24 * H)
    keep.submit(source)
    assert sources_left(keep) == 1


# --- the cap ------------------------------------------------------------------------------------------


def test_above_the_cap_the_oldest_finished_results_go_first_and_only_as_many_as_needed(keep: Keep) -> None:
    jobs = []
    for _ in range(3):
        jobs.append(keep.made(keep.source()))
        keep.clock.forward(2 * H)
    expire(keep.context)  # the sources have gone
    live = keep.submit(keep.source())
    capped = keep.capped(5 * SIZE)  # held are 6 outputs and a source
    expire(capped.context)
    assert [keep.status(job_id)[1] for job_id in [*jobs, live]] == [
        "expired",
        "completed",
        "completed",
        "queued",
    ]
    evicted = keep.rows.batch_of(jobs[0])
    assert evicted.expires_at == keep.clock.now, "it says when"
    assert len(keep.stored()) == 5
    expire(capped.context)
    assert len(keep.stored()) == 5


def test_what_lives_is_never_evicted_and_a_full_bucket_takes_no_more(keep: Keep) -> None:
    source = keep.source()
    job_id = keep.submit(source)
    capped = keep.capped(3 * SIZE)
    expire(capped.context)
    assert keep.status(job_id)[1] == "queued"
    assert len(keep.stored()) == 1
    assert refused(lambda: capped.submit(source, variations=1)) is Code.STORAGE_FULL
    assert refused(lambda: space(capped, 1)) is Code.STORAGE_FULL
    roomy = keep.capped(4 * SIZE)
    space(roomy, SIZE)
    assert refused(lambda: space(roomy, SIZE + 1)) is Code.STORAGE_FULL


def test_what_uploads_have_announced_takes_room_too(keep: Keep) -> None:
    uploads_store.add(keep.context.store, upload(keep, "open"))
    assert held(keep).coming == SIZE
    assert refused(lambda: space(keep.capped(SIZE), 1)) is Code.STORAGE_FULL


def test_what_can_be_evicted_makes_room_for_the_new(keep: Keep) -> None:
    keep.made(keep.source(), variations=4)
    keep.clock.forward(H)
    capped = keep.capped(5 * SIZE)
    space(capped, 5 * SIZE)
    assert capped.submit(keep.source(), variations=4)


def test_a_batch_that_cannot_fit_is_refused_with_the_numbers_and_nothing_of_it_is_stored(keep: Keep) -> None:
    source = keep.source()
    capped = keep.capped(8 * SIZE)
    with pytest.raises(ControlError) as error:
        capped.submit(source, variations=12)
    assert error.value.code is Code.STORAGE_FULL
    for number in (12 * SIZE, 8 * SIZE, SIZE):
        assert f" {in_words(number)} " in error.value.message
    assert keep.rows.all(Batch) == []
    keep.run(capped.submit(source, variations=7))
    assert held(capped).kept == 8 * SIZE


def test_what_ended_lately_is_never_evicted_and_has_its_grace_to_be_fetched(keep: Keep) -> None:
    job_id = keep.made(keep.source(), variations=4)
    capped = keep.capped(2 * SIZE)
    keep.clock.forward(H - 1)
    expire(capped.context)
    assert keep.status(job_id)[1] == "completed"
    assert held(capped).kept == 5 * SIZE
    assert refused(lambda: capped.submit(keep.source(), variations=1)) is Code.STORAGE_FULL
    keep.clock.forward(1)
    expire(capped.context)
    assert keep.status(job_id)[1] == "expired"
    assert len(keep.stored()) == 1, "the new source"


def test_what_live_jobs_may_yet_store_has_its_place_until_they_end(keep: Keep) -> None:
    source = keep.source()
    first = keep.submit(source, variations=2, bound=10 * SIZE)
    assert (held(keep).live, held(keep).coming) == (SIZE, 20 * SIZE)
    capped = keep.capped(22 * SIZE)
    assert refused(lambda: capped.submit(source, variations=2)) is Code.STORAGE_FULL
    keep.run(first)
    assert held(keep).coming == 0, "it ended with less"
    capped.submit(source, variations=2)


def test_of_submits_at_once_only_as_many_are_taken_as_have_room(keep: Keep) -> None:
    source = keep.source()
    capped = keep.capped(SIZE + 3 * 2 * SIZE)
    answers = at_once(12, lambda: capped.submit(source, variations=2))
    assert sum(answer is None for answer in answers) == 3
    assert {answer for answer in answers if answer} == {Code.STORAGE_FULL}


def test_a_retry_is_never_refused_and_what_it_may_make_takes_room_from_others(keep: Keep) -> None:
    source = keep.source()
    job_id = keep.made(source, failing=1)
    capped = keep.capped(2 * SIZE)
    changes.retry(capped.context.store, [job_id])
    assert held(keep).fixed == 3 * SIZE
    assert refused(lambda: keep.capped(3 * SIZE).submit(source, variations=1)) is Code.STORAGE_FULL
    keep.capped(4 * SIZE).submit(source, variations=1)


def test_sources_that_only_a_failed_batch_holds_make_room_when_it_is_short(keep: Keep) -> None:
    job_id = keep.made(keep.source(), failing=2)
    keep.clock.forward(H)
    expire(keep.capped(SIZE).context)
    assert keep.status(job_id)[1] == "failed"
    expire(keep.capped(SIZE - 1).context)
    assert (keep.status(job_id)[1], keep.stored()) == ("expired", set())


def test_a_source_that_goes_with_its_batch_makes_room_before_the_next_is_evicted(keep: Keep) -> None:
    jobs = []
    for _ in range(2):
        jobs.append(keep.made(keep.source(), variations=3, failing=1))
        keep.clock.forward(2 * H)
    expire(keep.capped(3 * SIZE).context)
    assert [keep.status(job_id)[1] for job_id in jobs] == ["expired", "completed"]


def test_a_quote_says_whether_the_results_will_fit(keep: Keep) -> None:
    asked = NewQuote(sources=[SourceRef(source_id=keep.source().source_id)], variations=3)
    for cap_bytes, fits in ((10 * 1024**2, True), (1024**2, False)):
        context = keep.capped(cap_bytes).context
        (route,) = quote.routes(context, lambda: None).routes
        assert asyncio.run(route.endpoint(asked)).fits is fits
        order = NewJob(sources=asked.sources, variations=3)
        if fits:
            changes.delete(context.store, submitted(context, "job", order, None))
        else:
            assert refused(partial(submitted, context, "job", order, None)) is Code.STORAGE_FULL


def at_once(count: int, call: Callable[[], object]) -> list[Code | None]:
    """Make so many calls beside each other, and return the code of each refusal."""
    together = threading.Barrier(count)

    def one(_: int) -> Code | None:
        together.wait()
        try:
            call()
        except ControlError as error:
            return error.code
        return None

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


# --- what a runner stores and does not report ------------------------------------------------------------


def test_what_a_runner_stores_unreported_counts_while_it_runs_and_goes_at_its_end(
    keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = keep.submit(keep.source())
    keep.run(other := keep.submit(keep.source()))
    launch(keep.context)
    attempt_id = f"{job_id}-1"
    reports.claim(keep.context.store, attempt_id, keep.rows.attempt(attempt_id).machine_id)
    keep.put(output_key(keep.context, attempt_id, "never-reported"), 40 * SIZE)
    before = held(keep)
    weigh(keep.context)
    assert held(keep).live - before.live == 40 * SIZE
    assert refused(lambda: space(keep.capped(40 * SIZE), 1)) is Code.STORAGE_FULL
    kept = keep.stored()
    with monkeypatch.context() as patch:
        patch.setattr(retention, "weigh", lambda *_: pytest.fail("what is as it was is not written again"))
        weigh(keep.context)
    assert keep.stored() == kept, "it may still be reported"
    keep.run(job_id)
    weigh(keep.context)
    assert held(keep).used == 6 * SIZE
    assert len(keep.stored()) == 6
    assert {output.state for id_ in (job_id, other) for output in keep.rows.outputs(id_)} == {"ready"}


def test_what_comes_by_signed_urls_after_the_end_goes_when_they_have_ended(keep: Keep) -> None:
    job_id = keep.made(keep.source())
    keep.clock.forward(600)
    keep.put(output_key(keep.context, f"{job_id}-1", "late"))
    urls_live = timedelta(seconds=keep.context.settings.run_timeout_s + URL_MARGIN_S)
    keep.clock.now = keep.rows.attempt(f"{job_id}-1").ended_at + urls_live + timedelta(seconds=EVERY_S)
    weigh(keep.context)
    assert len(keep.stored()) == 3


# --- the sweep ----------------------------------------------------------------------------------------


def upload(keep: Keep, state: str) -> Upload:
    upload_id = new_id("upl")
    return Upload(
        id=upload_id, name="ad.mp4", content_type="video/mp4", size_bytes=SIZE, multipart_id="m",
        key=f"{keep.prefix}sources/{upload_id}.mp4", part_size_bytes=SIZE, state=state,
        created_at=keep.clock.now, expires_at=keep.clock.now + timedelta(hours=24),
    )  # fmt: skip


def test_the_sweep_takes_only_old_objects_without_a_row_under_our_own_prefix(keep: Keep) -> None:
    orphan, foreign = f"{keep.prefix}sources/lost.mp4", f"own_other/{new_id('x')}.mp4"
    opened, ended = upload(keep, "open"), upload(keep, "refused")
    ended_job = keep.made(keep.source(), failing=1)
    live = keep.submit(keep.source())
    launch(keep.context)
    unreported = output_key(keep.context, f"{live}-1", "unreported")
    forgotten = output_key(keep.context, f"{ended_job}-1", "forgotten")
    for row in (opened, ended):
        uploads_store.add(keep.context.store, row)
    known = keep.stored() | {opened.key, unreported}
    orphans = {orphan, ended.key, forgotten}
    for key in (*orphans, foreign, opened.key, unreported):
        keep.put(key)
    keep.clock.forward(48 * H - 60)
    sweep(keep.context)
    assert keep.stored() == known | orphans, "they are too young"
    keep.clock.forward(120)
    sweep(keep.context)
    assert keep.stored() == known
    assert keep.bucket.head(foreign) is not None
    keep.bucket.delete(foreign)


def test_the_sweep_continues_page_by_page_also_after_a_restart_and_then_from_the_start(
    keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control.passes.retention.PAGE", 2)
    orphans = [f"{keep.prefix}sources/{n}.mp4" for n in range(5)]
    for key in orphans:
        keep.put(key)
    keep.clock.forward(49 * H)
    left = []
    for _ in range(3):
        sweep(keep.context)
        left.append(len(keep.stored()))
    assert left == [3, 1, 0]
    assert [row.value for row in keep.rows.all(Meta) if row.key == retention.SWEPT] == [""]


@pytest.mark.parametrize("seed", range(4))
def test_nothing_that_is_needed_ever_goes_and_in_the_end_nothing_is_left(keep: Keep, seed: int) -> None:
    dice = random.Random(seed)
    keep.bucket.fate = lambda: dice.choice(["", "", "before", "after", "half", "away"])
    sources: list[PlannedSource] = []
    capped = keep.capped(12 * SIZE, grace_s=0)
    for _ in range(20):
        life(dice, capped, sources)
        for run in dice.sample([expire, weigh, sweep, forget], k=2):
            with suppress(Died, Unanswered):
                run(capped.context)
        capped.clock.forward(dice.choice([60, H, 5 * H, 12 * H]))
        assert needed(capped) <= capped.stored()
    keep.bucket.fate = lambda: ""
    for job in keep.rows.all(Job):
        changes.cancel(keep.context.store, [job.id])
    keep.clock.forward(25 * H)
    expire(capped.context)
    keep.clock.forward(24 * H)
    sweep(capped.context)
    for _ in keep.rows.all(Batch):
        forget(capped.context)
    assert keep.stored() == set()


def life(dice: random.Random, keep: Keep, sources: list[PlannedSource]) -> None:
    """Do one thing that users or machines do."""
    jobs = [job for job in keep.rows.all(Job) if keep.rows.batch_of(job.id).deleted_at is None]
    try:
        match dice.choice(["upload", "submit", "submit", "run", "run", "retry", "cancel", "delete", "lose"]):
            case "upload":
                sources.append(keep.source())
            case "submit" if sources:
                keep.submit(*dice.sample(sources, k=min(len(sources), dice.choice([1, 2]))))
            case "run" if waiting := [job for job in jobs if job.status == "queued"]:
                keep.run(dice.choice(waiting).id, failing=dice.choice([0, 0, 1]))
            case "retry" if jobs:
                changes.retry(keep.context.store, [dice.choice(jobs).id])
            case "cancel" if jobs:
                changes.cancel(keep.context.store, [dice.choice(jobs).id])
            case "delete" if jobs and dice.random() < 0.3:
                changes.delete(keep.context.store, dice.choice(jobs).batch_id)
            case "lose" if jobs:  # a machine that was given up wrote on
                keep.put(output_key(keep.context, f"{dice.choice(jobs).id}-1", new_id("out")))
    except ControlError as error:
        assert error.code in (Code.SOURCE_GONE, Code.STORAGE_FULL, Code.EXPIRED, Code.CONFLICT)  # noqa: PT017


def needed(keep: Keep) -> set[str]:
    """Return the files that a user may still ask for, or a machine may still need; written down once more."""
    alive = {b.id: b for b in keep.rows.all(Batch) if b.status != "expired" and b.deleted_at is None}
    outputs = [output for output in keep.rows.all(Output) if output.batch_id in alive]
    files = {key for output in outputs for key in named_by(output)}
    assert all(output.key for output in outputs if output.state == "ready")
    unready = [output for output in outputs if output.state != "ready"]
    missing = {
        output.source_id
        for output in unready
        if alive[output.batch_id].ended_at is None or alive[output.batch_id].expires_at > keep.clock.now
    }
    return files | {source.key for source in keep.rows.all(Source) if source.id in missing}
