"""How much the bucket holds for us, as the rows tell it. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func
from sqlmodel import Session, col, select

from control.domain import JobStatus
from control.errors import Code, ControlError
from control.tables import Batch, Output, Source, Upload


@dataclass(frozen=True)
class Holdings:
    """Bytes by what may become of them."""

    live: int = 0  # of work that goes on, and of sources that nothing has used yet
    finished: int = 0  # of what has ended: kept for its time, evicted when room is short
    going: int = 0  # expired or deleted, and not yet gone
    coming: int = 0  # announced by uploads that are open

    @property
    def used(self) -> int:
        """What is stored."""
        return self.live + self.finished + self.going


def holdings(session: Session) -> Holdings:
    """Return what is held now."""
    sums = {"live": 0, "finished": 0, "going": 0}
    for found in (_outputs(), _sources()):
        for kind, size_bytes in session.exec(found):
            sums[kind] += size_bytes
    opened = select(func.sum(Upload.size_bytes)).where(col(Upload.state) == "open")
    return Holdings(**sums, coming=session.exec(opened).one() or 0)


def require_space(session: Session, cap_bytes: int, *, more_bytes: int = 1) -> None:
    """Raise ControlError storage_full when so much more would not fit even with every old result evicted."""
    held = holdings(session)
    if held.live + held.coming + more_bytes > cap_bytes:
        raise ControlError(
            Code.STORAGE_FULL,
            f"The storage is full of work that goes on ({held.live + held.coming} of {cap_bytes} bytes). "
            "Try again when some of it has ended, or delete what you do not need.",
        )


def uses() -> ColumnElement[bool]:
    """Return the condition that an output uses a source, and a batch that nobody has deleted holds it."""
    return and_(
        col(Output.source_id) == col(Source.id),
        col(Output.batch_id) == col(Batch.id),
        col(Batch.deleted_at).is_(None),
    )


def _outputs() -> Any:
    is_going = (col(Batch.status) == JobStatus.EXPIRED) | col(Batch.deleted_at).is_not(None)
    kind = case((is_going, "going"), (col(Batch.ended_at).is_(None), "live"), else_="finished")
    sizes = [
        col(Output.size_bytes),
        col(Output.playlist)["size_bytes"].as_integer(),
        col(Output.poster)["size_bytes"].as_integer(),
    ]
    size = sum((func.coalesce(each, 0) for each in sizes[1:]), func.coalesce(sizes[0], 0))
    stored = select(kind, func.sum(size)).join(Batch, col(Batch.id) == col(Output.batch_id))
    return stored.where(col(Output.key).is_not(None)).group_by(kind)


def _sources() -> Any:
    used = select(Output.id).where(uses()).correlate(Source)
    is_live = used.where(col(Batch.ended_at).is_(None)).exists() | ~used.exists()
    kind = case((col(Source.deleted_at).is_not(None), "going"), (is_live, "live"), else_="finished")
    return select(kind, func.sum(Source.size_bytes)).where(col(Source.key) != "").group_by(kind)
