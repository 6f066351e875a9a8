"""Submits, lists and shows jobs (one machine each) and batches (as many machines as needed)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Response
from pydantic import BeforeValidator

from control.context import AppContext
from control.domain.errors import Code
from control.domain.states import JobStatus
from control.http.errors import documented
from control.http.guard import Guard
from control.http.threads import API, BATCHES, PLANNING
from control.routes.plan_request import planned_batch, planned_source, require_one_job, require_plannable
from control.store import batches as store
from control.store import idempotency
from control.store.tables import Batch, Source
from control.uploads.sources import named
from control.views.schemas.base import Page
from control.views.schemas.batches import BatchSummary, BatchView, JobSummary, JobView
from control.views.schemas.submit import NewBatch, NewJob

Kind = Literal["job", "batch"]

LISTED = 20
Status = Annotated[JobStatus | None, BeforeValidator(lambda text: text or None), Query()]
Limit = Annotated[int, BeforeValidator(lambda text: text or LISTED), Query(ge=1, le=100)]
Cursor = Annotated[str | None, Query(max_length=200)]  # none or an empty one: the first page
Search = Annotated[
    str | None,
    Query(
        max_length=100,
        pattern=r"^[^\x00]*$",
        description="Words that are in the name of a batch or of its sources.",
    ),
]
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)]

_SUBMIT_ERRORS = documented(
    Code.UNAUTHORIZED,
    Code.BUDGET_EXCEEDED,
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


def routes(context: AppContext, guard: Guard) -> APIRouter:
    """Return the routes under `/api/jobs` and `/api/batches`, except downloads."""
    router = APIRouter(
        prefix="/api", dependencies=[Depends(guard)], tags=["jobs and batches"], route_class=API.route
    )

    @router.post(
        "/jobs",
        status_code=202,
        responses=_SUBMIT_ERRORS | documented(Code.UNAVAILABLE),
        openapi_extra=_form_schema(),
    )
    @PLANNING
    def submit_job(body: NewJob, response: Response, idempotency_key: Key = None) -> JobView:
        """Submit a job for one machine, as JSON or as a form with videos. Location is its address."""
        require_one_job(body)
        batch_id = _submit(context, "job", body, idempotency_key)
        job_id = context.views.job_ids(Batch, batch_id)[0]
        response.headers["Location"] = f"/api/jobs/{job_id}"
        return context.views.job(job_id)

    @router.post("/batches", status_code=202, responses=_SUBMIT_ERRORS)
    @PLANNING
    def submit_batch(body: NewBatch, response: Response, idempotency_key: Key = None) -> BatchView:
        """Submit a batch for as many machines as needed. Location is its address."""
        require_plannable(body)
        batch_id = _submit(context, "batch", body, idempotency_key)
        response.headers["Location"] = f"/api/batches/{batch_id}"
        return context.views.batch(batch_id)

    @router.get("/jobs", responses=_LIST_ERRORS)
    def list_jobs(
        status: Status = None, q: Search = None, limit: Limit = LISTED, cursor: Cursor = None
    ) -> Page[JobSummary]:
        """List jobs, newest first."""
        return context.views.jobs(status=status, limit=limit, cursor=cursor, q=q)

    @router.get("/batches", responses=_LIST_ERRORS)
    def list_batches(
        status: Status = None, q: Search = None, limit: Limit = LISTED, cursor: Cursor = None
    ) -> Page[BatchSummary]:
        """List batches, newest first."""
        return context.views.batches(status=status, limit=limit, cursor=cursor, q=q)

    @router.get("/jobs/{job_id}", responses=_READ_ERRORS)
    def show_job(job_id: str) -> JobView:
        """Show a job with its sources, outputs and attempts."""
        return context.views.job(job_id)

    @router.get("/batches/{batch_id}", responses=_READ_ERRORS)
    @BATCHES
    def show_batch(batch_id: str) -> BatchView:
        """Show a batch with its jobs, sources, outputs and attempts."""
        return context.views.batch(batch_id)

    return router


def _form_schema() -> dict[str, Any]:
    """Return the OpenAPI entry of a job as a form (`forms`): the JSON fields, with files as sources."""
    job = NewJob.model_json_schema()
    properties = {name: shape for name, shape in job["properties"].items() if name != "sources"}
    properties["without"] = {"type": "string", "description": "Names of effects with commas between them."}
    files = {"type": "array", "items": {"type": "string", "format": "binary"}}
    required = ["files", *(name for name in job["required"] if name != "sources")]
    form = {"type": "object", "required": required, "properties": {"files": files, **properties}}
    return {"requestBody": {"content": {"multipart/form-data": {"schema": form}}}}


def _submit(context: AppContext, kind: Kind, body: NewJob, key: str | None) -> str:
    request_sha256 = digest(kind, body)
    with context.answering.only_once(key):
        with context.views.session() as session:  # on a repeat its videos may be gone
            if first := idempotency.first_use(session, key, request_sha256, context.clock()):
                return first
        sources = named(context, body.sources)
        return submit(
            context,
            kind,
            body,
            sources,
            arrived=[source for source in sources if source.url],
            key=key,
            request_sha256=request_sha256,
            data={source.id: ref.data for source, ref in zip(sources, body.sources, strict=True) if ref.data},
            deliveries={
                source.id: ref.output_urls
                for source, ref in zip(sources, body.sources, strict=True)
                if ref.output_urls
            },
        )


def submit(
    context: AppContext,
    kind: Kind,
    body: NewJob,
    sources: Sequence[Source],
    *,
    arrived: Sequence[Source],
    key: str | None,
    request_sha256: str,
    data: Mapping[str, dict[str, Any]] | None = None,
    deliveries: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Plan a request, store it, and wake the passes. Return the id of the batch.

    `arrived` are those of the sources that come with this request; `data` is the caller's own, and
    `deliveries` are users' URLs for the outputs, both by source.
    Raises as `planned_batch` and `store.batches.submit`.
    """
    batch_id = store.submit(
        context.store,
        planned_batch(context, body, [planned_source(context, source) for source in sources]),
        key=key,
        request_sha256=request_sha256,
        deliveries={sources[0].id: [body.output_url]} if body.output_url else deliveries,
        webhook=(kind, body.webhook_url) if body.webhook_url else None,
        arrived=arrived,
        data=data or {},
    )
    context.wake()
    return batch_id


def digest(kind: Kind, body: NewJob) -> str:
    """Return a digest that identifies a request. A new field with a default does not change it."""
    return hashlib.sha256(f"{kind} {body.model_dump_json(exclude_defaults=True)}".encode()).hexdigest()
