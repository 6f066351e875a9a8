"""Getting results: the ZIP of a job or batch, and single outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Literal

from fastapi import APIRouter, Depends
from fastapi.responses import RedirectResponse, StreamingResponse
from sqlmodel import col, select

from control.api.guard import Credentials, Guard, Ticket
from control.archive import Archive, Slice
from control.domain import OutputState
from control.errors import Code, ControlError, documented
from control.names import content_disposition
from control.parts import Parts
from control.results import archive, require_kept
from control.tables import Batch, Job, Output
from control.views import found

CHUNK_BYTES = 256 * 1024
URL_LIFE_S = 3600

_ZIP_ERRORS = documented(
    Code.UNAUTHORIZED, Code.NOT_FOUND, Code.NOT_READY, Code.EXPIRED, Code.INVALID, Code.UNAVAILABLE
)


def routes(parts: Parts, guard: Guard) -> APIRouter:
    """Return the download routes of jobs, batches and outputs."""
    router = APIRouter(prefix="/api", tags=["downloads"])
    zip_route = {
        "dependencies": [Depends(guard)],
        "response_class": StreamingResponse,
        "responses": {200: {"content": {"application/zip": {}}}, **_ZIP_ERRORS},
    }

    @router.get("/jobs/{job_id}/download", **zip_route)  # type: ignore[arg-type]
    def download_job(job_id: str) -> StreamingResponse:
        """Stream a ZIP of what the job has ready."""
        with parts.views.session() as session:
            job: Job = found(session, Job, job_id)
            batch = session.get_one(Batch, job.batch_id)
            return _streamed(parts, job.id, *archive(session, batch, [job]))

    @router.get("/batches/{batch_id}/download", **zip_route)  # type: ignore[arg-type]
    def download_batch(batch_id: str) -> StreamingResponse:
        """Stream a ZIP of what the batch has ready."""
        with parts.views.session() as session:
            batch: Batch = found(session, Batch, batch_id)
            jobs = session.exec(select(Job).where(col(Job.batch_id) == batch.id)).all()
            return _streamed(parts, batch.id, *archive(session, batch, jobs))

    @router.get(
        "/outputs/{output_id}",
        status_code=307,
        response_class=RedirectResponse,
        responses=documented(Code.UNAUTHORIZED, Code.NOT_FOUND, Code.EXPIRED, Code.INVALID),
    )
    def download_output(
        output_id: str,
        credentials: Credentials,
        ticket: Ticket = None,
        disposition: Literal["attachment", "inline"] = "attachment",
    ) -> RedirectResponse:
        """Redirect to a signed URL of one output; `?ticket=` of its batch works instead of a token."""
        output = _find_output(parts, output_id)
        guard.or_ticket(credentials, ticket, output.batch_id if output else "")
        if output is not None:
            with parts.views.session() as session:
                require_kept(session.get_one(Batch, output.batch_id))
        if output is None or output.state != OutputState.READY or output.key is None:
            raise ControlError(Code.NOT_FOUND, "There is no such output, or it is not ready yet.")
        name = PurePosixPath(output.name).name
        url = parts.storage.sign_download(
            output.key,
            expires_s=URL_LIFE_S,
            disposition=content_disposition(name, inline=disposition == "inline"),
            content_type="video/mp4",
        )
        return RedirectResponse(url, status_code=307)

    return router


def _find_output(parts: Parts, output_id: str) -> Output | None:
    """Return the output, unless a user has deleted it."""
    with parts.views.session() as session:
        output = session.get(Output, output_id)
        batch = session.get(Batch, output.batch_id) if output else None
        return output if batch and batch.deleted_at is None else None


def _streamed(parts: Parts, name: str, zip_: Archive, outputs: Mapping[str, Output]) -> StreamingResponse:
    return StreamingResponse(
        _content(parts, zip_, outputs),
        media_type="application/zip",
        headers={
            "Content-Length": str(zip_.size_bytes),
            "Content-Disposition": content_disposition(f"{name}.zip"),
        },
    )


def _content(parts: Parts, zip_: Archive, outputs: Mapping[str, Output]) -> Iterator[bytes]:
    for segment in zip_.segments():
        if isinstance(segment, Slice):
            assert isinstance(segment.member.source, str), "bytes are cut by the archive itself"
            yield from _fetch(parts, outputs[segment.member.source], segment.start, segment.stop)
        else:
            yield segment


def _fetch(parts: Parts, output: Output, start: int, stop: int) -> Iterator[bytes]:
    """Yield these bytes of an output as the bucket has them; one that changed or vanished ends the stream."""
    assert output.key is not None, "a ready output has one"
    url = parts.storage.sign_get(output.key, expires_s=URL_LIFE_S)
    headers = {"Range": f"bytes={start}-{stop - 1}", "If-Match": f'"{output.etag}"'}
    with parts.bucket_http.stream("GET", url, headers=headers) as answer:
        if answer.status_code not in (200, 206):
            raise ControlError(Code.UNAVAILABLE, f"The bucket answered {answer.status_code}.")
        yield from answer.iter_raw(CHUNK_BYTES)
