"""How much the bucket holds for us, as the rows tell it. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, case, func
from sqlmodel import Session, col, select

from control.domain import JobStatus
from control.errors import Code, ControlError
from control.tables import Batch, Job, Output, Source, Upload


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
    for found in (_results(), _sources()):
        for kind, size_bytes in session.exec(found):
            sums[kind] += int(size_bytes)  # PostgreSQL sums to a decimal
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


def is_used() -> ColumnElement[bool]:
    """Return the condition on a source: an output uses it, of a batch that nobody has deleted."""
    mine = select(Output.id).join(Batch).where(col(Output.source_id) == col(Source.id))
    return mine.where(col(Batch.deleted_at).is_(None)).correlate(Source).exists()


def sources_of(*batches: ColumnElement[bool]) -> Any:
    """Return the query of the sources of those batches: asked once, and not for each source."""
    ids = select(Batch.id).where(col(Batch.deleted_at).is_(None), *batches)
    return select(Output.source_id).where(col(Output.batch_id).in_(ids))


def _results() -> Any:
    is_going = (col(Batch.status) == JobStatus.EXPIRED) | col(Batch.deleted_at).is_not(None)
    kind = case((is_going, "going"), (col(Batch.ended_at).is_(None), "live"), else_="finished")
    stored = select(kind, func.sum(Job.stored_bytes)).join(Batch)
    return stored.where(col(Job.stored_bytes) > 0).group_by(kind)


def _sources() -> Any:
    in_use = col(Source.id).in_(sources_of(col(Batch.ended_at).is_(None)))
    is_live = in_use | ~is_used()
    kind = case((col(Source.deleted_at).is_not(None), "going"), (is_live, "live"), else_="finished")
    return select(kind, func.sum(Source.size_bytes)).where(col(Source.key) != "").group_by(kind)
