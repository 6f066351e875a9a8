"""Downloads: the ZIP of a job or batch, and links to it that need no header."""

from __future__ import annotations

from collections.abc import Collection, Generator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

from anyio import CapacityLimiter
from fastapi import APIRouter, Depends, Header
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from control.auth.tokens import TICKET_LIFE, Link
from control.context import AppContext
from control.domain.errors import Code, ControlError
from control.domain.filenames import content_disposition
from control.downloads import contents, ranges
from control.downloads.contents import Facts, Layout, ZipRequest
from control.downloads.layouts import Layouts, made
from control.downloads.ranges import Span
from control.downloads.streaming import Piped, Share, fetch
from control.downloads.zip_layout import Slice
from control.http.errors import documented
from control.http.guard import Credentials, Guard, LinkTicket
from control.http.threads import API
from control.store.machines import count_download
from control.store.rows import found
from control.store.tables import Batch, Job
from control.views.schemas.downloads import DownloadLink, LinkWanted

THREADS_MAX = 32  # downloads that read from the bucket at the same time

RangeHeader = Annotated[str | None, Header(alias="Range", max_length=1000)]
IfRangeHeader = Annotated[str | None, Header(alias="If-Range", max_length=200)]
IfMatch = Annotated[str | None, Header(alias="If-Match", max_length=1000)]
IfNoneMatch = Annotated[str | None, Header(alias="If-None-Match", max_length=1000)]

_LINK_ERRORS = (Code.UNAUTHORIZED, Code.NOT_FOUND, Code.NOT_READY, Code.EXPIRED, Code.INVALID)
_ZIP: dict[str, Any] = {"content": {"application/zip": {}}}
_ZIP_ROUTE: dict[str, Any] = {
    "response_class": Response,
    "responses": {
        200: {**_ZIP, "description": "The whole ZIP."},
        304: {"description": "The archive has the ETag of If-None-Match."},
        **documented(*_LINK_ERRORS, Code.CHANGED, Code.UNAVAILABLE),
    },
}
_PART_OF_ZIP: dict[int | str, Any] = {
    206: {**_ZIP, "description": "The requested range."},
    **documented(Code.RANGE_NOT_SATISFIABLE),
}


def routes(context: AppContext, guard: Guard) -> APIRouter:
    """Return the routes of ZIPs and their links."""
    router = APIRouter(prefix="/api", tags=["downloads"], route_class=API.route)
    layouts = Layouts(partial(made, context))
    threads, share = CapacityLimiter(THREADS_MAX), Share()
    _add(router, _Zips(context, guard, layouts, threads, share, Job, "jobs"))
    _add(router, _Zips(context, guard, layouts, threads, share, Batch, "batches"))
    return router


def _add(router: APIRouter, zips: _Zips) -> None:
    address = f"/{zips.noun}/{{id}}/download"

    @router.head(address, **_ZIP_ROUTE)
    async def size(id: str, credentials: Credentials, ticket: LinkTicket = None) -> Response:  # noqa: A002
        """Return the length of the ZIP, and its ETag once it is frozen."""
        asked, facts = await zips.allowed(id, credentials, ticket)
        return Response(headers=_headers(asked, facts, None), media_type="application/zip")

    @router.get(address, **{**_ZIP_ROUTE, "responses": {**_ZIP_ROUTE["responses"], **_PART_OF_ZIP}})
    async def stream(
        id: str,  # noqa: A002
        credentials: Credentials,
        ticket: LinkTicket = None,
        range_: RangeHeader = None,
        if_range: IfRangeHeader = None,
        if_match: IfMatch = None,
        if_none_match: IfNoneMatch = None,
    ) -> Response:
        """Stream a ZIP of the ready outputs. After the end it has an ETag and can be resumed."""
        asked, facts = await zips.allowed(id, credentials, ticket)
        if facts.tag and if_match is not None and not ranges.names(if_match, f'"{facts.tag}"'):
            raise ControlError(Code.CHANGED, "The archive is not the one that If-Match names.")
        if facts.tag and ranges.names(if_none_match, f'"{facts.tag}"'):
            return Response(status_code=304, headers={"ETag": f'"{facts.tag}"'})
        _span(facts, range_, if_range)  # refuses before the layout is made
        layout = await zips.layouts.of(asked)
        span = _span(layout.facts, range_, if_range)
        return Piped(
            _counted(zips, _content(zips, layout, span or Span(0, layout.facts.size_bytes))),
            place=zips.share.taken(id),
            threads=zips.threads,
            status_code=206 if span else 200,
            headers=_headers(asked, layout.facts, span),
            media_type="application/zip",
        )

    @router.post(f"{address}-link", dependencies=[Depends(zips.guard)], responses=documented(*_LINK_ERRORS))
    async def link(id: str, body: LinkWanted | None = None) -> DownloadLink:  # noqa: A002
        """Return a URL of the ZIP, or of a ZIP of some outputs, that needs no header.

        Once a retry has changed the ZIP, the URL answers 412.
        """
        return await zips.link(id, body.output_ids if body else None)


