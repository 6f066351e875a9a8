"""`POST /api/jobs` as `multipart/form-data`: videos and fields in one request, for `curl -F` and small pages.

The only route with a streamed body. Only its edge is async (docs/decisions/0011): a thread reads the form and
takes each chunk when it has finished the one before. So the sender is slowed down to the speed of the bucket.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Annotated, Any

import anyio
from anyio import CapacityLimiter, from_thread, to_thread
from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BeforeValidator, ValidationError, create_model
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Scope

from control.context import AppContext
from control.domain.errors import Code, ControlError
from control.http.guard import Guard
from control.http.middleware import is_form
from control.routes.batches import Key, submit
from control.routes.plan_request import require_one_job
from control.store.tables import Batch
from control.uploads.form import Form
from control.views.schemas.batches import JobView
from control.views.schemas.submit import NewJob

AT_ONCE_MAX = 2  # each keeps a part of 16 MiB in memory; further forms wait unread
WAITING_MAX = 16
SLACK_S = 20.0
BYTES_PER_S_MIN = 16 * 1024
AWAITED_BYTES_PER_S_MIN = 128 * 1024  # while another form waits


# the fields of a form: all fields of a job except its sources
_fields: dict[str, Any] = {name: (info.annotation, info) for name, info in NewJob.model_fields.items()}
del _fields["sources"]
_fields["without"] = (
    Annotated[list[str], BeforeValidator(lambda text: [name.strip() for name in text.split(",") if name])],
    [],
)
_Wishes = create_model("Wishes", __config__=NewJob.model_config, **_fields)


class FormRoute(APIRoute):
    """A route for forms only. Other requests go to the next route of the same path."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match forms like any route, and nothing else."""
        return super().matches(scope) if is_form(scope) else (Match.NONE, {})


def routes(context: AppContext, guard: Guard) -> APIRouter:
    """Return the route of forms. It must come before the JSON route of its path, which documents both."""
    router = APIRouter(prefix="/api", dependencies=[Depends(guard)])
    at_once = CapacityLimiter(AT_ONCE_MAX)

    async def submit_form(request: Request, response: Response, idempotency_key: Key = None) -> JobView:
        content_type = request.headers["content-type"]
        if at_once.statistics().tasks_waiting >= WAITING_MAX:
            raise ControlError(
                Code.UNAVAILABLE,
                "Too many forms wait already. Try again in a minute, or use POST /api/uploads.",
                headers={"Retry-After": "60"},
            )
        chunks = _chunks_of(_Sender(request.stream(), at_once))
        work = partial(_submit, context, content_type, chunks, idempotency_key)
        with context.answering.only_once(idempotency_key):
            job = await to_thread.run_sync(work, limiter=at_once)
        response.headers["Location"] = f"/api/jobs/{job.job_id}"
        return job

    router.add_api_route(
        "/jobs",
        submit_form,
        methods=["POST"],
        status_code=202,
        include_in_schema=False,
        route_class_override=FormRoute,
    )
    return router


def _submit(context: AppContext, content_type: str, chunks: Iterator[bytes], key: str | None) -> JobView:
    form = Form(context)
    try:
        form.read(content_type, chunks)
        body = _as_new_job(form)
        require_one_job(body)
        digest = _digest(form, body)
        sources = form.sources
        batch_id = submit(context, "job", body, sources, arrived=sources, key=key, request_sha256=digest)
    finally:
        form.close()
    return context.views.job(context.views.job_ids(Batch, batch_id)[0])


class _Sender:
    """The sender of a form, and how long control still waits for it: SLACK_S, to which sent bytes add time.

    So a sender that stops or is too slow loses its place after SLACK_S, however large its form is. Time in
    which control itself is busy does not count.
    """

    def __init__(self, stream: AsyncIterator[bytes], places: CapacityLimiter) -> None:
        self._stream, self._places = stream, places
        self._left_s = SLACK_S

    async def next(self) -> bytes | None:
        """Return the next chunk, or None after the last. Raises TimeoutError, ClientDisconnect."""
        begun_s = anyio.current_time()
        with anyio.fail_after(self._left_s):
            chunk = await anext(self._stream, None)
        earned_s = len(chunk or b"") / self._bytes_per_s_min()
        self._left_s = min(SLACK_S, self._left_s + earned_s - (anyio.current_time() - begun_s))
        return chunk

    def _bytes_per_s_min(self) -> int:
        return AWAITED_BYTES_PER_S_MIN if self._places.statistics().tasks_waiting else BYTES_PER_S_MIN


def _chunks_of(sender: _Sender) -> Iterator[bytes]:
    """Yield the chunks to a worker thread, each when it requests one."""
    while True:
        try:
            chunk = from_thread.run(sender.next)
        except ClientDisconnect:
            raise ControlError(Code.INVALID, "The form was cut off before its end. Send it again.") from None
        except TimeoutError:
            raise ControlError(
                Code.TOO_SLOW,
                "The form came too slowly. POST /api/uploads takes slow connections, and can be resumed.",
            ) from None
        if chunk is None:
            return
        yield chunk


def _as_new_job(form: Form) -> NewJob:
    """Return the job that a form requests, with the id of each of its files.

    Raises RequestValidationError, ControlError invalid (no file) or not_playable (no file is playable).
    """
    if "sources" in form.fields:
        raise ControlError(Code.INVALID, "sources: A form brings its own files, in the field `files`.")
    if not form.sources:
        raise ControlError(Code.INVALID, "files: The form has no file. Put the videos into this field.")
    sources = [{"source_id": source.id} for source in form.sources]
    try:
        wishes = _Wishes.model_validate_strings(form.fields).model_dump(exclude_unset=True)
        body = NewJob.model_validate({**wishes, "sources": sources})
    except ValidationError as error:
        raise RequestValidationError(error.errors()) from None
    if all(source.refusal is not None for source in form.sources):
        first = form.sources[0]
        raise ControlError(Code.NOT_PLAYABLE, f"{first.name}: {first.refusal}")
    return body


def _digest(form: Form, body: NewJob) -> str:
    """Return a digest that identifies a form: of its fields, and of the names and content of its files."""
    wishes = body.model_dump_json(exclude_defaults=True, exclude={"sources"})
    files = [(source.name, sha256) for source, sha256 in zip(form.sources, form.digests, strict=True)]
    return hashlib.sha256(f"form {wishes} {files}".encode()).hexdigest()
