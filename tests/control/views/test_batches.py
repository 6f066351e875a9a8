from __future__ import annotations

import random

from sqlalchemy import event

from control.domain.states import OutputState, source_status
from control.store.tables import Batch, Output, Source
from control.views.tallies import Tally, tally


def test_views_leave_large_columns_unread(engine, context, rows):
    """URLs of 8 kB in each sorted row took 25 MB for a list, and arguments of FFmpeg 30 MB for a batch."""
    rows.submit(variations=3)
    (summary,) = context.views.batches(status=None, limit=100, cursor=None).items
    statements: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(*arguments: object) -> None:
        statements.append(str(arguments[2]))

    context.views.batches(status=None, limit=100, cursor=None, q="ad")
    assert any("source.duration_s" in each for each in statements)
    assert not any("source.url" in each for each in statements)
    statements.clear()
    assert len(context.views.batch(summary.batch_id).sources[0].outputs) == 3
    assert any("output.effects" in each for each in statements)
    assert not any("ffmpeg_args" in each for each in statements)


def test_sources_are_in_the_order_of_their_outputs_and_as_far_as_these_are(context, rows):
    """They are counted by the database, and their outputs are not added up."""
    chance = random.Random(7)
    batch_id = rows.job(rows.submit(variations=9, sources=5)).batch_id
    with rows.store.transaction() as tx:
        for row in rows.all(Source):
            tx.session.get_one(Source, row.id).duration_s = chance.random() * 60
        for row in rows.all(Output):
            output = tx.session.get_one(Output, row.id)
            output.state, output.percent = chance.choice(list(OutputState)), round(chance.random() * 100, 1)
    by_position = sorted(rows.all(Output), key=lambda output: output.position)
    found = context.views.batch(batch_id).sources
    assert [source.source_id for source in found] == list(dict.fromkeys(o.source_id for o in by_position))
    rows_of = {row.id: row for row in rows.all(Source)}
    for source in found:
        mine = [output for output in by_position if output.source_id == source.source_id]
        assert [output.output_id for output in source.outputs] == [output.id for output in mine]
        assert source.status == source_status([OutputState(output.state) for output in mine])
        done = sum((tally(rows_of[source.source_id], o.state, o.percent) for o in mine), Tally())
        assert source.percent == done.percent
    bare = context.views.batch(batch_id, with_outputs=False).sources
    assert bare == [source.model_copy(update={"outputs": []}) for source in found]
    assert context.views.job_ids(Batch, batch_id)[0] == context.views.batch(batch_id).jobs[0].job_id


def test_a_file_that_is_no_video_has_no_work_and_alone_it_is_the_end():
    nothing = {"key": "", "size_bytes": 0, "etag": "", "duration_s": 0, "width": 0, "height": 0}
    refused = Source(id="src_1", name="a.txt", refusal="This is a text file.", **nothing)
    link = Source(id="src_3", name="b.mp4", url="https://host/b.mp4", **nothing)
    video = Source(id="src_2", name="a.mp4", **{**nothing, "duration_s": 2, "width": 320, "height": 180})
    bad, good = tally(refused, OutputState.FAILED, 0), tally(video, OutputState.RUNNING, 50)
    assert (bad.percent, good.percent, (bad + good).percent) == (100.0, 50.0, 50.0)
    assert (tally(link, OutputState.FAILED, 90) + tally(link, OutputState.RUNNING, 10)).percent == 55.0
    assert Tally().percent == 0.0
