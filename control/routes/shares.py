"""Share links: make one, end it, and what it shows to people without the password."""

from __future__ import annotations

import time
from datetime import datetime
from math import ceil
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from control.auth.login_limit import network_of
from control.auth.tokens import share_sha256
from control.context import AppContext
from control.domain.errors import Code, ControlError
from control.downloads.contents import zip_request
from control.http.caller import address_of
from control.http.errors import documented
from control.http.guard import Guard
from control.http.threads import API, SHARED
from control.store import shares
from control.store.rows import found
from control.store.tables import Batch
from control.views.schemas.shared import SharedBatch, ShareLink
from control.views.shared import shared
from infra.ratelimit import Rate, TokenBuckets

LOOKS = Rate(per_s=1, burst=30)  # of one network; a page looks once

_bearer = HTTPBearer(auto_error=False, scheme_name="share token")
ShareToken = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def routes(context: AppContext, guard: Guard) -> APIRouter:
    """Return the routes of share links."""
    router = APIRouter(prefix="/api", tags=["downloads"], route_class=API.route)
    _add_links(router, context, guard)
    _add_view(router, context)
    return router


def _add_links(router: APIRouter, context: AppContext, guard: Guard) -> None:
    address = "/batches/{batch_id}/share-link"

    @router.post(
        address,
        status_code=201,
        dependencies=[Depends(guard)],
        responses=documented(
            Code.UNAUTHORIZED, Code.NOT_FOUND, Code.NOT_FINISHED, Code.NOT_READY, Code.EXPIRED, Code.INVALID
        ),
    )
    def share(batch_id: str) -> ShareLink:
        """Make a link that shows the results of an ended batch to anyone who has it, without the password.

        It opens pictures, videos and a ZIP of these, read only, until the archive expires. A batch has one
        link: a second call ends the first. The token is in the URL's fragment, which browsers do not send.
        """
        token, expires_at = make_link(context, batch_id)
        return ShareLink(
            url=f"{context.settings.public_url.rstrip('/')}/#/shared/{token}", expires_at=expires_at
        )

    @router.delete(
        address,
        status_code=204,
        dependencies=[Depends(guard)],
        responses=documented(Code.UNAUTHORIZED, Code.NOT_FOUND, Code.INVALID),
    )
    def unshare(batch_id: str) -> None:
        """End the share link of a batch at once. Without a link nothing happens."""
        shares.unshare(context.store, batch_id)


def make_link(context: AppContext, batch_id: str) -> tuple[str, datetime]:
    """Return the token of a new link of a batch, and when it expires.

    Raises ControlError: not_found, not_finished, not_ready (there is nothing to show), expired.
    """
    with context.views.session() as session:
        batch = found(session, Batch, batch_id)
        if batch.ended_at is not None:
            zip_request(session, batch, now=context.clock())
    return shares.share(context.store, batch_id)


def _add_view(router: APIRouter, context: AppContext) -> None:
    buckets = TokenBuckets()  # used on the event loop alone

    @router.get(
        "/shared",
        response_model=SharedBatch,
        responses=documented(Code.UNAUTHORIZED, Code.TOO_MANY_TRIES),
    )
    async def show_shared(request: Request, credentials: ShareToken) -> Response:
        """Show what a share link opens. The token is the last part of the link, sent as a bearer token."""
        address = address_of(request.scope, is_behind_fly=bool(context.settings.fly_app_name))
        if wait_s := buckets.take(network_of(address), LOOKS, time.monotonic()):
            raise ControlError(
                Code.TOO_MANY_TRIES,
                "Too many looks at shared videos from this network. Try again in a moment.",
                headers={"Retry-After": str(ceil(wait_s))},
            )
        content = await SHARED.run(_shown, context, credentials.credentials if credentials else "")
        return Response(content, media_type="application/json")


def _shown(context: AppContext, token: str) -> bytes:
    return open_link(context, token).model_dump_json().encode()


def open_link(context: AppContext, token: str) -> SharedBatch:
    """Return what a link shows. Raises ControlError unauthorized, whatever the link has ended by."""
    with context.views.session() as session:
        batch = shared(session, context.signer, share_sha256(token), context.clock())
    if batch is None:
        raise ControlError(
            Code.UNAUTHORIZED,
            "This link has ended, or a part of it is missing. Ask whoever sent it for a new one.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return batch
