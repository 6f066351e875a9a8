"""Changing what was submitted: cancel, retry, delete."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from control.context import Parts
from control.domain.errors import Code, ControlError, documented
from control.http.guard import Guard
from control.http.threads import API
from control.store import changes
from control.store.tables import Batch, Job
from control.views.schemas import BatchView, JobView

_CANCEL_ERRORS = documented(Code.UNAUTHORIZED, Code.NOT_FOUND, Code.INVALID)
_RETRY_ERRORS = documented(Code.UNAUTHORIZED, Code.NOT_FOUND, Code.CONFLICT, Code.EXPIRED, Code.INVALID)
_DELETE_ERRORS = documented(Code.UNAUTHORIZED, Code.NOT_FOUND, Code.CONFLICT, Code.INVALID)


def routes(parts: Parts, guard: Guard) -> APIRouter:
    """Return the routes that change jobs and batches."""
    router = APIRouter(
        prefix="/api", dependencies=[Depends(guard)], tags=["jobs and batches"], route_class=API.route
    )
    _add_cancel(router, parts)
    _add_retry(router, parts)
    _add_delete(router, parts)
    return router


def _add_cancel(router: APIRouter, parts: Parts) -> None:
    @router.post("/jobs/{job_id}/cancel", status_code=202, responses=_CANCEL_ERRORS)
    def cancel_job(job_id: str) -> JobView:
        """Cancel a job: its machine is stopped, ready outputs stay. Again on an ended one nothing happens."""
        _cancel(parts, Job, job_id)
        return parts.views.job(job_id)

    @router.post("/batches/{batch_id}/cancel", status_code=202, responses=_CANCEL_ERRORS)
    def cancel_batch(batch_id: str) -> BatchView:
        """Cancel all that lives of a batch: its machines are stopped, ready outputs stay."""
        _cancel(parts, Batch, batch_id)
        return parts.views.batch(batch_id)


def _add_retry(router: APIRouter, parts: Parts) -> None:
    @router.post("/jobs/{job_id}/retry", status_code=202, responses=_RETRY_ERRORS)
    def retry_job(job_id: str) -> JobView:
        """Start again what is not ready of an ended job."""
        _retry(parts, Job, job_id)
        return parts.views.job(job_id)

    @router.post("/batches/{batch_id}/retry", status_code=202, responses=_RETRY_ERRORS)
    def retry_batch(batch_id: str) -> BatchView:
        """Start again what is not ready of an ended batch."""
        _retry(parts, Batch, batch_id)
        return parts.views.batch(batch_id)


def _add_delete(router: APIRouter, parts: Parts) -> None:
    @router.delete("/jobs/{job_id}", status_code=204, responses=_DELETE_ERRORS)
    def delete_job(job_id: str) -> None:
        """Delete a job that was submitted by itself: cancel it if it lives, remove its files and rows."""
        batch_id, siblings = parts.views.whereabouts(job_id)
        if siblings:
            raise ControlError(Code.CONFLICT, f"This job is part of the batch {batch_id}. Delete that.")
        _delete(parts, batch_id)

    @router.delete("/batches/{batch_id}", status_code=204, responses=_DELETE_ERRORS)
    def delete_batch(batch_id: str) -> None:
        """Delete a batch: cancel it if it lives, remove its files and rows."""
        parts.views.job_ids(Batch, batch_id)  # 404 for what is not there
        _delete(parts, batch_id)


def _cancel(parts: Parts, kind: type[Job] | type[Batch], id_: str) -> None:
    changes.cancel(parts.store, parts.views.job_ids(kind, id_))
    parts.wake()


def _retry(parts: Parts, kind: type[Job] | type[Batch], id_: str) -> None:
    changes.retry(parts.store, parts.views.job_ids(kind, id_))
    parts.wake()


def _delete(parts: Parts, batch_id: str) -> None:
    changes.delete(parts.store, batch_id)
    parts.wake()
