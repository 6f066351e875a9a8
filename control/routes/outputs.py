"""Single outputs: redirects to signed URLs, so their bytes do not pass through control."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import RedirectResponse

from control.context import AppContext
from control.domain.errors import Code, ControlError
from control.domain.filenames import content_disposition
from control.domain.states import OutputState
from control.downloads.contents import require_kept
from control.http.errors import documented
from control.http.guard import Credentials, Guard, Ticket
from control.http.threads import API
from control.store.files import StoredFile, content_type, files_of, poster_of
from control.store.session import get
from control.store.tables import Batch, Output

URL_LIFE_S = 3600

FileName = Annotated[str | None, Query(max_length=255)]

_ROUTE: dict[str, Any] = {
    "status_code": 307,
    "response_class": RedirectResponse,
    "responses": documented(Code.UNAUTHORIZED, Code.NOT_FOUND, Code.EXPIRED, Code.INVALID),
}


def routes(context: AppContext, guard: Guard) -> APIRouter:
    """Return the routes under `/api/outputs`."""
    router = APIRouter(prefix="/api/outputs", tags=["downloads"], route_class=API.route)

    @router.get("/{output_id}", **_ROUTE)
    def download_output(
        output_id: str,
        credentials: Credentials,
        ticket: Ticket = None,
        disposition: Literal["attachment", "inline"] = "attachment",
        file: FileName = None,
    ) -> RedirectResponse:
        """Redirect to a signed URL of one output. The `?ticket=` of its batch works instead of a token.

        For an `hls` output `?file=` selects one of its two files by name. Without it the media file is sent,
        which plays by itself.
        """
        files = files_of(_ready(context, guard, output_id, credentials, ticket))
        by_name = {PurePosixPath(path).name: found for path, found in files.items()}
        name = list(by_name)[-1] if file is None else file
        if name not in by_name:
            raise ControlError(Code.NOT_FOUND, f"This output's files are {' and '.join(by_name)}.")
        return _redirect(context, by_name[name], name, inline=disposition == "inline")

    @router.get("/{output_id}/poster", **_ROUTE)
    def show_poster(output_id: str, credentials: Credentials, ticket: Ticket = None) -> RedirectResponse:
        """Redirect to a signed URL of the output's poster, a JPEG of its middle frame."""
        output = _ready(context, guard, output_id, credentials, ticket)
        poster = poster_of(output)
        if poster is None:
            raise ControlError(Code.NOT_FOUND, "There is no picture of this output.")
        return _redirect(context, poster, f"{PurePosixPath(output.name).stem}.jpg", inline=True)

    return router


def _ready(
    context: AppContext, guard: Guard, output_id: str, credentials: Credentials, ticket: str | None
) -> Output:
    """Return a ready output if the caller may see it. Raises unauthorized, not_found, expired."""
    with context.views.session() as session:
        output = get(session, Output, output_id)
        batch = get(session, Batch, output.batch_id) if output else None
    guard.or_viewer(credentials, ticket, batch.id if batch else "")
    if output is None or batch is None or batch.deleted_at is not None:
        raise ControlError(Code.NOT_FOUND, "There is no such output.")
    require_kept(batch, now=context.clock())
    if output.state != OutputState.READY:
        raise ControlError(Code.NOT_FOUND, "This output is not ready. Look at its job for why.")
    return output


def _redirect(context: AppContext, file: StoredFile, name: str, *, inline: bool) -> RedirectResponse:
    url = context.storage.sign_download(
        file.key,
        expires_s=URL_LIFE_S,
        disposition=content_disposition(name, inline=inline),
        content_type=content_type(name),
    )
    return RedirectResponse(url, status_code=307)
