"""Finds the rows of the sources that a request names, and makes new rows for users' URLs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from urllib.parse import urlsplit

from sqlmodel import col, select

from control.context import AppContext
from control.domain.errors import Code, ControlError, source_gone
from control.domain.filenames import of_link
from control.domain.ids import new_id
from control.store.tables import Source
from control.views.schemas.submit import SourceRef
from infra import outbound


def named(context: AppContext, refs: Sequence[SourceRef]) -> list[Source]:
    """Return the sources in the order of the request. Those of URLs are new and not stored yet.

    Raises ControlError: invalid (named twice, or a URL that may not be called), not_found, source_gone.
    """
    keys = [ref.source_id or ref.url for ref in refs]
    if len(set(keys)) < len(keys):
        raise ControlError(Code.INVALID, "A source is named twice. Ask for more variations instead.")
    uploaded = _uploaded(context, [ref.source_id for ref in refs if ref.source_id is not None])
    return [uploaded[ref.source_id] if ref.source_id else _of_url(context, ref) for ref in refs]


def require_callable(context: AppContext, url: str, field: str) -> None:
    """Raise ControlError invalid for a URL that its text alone forbids to call."""
    try:
        outbound.target(url, allow=context.settings.outbound_allow)
    except outbound.Forbidden as refused:
        raise ControlError(Code.INVALID, f"{field}: {refused}") from None


def _uploaded(context: AppContext, ids: Sequence[str]) -> dict[str, Source]:
    with context.views.session() as session:
        rows = {row.id: row for row in session.exec(select(Source).where(col(Source.id).in_(ids)))}
    for source_id in ids:
        if source_id not in rows:
            raise ControlError(Code.NOT_FOUND, f"There is no source {source_id[:64]!r}. Upload it first.")
        if rows[source_id].deleted_at is not None:
            raise source_gone(source_id)
        if not rows[source_id].key:
            raise ControlError(
                Code.INVALID, f"Source {source_id} was never stored. Name its URL again, or upload the video."
            )
    return rows


def _of_url(context: AppContext, ref: SourceRef) -> Source:
    """Return a new row for a URL. Its query may hold a secret, so name and fingerprint leave it out."""
    url = ref.url or ""
    require_callable(context, url, "sources.url")
    split = urlsplit(url)
    return Source(
        id=new_id("src"),
        name=ref.name or of_link(url),
        key="",
        size_bytes=0,
        etag=hashlib.sha256(f"{split.scheme}://{split.netloc}{split.path}".encode()).hexdigest(),
        duration_s=0,
        width=0,
        height=0,
        url=url,
        created_at=context.clock(),
    )
