"""Reads what a share link shows of its batch. Must never write, and never show more than `SharedBatch`."""

from __future__ import annotations

from datetime import datetime

from sqlmodel import Session, col, select

from control.auth.tokens import TICKET_LIFE, Signer
from control.domain.states import JobStatus, OutputState
from control.store.tables import Batch, Output, Source
from control.views.schemas.shared import SharedBatch, SharedOutput, SharedSource


def shared(session: Session, signer: Signer, share: str, now: datetime) -> SharedBatch | None:
    """Return the batch of a share link by the hash of its token, or None if the link has ended."""
    batch = session.exec(select(Batch).where(col(Batch.share_sha256) == share)).first()
    if batch is None or _is_over(batch, now):
        return None
    until = batch.expires_at or now + TICKET_LIFE
    return SharedBatch(
        batch_id=batch.id,
        name=batch.name,
        created_at=batch.created_at,
        expires_at=batch.expires_at,
        ticket=signer.share_ticket(batch.id, share, expires_at=until),
        sources=_sources(session, batch),
    )


def _is_over(batch: Batch, now: datetime) -> bool:
    """Return whether a batch shows nothing any more: it is deleted, evicted, or its time is over."""
    if batch.deleted_at is not None or batch.status == JobStatus.EXPIRED:
        return True
    return batch.expires_at is not None and batch.expires_at <= now


def _sources(session: Session, batch: Batch) -> list[SharedSource]:
    """Return the sources that have ready outputs. Only the columns that are shown are read."""
    rows = session.exec(
        select(  # type: ignore[call-overload]  # eleven columns
            Output.source_id,
            Source.name,
            Source.width,
            Source.height,
            Output.id,
            Output.name,
            Output.variation,
            Output.preset,
            Output.size_bytes,
            Output.duration_s,
            Output.poster,
        )
        .join(Source)
        .where(col(Output.batch_id) == batch.id, col(Output.state) == OutputState.READY)
        .order_by(col(Output.position))
    )
    by_source: dict[str, SharedSource] = {}
    for (
        source_id,
        source_name,
        width,
        height,
        id_,
        name,
        variation,
        preset,
        size_bytes,
        duration_s,
        poster,
    ) in rows:
        source = by_source.setdefault(
            source_id, SharedSource(name=source_name, width=width, height=height, outputs=[])
        )
        source.outputs.append(
            SharedOutput(
                output_id=id_,
                name=name,
                variation=variation,
                preset=preset,
                size_bytes=size_bytes,
                duration_s=duration_s,
                poster=poster is not None,
            )
        )
    return list(by_source.values())
