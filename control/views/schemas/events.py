"""The data of the events of a stream."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel

from control.views.schemas.base import Problem
from control.views.schemas.batches import JobInBatch, Progress


class StateEvent(BaseModel):
    """`state`, and at the end `end`: the new status of a job or, without `job_id`, of a batch."""

    batch_id: str
    job_id: str | None
    status: str
    partial: bool
    attempt_id: str | None
    at: datetime


class SourceProgress(BaseModel):
    """The progress of a source."""

    source_id: str
    status: str
    percent: float


class ProgressEvent(Progress):
    """`progress`: the current progress, and the reason if nothing moves."""

    batch_id: str
    job_id: str | None
    status: str
    waiting: Problem | None
    jobs: list[JobInBatch]
    sources: list[SourceProgress]
