from __future__ import annotations

from sqlalchemy import event


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
