"""Changes to jobs and batches: cancel, retry, delete."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastapi import APIRouter, Depends

from control.context import AppContext
from control.domain.errors import Code, ControlError
from control.http.errors import documented
from control.http.guard import Guard
from control.http.threads import API, BATCHES
from control.store import changes
from control.store.tables import Batch, Job
from control.store.transaction import Store
from control.views.schemas.batches import BatchView, JobView

Change = Callable[[Store, Sequence[str]], None]

_CANCEL_ERRORS = documented(Code.UNAUTHORIZED, Code.NOT_FOUND, Code.INVALID)
_RETRY_ERRORS = documented(Code.UNAUTHORIZED, Code.NOT_FOUND, Code.CONFLICT, Code.EXPIRED, Code.INVALID)
_DELETE_ERRORS = documented(Code.UNAUTHORIZED, Code.NOT_FOUND, Code.CONFLICT, Code.INVALID)


def routes(context: AppContext, guard: Guard) -> APIRouter:
    """Return the routes that change jobs and batches."""
    router = APIRouter(
        prefix="/api", dependencies=[Depends(guard)], tags=["jobs and batches"], route_class=API.route
    )
    _add_cancel(router, context)
    _add_retry(router, context)
    _add_delete(router, context)
    return router


def _add_cancel(router: APIRouter, context: AppContext) -> None:
    @router.post("/jobs/{job_id}/cancel", status_code=202, responses=_CANCEL_ERRORS)
    def cancel_job(job_id: str) -> JobView:
        """Cancel a job: its machine is stopped, ready outputs stay. On an ended job nothing happens."""
        _change(context, changes.cancel, Job, job_id)
        return context.views.job(job_id)

    @router.post("/batches/{batch_id}/cancel", status_code=202, responses=_CANCEL_ERRORS)
    @BATCHES
    def cancel_batch(batch_id: str) -> BatchView:
        """Cancel the live jobs of a batch: its machines are stopped, ready outputs stay."""
        _change(context, changes.cancel, Batch, batch_id)
        return context.views.batch(batch_id)


def _add_retry(router: APIRouter, context: AppContext) -> None:
    @router.post("/jobs/{job_id}/retry", status_code=202, responses=_RETRY_ERRORS)
    def retry_job(job_id: str) -> JobView:
        """Make the outputs of an ended job again that are not ready."""
        _change(context, changes.retry, Job, job_id)
        return context.views.job(job_id)

    @router.post("/batches/{batch_id}/retry", status_code=202, responses=_RETRY_ERRORS)
    @BATCHES
    def retry_batch(batch_id: str) -> BatchView:
        """Make the outputs of an ended batch again that are not ready."""
        _change(context, changes.retry, Batch, batch_id)
        return context.views.batch(batch_id)


def _add_delete(router: APIRouter, context: AppContext) -> None:
    @router.delete("/jobs/{job_id}", status_code=204, responses=_DELETE_ERRORS)
    def delete_job(job_id: str) -> None:
        """Delete a job that was submitted alone: cancel it if it is live, remove its files and rows."""
        batch_id, siblings = context.views.whereabouts(job_id)
        if siblings:
            raise ControlError(Code.CONFLICT, f"This job is part of the batch {batch_id}. Delete that.")
        _delete(context, batch_id)

    @router.delete("/batches/{batch_id}", status_code=204, responses=_DELETE_ERRORS)
    def delete_batch(batch_id: str) -> None:
        """Delete a batch: cancel it if it is live, remove its files and rows."""
        context.views.job_ids(Batch, batch_id)  # 404 if there is none
        _delete(context, batch_id)


def _change(context: AppContext, change: Change, kind: type[Job] | type[Batch], id_: str) -> None:
    change(context.store, context.views.job_ids(kind, id_))
    context.wake()


def _delete(context: AppContext, batch_id: str) -> None:
    changes.delete(context.store, batch_id)
    context.wake()
