"""The lines that the commands print of answers."""

from __future__ import annotations

from datetime import UTC, datetime

from control.cli.lines import of_items
from video_refresher.models import Batch, Output, Problem, Progress, SourceInBatch, Variety


def test_an_output_is_shown_with_its_variety_or_its_error():
    made = {"status": "ready", "error": None}
    varieties = [Variety(source=0.0412, sibling=0.017), Variety(source=0.2, sibling=None), None]
    outputs = [
        Output.model_construct(output_id=f"out_{n}", name=f"{n}.mp4", variety=variety, **made)
        for n, variety in enumerate(varieties)
    ]
    outputs[2].error = Problem(code="render_failed", message="No.")
    batch = Batch.model_construct(
        batch_id="bat_1",
        status="completed",
        progress=Progress(percent=100, ready=2, failed=1, total=3, eta_s=0),
        created_at=datetime(2026, 11, 26, tzinfo=UTC),
        error=None,
        waiting=None,
        name="Spring",
        sources_count=1,
        source_names=["ad"],
        attempts=[],
        sources=[SourceInBatch.model_construct(name="ad", notes=[], outputs=outputs)],
    )
    assert [line.partition(".mp4")[2] for line in list(of_items(batch))[1:]] == [
        "  0.041 from its source, 0.017 from the nearest other",
        "  0.200 from its source",
        "  No.",
    ]
