"""Event streams of jobs and batches: Server-Sent Events."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Response

from control.domain.errors import Code, ControlError
from control.http.errors import documented
from control.http.guard import Credentials, Guard, Ticket
from control.http.sse import Live
from control.http.threads import API
from control.views.event_log import Timeline
from control.views.schemas.events import ProgressEvent, StateEvent
from control.views.schemas.outputs import OutputView

ID_MAX = 2**63 - 1

Position = Annotated[int | None, Query(alias="last_event_id", ge=0, le=ID_MAX)]
Resumed = Annotated[int | None, Header(alias="Last-Event-ID", ge=0, le=ID_MAX)]

_EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "id": {"type": "string"},
        "event": {"enum": ["state", "output", "progress", "end"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": (
            "`state`, `output` and `end` carry rising ids; `progress` is a snapshot without one. The data is "
            f"JSON: {StateEvent.__name__}, {OutputView.__name__} as it is now, {StateEvent.__name__}, "
            f"{ProgressEvent.__name__}. After `end` nothing follows and the stream closes."
        ),
        "content": {"text/event-stream": {"itemSchema": _EVENT}},
    },
    204: {"description": "It has ended, and `Last-Event-ID` is the end or later: there are no more events."},
    **documented(Code.UNAUTHORIZED, Code.NOT_FOUND, Code.INVALID, Code.STREAMS_FULL, Code.UNAVAILABLE),
}
_PREFIX = {"job": "job_", "batch": "bat_"}


def routes(guard: Guard, timeline: Timeline, live: Live) -> APIRouter:
    """Return the event streams of jobs and batches."""
    router = APIRouter(prefix="/api", tags=["jobs and batches"], route_class=API.route)

    def opened(
        noun: Literal["job", "batch"],
        id_: str,
        credentials: Credentials,
        ticket: str | None,
        header: int | None,
        query: int | None,
    ) -> Response:
        opening = timeline.open(id_) if id_.startswith(_PREFIX[noun]) else None
        guard.or_ticket(credentials, ticket, opening.subject.batch_id if opening else "")
        if opening is None:
            raise ControlError(Code.NOT_FOUND, f"There is no such {noun}.")
        after = header if header is not None else query or 0
        if opening.end_id is not None and after >= opening.end_id:
            return Response(status_code=204)  # an EventSource does not reconnect after it
        return live.stream(opening, after=after)

    @router.get("/jobs/{job_id}/events", response_class=Response, responses=_ANSWERS)
    def job_events(
        job_id: str,
        credentials: Credentials,
        ticket: Ticket = None,
        last_event_id: Resumed = None,
        position: Position = None,
    ) -> Response:
        """Stream the events of a job until it ends. The `?ticket=` of its batch works instead of a token."""
        return opened("job", job_id, credentials, ticket, last_event_id, position)

    @router.get("/batches/{batch_id}/events", response_class=Response, responses=_ANSWERS)
    def batch_events(
        batch_id: str,
        credentials: Credentials,
        ticket: Ticket = None,
        last_event_id: Resumed = None,
        position: Position = None,
    ) -> Response:
        """Stream the events of a batch until it ends. Its `?ticket=` works instead of a token."""
        return opened("batch", batch_id, credentials, ticket, last_event_id, position)

    return router