@dataclass(frozen=True)
class _Zips:
    """The ZIPs of jobs, or of batches."""

    context: AppContext
    guard: Guard
    layouts: Layouts
    threads: CapacityLimiter
    share: Share
    table: type[Job | Batch]
    noun: Literal["jobs", "batches"]

    async def allowed(
        self, id_: str, credentials: Credentials, ticket: str | None
    ) -> tuple[ZipRequest, Facts]:
        """Return a ZIP and its facts to a client with a token, or with a ticket for just this archive."""
        link = None
        is_shared = await run_in_threadpool(self.guard.is_shared, ticket, id_)
        if not is_shared:
            link = await run_in_threadpool(self.guard.or_link, credentials, ticket, id_)
        asked = await run_in_threadpool(self._asked, id_, link.chosen if link else None, is_shared=is_shared)
        if link and link.expires_at <= self.context.clock():
            raise ControlError(Code.UNAUTHORIZED, "This link has expired. Ask for a new one.")
        facts = await self._facts(asked)
        if link and link.tag and link.tag != facts.tag:
            raise ControlError(Code.CHANGED, "A retry has changed this archive. Ask for a new link.")
        return asked, facts

    async def link(self, id_: str, output_ids: Collection[str] | None) -> DownloadLink:
        """Return a link. It lives as long as the frozen archive, or an hour while the archive still grows."""
        chosen = None if output_ids is None else await run_in_threadpool(self._positions, id_, output_ids)
        asked = await run_in_threadpool(self._asked, id_, chosen)
        tag = (await self._facts(asked)).tag if asked.ended_at else None
        return await run_in_threadpool(self._signed, asked, tag)

    def _signed(self, asked: ZipRequest, tag: str | None) -> DownloadLink:
        expires_at = asked.expires_at if tag else None
        expires_at = (expires_at or self.context.clock() + TICKET_LIFE).replace(microsecond=0)
        link = Link(tag or "", expires_at, asked.chosen)
        ticket = self.context.signer.link(asked.id, link, generation=self.context.views.token_generation())
        address = f"{self.context.settings.public_url.rstrip('/')}/api/{self.noun}/{asked.id}/download"
        return DownloadLink(url=f"{address}?ticket={ticket}", expires_at=link.expires_at)

    def _asked(self, id_: str, chosen: frozenset[int] | None, *, is_shared: bool = False) -> ZipRequest:
        with self.context.views.session() as session:
            subject, now = found(session, self.table, id_), self.context.clock()
            return contents.zip_request(session, subject, now=now, chosen=chosen, is_shared=is_shared)

    def _positions(self, id_: str, output_ids: Collection[str]) -> frozenset[int]:
        with self.context.views.session() as session:
            return contents.positions(session, found(session, self.table, id_), output_ids)

    async def _facts(self, asked: ZipRequest) -> Facts:
        return asked.facts or (await self.layouts.of(asked)).facts


def _span(facts: Facts, range_: str | None, if_range: str | None) -> Span | None:
    """Return the range to send, or None for the whole archive. While it still grows it is always None."""
    size_bytes = facts.size_bytes
    if facts.tag is None:
        return None
    try:
        return ranges.wanted(size_bytes, etag=f'"{facts.tag}"', range_=range_, if_range=if_range)
    except ranges.Unsatisfiable:
        raise ControlError(
            Code.RANGE_NOT_SATISFIABLE,
            f"The archive has {size_bytes} bytes; the range begins after them.",
            headers={"Content-Range": f"bytes */{size_bytes}"},
        ) from None


def _headers(asked: ZipRequest, facts: Facts, span: Span | None) -> dict[str, str]:
    size_bytes = facts.size_bytes
    headers = {
        "Content-Length": str(span.stop - span.start if span else size_bytes),
        "Content-Disposition": content_disposition(asked.zip_name),
        "Cache-Control": "private, no-transform",  # compression by a proxy would break the ranges
    }
    if facts.tag:
        headers |= {"ETag": f'"{facts.tag}"', "Accept-Ranges": "bytes"}
    if span:
        headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{size_bytes}"
    return headers


def _counted(zips: _Zips, content: Generator[bytes]) -> Generator[bytes]:
    """Yield the content. Count the sent bytes at its end, or when the client disconnects."""
    sent = 0
    try:
        for chunk in content:
            sent += len(chunk)
            yield chunk
    finally:
        content.close()
        count_download(zips.context.store, sent)


def _content(zips: _Zips, layout: Layout, span: Span) -> Generator[bytes]:
    for segment in layout.archive.segments(span.start, span.stop):
        if isinstance(segment, Slice):
            file = layout.files[segment.member.name]
            yield from fetch(zips.context, zips.share, file, segment.start, segment.stop)
        else:
            yield segment
