"""Jobs and batches as clients see them, in lists and alone."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel

from control.domain.effect_names import EffectName
from control.views.schemas.base import Problem
from control.views.schemas.outputs import OutputView
from runner.contract import FrameRate, Quality


class Progress(BaseModel):
    """Counts are numbers of outputs. `eta_s` is null until there is enough progress to estimate it."""

    percent: float
    ready: int
    failed: int
    total: int
    eta_s: int | None


class SourceView(BaseModel):
    """A source with its outputs. `notes` say what could not be used of it; `data` is the caller's own.

    `width` and `height` are in pixels, as the picture is shown; 0 while they are unknown, as for a URL.
    """

    source_id: str
    name: str
    width: int = 0
    height: int = 0
    status: str
    percent: float
    notes: list[str] = []
    data: dict[str, Any] | None = None
    outputs: list[OutputView]


class AttemptView(BaseModel):
    """One try on one machine. `machine_seconds` grows while it is live."""

    attempt_id: str
    number: int
    state: str
    reason: str | None
    reason_text: str | None  # for people
    machine_id: str | None
    app: str
    region: str | None
    size: str
    started_at: datetime | None
    ended_at: datetime | None
    machine_seconds: float
    cost_usd: float
    log_tail: str | None  # of a failed one: the last lines of the runner's log, if it could still send them


class Summary(BaseModel):
    """The common fields of jobs and batches, as in lists. `name` is that of the batch.

    `ticket` opens its outputs, posters and events as `?ticket=` for an hour. `size_bytes` is what is ready.
    """

    batch_id: str
    name: str | None
    source_names: list[str]  # the first three
    sources_count: int
    poster_output_id: str | None  # the first output that has a poster
    poster_output_ids: list[str]  # the first ones of up to three sources
    status: str
    partial: bool
    progress: Progress
    waiting: Problem | None
    cost_usd: float
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime | None
    size_bytes: int
    ticket: str
    error: Problem | None


class Named(BaseModel):
    """The id of a job."""

    job_id: str


class JobSummary(Summary, Named):
    """A job in a list."""


class JobInBatch(BaseModel):
    """A job in its batch."""

    job_id: str
    status: str
    percent: float


class BatchSummary(Summary):
    """A batch in a list."""

    seed: int
    shared: bool  # whether it has a share link
    jobs: list[JobInBatch]


class WebhookView(BaseModel):
    """The state of the webhook: waiting (for the end), due, delivered, or dead (given up)."""

    state: str
    tries: int
    error: str | None


class Details(BaseModel):
    """The fields of a single job or batch that lists do not have: its settings and contents."""

    variations: int  # of each source; 0 with a preset
    preset: str | None
    without: list[EffectName]
    strength: float
    quality: Quality
    frame_rate: FrameRate
    name_template: str | None
    webhook: WebhookView | None
    sources: list[SourceView]
    attempts: list[AttemptView]


class JobView(Details, JobSummary):
    """A job."""


class BatchView(Details, BatchSummary):
    """A batch."""
