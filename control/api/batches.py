"""Submitting work and looking at it: jobs (one machine) and batches (as many as it takes)."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Response

from control.api.guard import Guard
from control.domain import JobStatus
from control.errors import Code, ControlError, documented
from control.ids import new_id
from control.naming import named, require_callable
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
    Code.STORAGE_FULL,
)
_READ_ERRORS = documented(Code.UNAUTHORIZED, Code.NOT_FOUND, Code.INVALID)
_LIST_ERRORS = documented(Code.UNAUTHORIZED, Code.INVALID)


def routes(parts: Parts, guard: Guard) -> APIRouter:
    """Return the routes under `/api/jobs` and `/api/batches`, downloads aside."""
    router = APIRouter(prefix="/api", dependencies=[Depends(guard)], tags=["jobs and batches"])

    @router.post(
        "/jobs",
        status_code=202,
        responses=_SUBMIT_ERRORS | documented(Code.UNAVAILABLE),
        openapi_extra=_form_schema(),
    )
    def submit_job(body: NewJob, response: Response, idempotency_key: Key = None) -> JobView:
        """Submit one job for one machine, or a form with its videos. The answer's Location is the job."""
        require_one_job(body)
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


def require_one_job(body: NewJob) -> None:
    """Raise ControlError invalid for more outputs than one job may have."""
    if body.outputs_count > OUTPUTS_PER_JOB_MAX:
        raise ControlError(
            Code.INVALID,
            f"A job makes at most {OUTPUTS_PER_JOB_MAX} outputs. Submit a batch instead.",
        )


def _form_schema() -> dict[str, Any]:
    """Return the OpenAPI entry of a job as a form (`forms`): the JSON's fields, with files for sources."""
    job = NewJob.model_json_schema()
    properties = {name: shape for name, shape in job["properties"].items() if name != "sources"}
    files = {"type": "array", "items": {"type": "string", "format": "binary"}}
    required = ["files", *(name for name in job["required"] if name != "sources")]
    form = {"type": "object", "required": required, "properties": {"files": files, **properties}}
    return {"requestBody": {"content": {"multipart/form-data": {"schema": form}}}}


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
    sources = named(parts, body.sources)
    planned = planned_batch(parts, body, sources)
    batch_id = store.submit(
        parts.store,
        planned,
        key=key,
        request_sha256=digest(kind, body),
        output_url=body.output_url,
        webhook=(kind, body.webhook_url) if body.webhook_url else None,
        arrived=[source for source in sources if source.url],
    )
    parts.wake()
    return batch_id


def digest(kind: Kind, body: NewJob) -> str:
    """Return what tells one request from another. A new field with a default does not change it."""
    return hashlib.sha256(f"{kind} {body.model_dump_json(exclude_defaults=True)}".encode()).hexdigest()


def planned_batch(parts: Parts, body: NewJob, sources: Sequence[Source]) -> PlannedBatch:
    """Return the plan of what is asked for. Raises ControlError invalid for URLs that cannot be."""
    planned = plan(
        [PlannedSource(source_id=row.id, name=row.name, fingerprint=row.etag) for row in sources],
        variations=body.variations or 0,
        preset=body.recipe,
        seed=secrets.randbits(SEED_BITS) if body.seed is None else body.seed,
        new_id=lambda: new_id("out"),
    )
    if body.webhook_url is not None:
        if parts.settings.webhook_secret is None:
            raise ControlError(
                Code.INVALID, "webhook_url: webhooks are off here. Set WEBHOOK_SECRET, or poll the job."
            )
        require_callable(parts, body.webhook_url, "webhook_url")
    if body.output_url is not None:
        require_callable(parts, body.output_url, "output_url")
        if planned.outputs_count != 1:
            raise ControlError(Code.INVALID, "output_url: it takes one file, so ask for exactly one output.")
    return planned
