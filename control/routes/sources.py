"""Uploaded videos: redirects to signed URLs that play them."""

from __future__ import annotations

from pathlib import PurePosixPath

from fastapi import APIRouter
from fastapi.responses import RedirectResponse
from sqlmodel import col, select

from control.context import AppContext
from control.domain.errors import Code, ControlError, source_gone
from control.domain.filenames import content_disposition
from control.http.errors import documented
from control.http.guard import Credentials, Guard, Ticket
from control.http.threads import API
from control.routes.outputs import URL_LIFE_S
from control.store.tables import Batch, Output, Source

BATCHES_MAX = 1000  # of one source whose tickets are accepted; the newest


def routes(context: AppContext, guard: Guard) -> APIRouter:
    """Return the route `/api/sources/{id}`."""
    router = APIRouter(prefix="/api/sources", tags=["uploads"], route_class=API.route)

    @router.get(
        "/{source_id}",
        status_code=307,
        response_class=RedirectResponse,
        responses=documented(Code.UNAUTHORIZED, Code.NOT_FOUND, Code.SOURCE_GONE, Code.INVALID),
    )
    def play_source(source_id: str, credentials: Credentials, ticket: Ticket = None) -> RedirectResponse:
        """Redirect to a signed URL that plays an uploaded video.

        The `?ticket=` of a batch that uses the video works instead of a token.
        """
        with context.views.session() as session:
            source = session.get(Source, source_id)
            using = (
                select(Batch.id)
                .where(
                    col(Batch.id).in_(select(Output.batch_id).where(col(Output.source_id) == source_id)),
                    col(Batch.deleted_at).is_(None),
                )
                .order_by(col(Batch.created_at).desc())
            )
            batch_ids = session.exec(using.limit(BATCHES_MAX)).all() if ticket else ()
        guard.or_ticket(credentials, ticket, *batch_ids)
        if source is None:
            raise ControlError(Code.NOT_FOUND, "There is no such source.")
        if source.deleted_at is not None:
            raise source_gone(source_id)
        if not source.key:
            raise ControlError(Code.NOT_FOUND, "This source is not stored here, so it cannot be played.")
        return RedirectResponse(_url(context, source), status_code=307)

    return router


def _url(context: AppContext, source: Source) -> str:
    is_mov = PurePosixPath(source.name).suffix.lower() == ".mov"
    return context.storage.sign_download(
        source.key,
        expires_s=URL_LIFE_S,
        disposition=content_disposition(source.name, inline=True),
        content_type="video/quicktime" if is_mov else "video/mp4",
    )
