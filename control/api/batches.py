"""Submitting work and looking at it: jobs (one machine) and batches (as many as it takes)."""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Header, Query, Response
from sqlmodel import col, select

from control.api.guard import Guard
from control.domain import JobStatus
from control.errors import Code, ControlError, documented
from control.ids import new_id
from control.parts import Parts
from control.plan import (
    OUTPUTS_PER_BATCH_MAX,
    OUTPUTS_PER_JOB_MAX,
    PlannedBatch,
    PlannedSource,
    jobs_count,
    plan,
)
from control.shapes import (
    BatchSummary,
    BatchView,
    JobSummary,
    JobView,
    NewBatch,
    NewJob,
    Page,
)
from control.store import batches as store
from control.tables import Source

SEED_BITS = 63

Kind = Literal["job", "batch"]

Limit = Annotated[int, Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(max_length=200)]
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)]

_SUBMIT_ERRORS = documented(
    Code.UNAUTHORIZED,
    Code.NOT_FOUND,
    Code.CONFLICT,
    Code.SOURCE_GONE,
    Code.TOO_LARGE,
    Code.INVALID,
    Code.QUEUE_FULL,
)
_READ_ERRORS = documented(Code.UNAUTHORIZED, Code.NOT_FOUND, Code.INVALID)
_LIST_ERRORS = documented(Code.UNAUTHORIZED, Code.INVALID)


def routes(parts: Parts, guard: Guard) -> APIRouter:
    """Return the routes under `/api/jobs` and `/api/batches`, downloads aside."""
    router = APIRouter(prefix="/api", dependencies=[Depends(guard)], tags=["jobs and batches"])

    @router.post("/jobs", status_code=202, responses=_SUBMIT_ERRORS)
    def submit_job(body: NewJob, response: Response, idempotency_key: Key = None) -> JobView:
        """Submit one job for one machine. The answer's Location is the job."""
        if body.outputs_count > OUTPUTS_PER_JOB_MAX:
            raise ControlError(
                Code.INVALID,
                f"A job makes at most {OUTPUTS_PER_JOB_MAX} outputs. Submit a batch instead.",
            )
        batch_id = _submit(parts, "job", body, idempotency_key)
        job_id = parts.views.batch(batch_id).jobs[0].job_id
        response.headers["Location"] = f"/api/jobs/{job_id}"
        return parts.views.job(job_id)

    @router.post("/batches", status_code=202, responses=_SUBMIT_ERRORS)
    def submit_batch(body: NewBatch, response: Response, idempotency_key: Key = None) -> BatchView:
        """Submit a batch. The answer's Location is the batch."""
        _require_plannable(body)
        batch_id = _submit(parts, "batch", body, idempotency_key)
        response.headers["Location"] = f"/api/batches/{batch_id}"
        return parts.views.batch(batch_id)

    @router.get("/jobs", responses=_LIST_ERRORS)
    def list_jobs(
        status: JobStatus | None = None, limit: Limit = 20, cursor: Cursor = None
    ) -> Page[JobSummary]:
        """List jobs, newest first."""
        return parts.views.jobs(status=status, limit=limit, cursor=cursor)

    @router.get("/batches", responses=_LIST_ERRORS)
    def list_batches(
        status: JobStatus | None = None, limit: Limit = 20, cursor: Cursor = None
    ) -> Page[BatchSummary]:
        """List batches, newest first."""
        return parts.views.batches(status=status, limit=limit, cursor=cursor)

    @router.get("/jobs/{job_id}", responses=_READ_ERRORS)
    def show_job(job_id: str) -> JobView:
        """Show a job with its sources, outputs and attempts."""
        return parts.views.job(job_id)

    @router.get("/batches/{batch_id}", responses=_READ_ERRORS)
    def show_batch(batch_id: str) -> BatchView:
        """Show a batch with its jobs, sources, outputs and attempts."""
        return parts.views.batch(batch_id)

    return router


def _require_plannable(body: NewBatch) -> None:
    outputs = body.outputs_count
    if outputs > OUTPUTS_PER_BATCH_MAX:
        raise ControlError(Code.INVALID, f"A batch makes at most {OUTPUTS_PER_BATCH_MAX} outputs.")
    needed = jobs_count(outputs)
    if body.max_machines is not None and needed > body.max_machines:
        raise ControlError(
            Code.INVALID,
            f"One machine makes at most {OUTPUTS_PER_JOB_MAX} outputs, so {outputs} need {needed} machines. "
            "Raise max_machines, or submit several batches.",
        )


def _submit(parts: Parts, kind: Kind, body: NewJob, key: str | None) -> str:
    batch_id = store.submit(parts.store, _planned(parts, body), key=key, request_sha256=digest(kind, body))
    parts.wake()
    return batch_id


def digest(kind: Kind, body: NewJob) -> str:
    """Return what tells one request from another. A new field with a default does not change it."""
    return hashlib.sha256(f"{kind} {body.model_dump_json(exclude_defaults=True)}".encode()).hexdigest()


def _planned(parts: Parts, body: NewJob) -> PlannedBatch:
    ids = [source.source_id for source in body.sources]
    if len(set(ids)) < len(ids):
        raise ControlError(Code.INVALID, "A source is named twice. Ask for more variations instead.")
    with parts.views.session() as session:
        rows = {row.id: row for row in session.exec(select(Source).where(col(Source.id).in_(ids)))}
    if missing := [source_id for source_id in ids if source_id not in rows]:
        raise ControlError(Code.NOT_FOUND, f"There is no source {missing[0][:64]!r}. Upload it first.")
    return plan(
        [PlannedSource(source_id=id_, name=rows[id_].name, fingerprint=rows[id_].etag) for id_ in ids],
        variations=body.variations or 0,
        preset=body.recipe,
        seed=secrets.randbits(SEED_BITS) if body.seed is None else body.seed,
        new_id=lambda: new_id("out"),
    )
