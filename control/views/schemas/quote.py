"""A quote: the estimated time and cost of a batch, also for videos that are not uploaded."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from control.planning.planner import SOURCES_PER_BATCH_MAX
from control.views.schemas.base import Name, Request, like
from control.views.schemas.submit import NewBatch, SourceRef
from runner.media import SOURCE_S_MAX, SOURCE_SIDE_MAX

BYTES_MAX = 2**53 - 1  # a larger size makes a quote's result infinite or no number
_FACTS = {"name": "ad.mp4", "size_bytes": 20_971_520, "duration_s": 15.0, "width": 1080, "height": 1920}


class SourceFacts(Request):
    """The facts of a video that is not uploaded, for a quote."""

    name: Name = "video.mp4"
    size_bytes: Annotated[int, Field(ge=1, le=BYTES_MAX)]
    duration_s: Annotated[float, Field(gt=0, le=SOURCE_S_MAX, allow_inf_nan=False)]
    width: Annotated[int, Field(ge=1, le=SOURCE_SIDE_MAX)]
    height: Annotated[int, Field(ge=1, le=SOURCE_SIDE_MAX)]
    frame_rate: Annotated[float | None, Field(gt=0, le=1000, allow_inf_nan=False)] = None


class NewQuote(NewBatch):
    """Like a batch. A source may also be described by its facts, without an upload."""

    model_config = like({"sources": [_FACTS], "variations": 50, "quality": "high"})

    sources: Annotated[  # type: ignore[assignment]
        list[SourceRef | SourceFacts], Field(min_length=1, max_length=SOURCES_PER_BATCH_MAX)
    ]


class CurvePoint(BaseModel):
    """Time and cost with another number of machines."""

    machines: int
    makespan_s: float
    cost_usd: float


class Quote(BaseModel):
    """The estimated time and cost of a batch. `estimated`: a source or its frame rate is still unknown.

    `fits` is false if the results may not fit into the storage now. A submit is a 507 then.
    `cost_low_usd` and `cost_high_usd` are the range in which the bills of eight of the last ten jobs would
    lie; they are null until ten jobs have finished. `retention_hours` is how long results are kept after
    the end.
    """

    machines: int
    size: str
    makespan_s: float
    cost_usd: float
    cost_low_usd: float | None
    cost_high_usd: float | None
    estimated: bool
    fits: bool
    retention_hours: float
    curve: list[CurvePoint]
