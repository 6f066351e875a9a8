"""How much space of the bucket is used and reserved, according to the rows. Only reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Executable, bindparam, case, func
from sqlmodel import Session, col, select
from sqlmodel.sql.sqltypes import UTCDateTime

from control.domain.amounts import in_words
from control.domain.errors import Code, ControlError
from control.domain.states import JobStatus
from control.settings import Settings
from control.store.prepared import Moment, Prepared
from control.store.tables import Batch, Job, Output, Source, Upload

_KEPT_SINCE = bindparam("kept_since", type_=UTCDateTime())
SPARE = timedelta(hours=1)  # how long a source stays after the last batch that used it


@dataclass(frozen=True)
class Holdings:
    """Bytes by whether they can be evicted."""

    live: int = 0  # results of live batches, and sources that are in use or not used yet
    kept: int = 0  # of batches that ended less than EVICT_GRACE_S ago: users need time to download them
    finished: int = 0  # of batches that ended before: kept until they expire or space is short
    going: int = 0  # expired or deleted, but still in the bucket
    coming: int = 0  # announced by open uploads, and the most that live jobs may still store

    @property
    def used(self) -> int:
        """All bytes that are stored."""
        return self.live + self.kept + self.finished + self.going

    @property
    def fixed(self) -> int:
        """Bytes that are stored or reserved and cannot be evicted."""
        return self.live + self.kept + self.coming


def holdings(session: Session, settings: Settings, now: datetime) -> Holdings:
    """Return the stored and the reserved bytes."""
    session.flush()
    connection = session.connection()
    sums = {"live": 0, "kept": 0, "finished": 0, "going": 0}
    grace = timedelta(seconds=settings.evict_grace_s)
    results = _results.rows(connection, now, kept_since=now - grace)
    sources = _sources.rows(connection, now, kept_since=now - max(grace, SPARE))
    for kind, size_bytes in (*results, *sources):
        sums[kind] += int(size_bytes)  # PostgreSQL sums to a decimal
    [(opened,)], [(to_be_made,)] = _opened.rows(connection, now), _to_be_made.rows(connection, now)
    return Holdings(**sums, coming=int(opened or 0) + math.ceil(to_be_made or 0))


def fits(session: Session, settings: Settings, now: datetime, more_bytes: float) -> bool:
    """Return whether `more_bytes` fit beside all that cannot be evicted."""
    return holdings(session, settings, now).fixed + more_bytes <= settings.storage_cap_bytes


def require_space(session: Session, settings: Settings, now: datetime, *, more_bytes: float) -> None:
    """Raise ControlError storage_full if `more_bytes` do not fit, even with all old results evicted.

    Call it in the transaction that then reserves the space: only so are concurrent callers counted.
    """
    cap_bytes, fixed_bytes = settings.storage_cap_bytes, holdings(session, settings, now).fixed
    if fixed_bytes + more_bytes > cap_bytes:
        raise ControlError(
            Code.STORAGE_FULL,
            f"The storage has no room for this: it may take {in_words(math.ceil(more_bytes))} more, and of "
            f"{in_words(cap_bytes)} {in_words(fixed_bytes)} are taken by running work, open uploads and "
            "results that ended lately. Ask for less, delete what you do not need, or try again later.",
        )


def is_used() -> ColumnElement[bool]:
    """Return the SQL condition on a source: an output of a batch that is not deleted uses it."""
    mine = select(Output.id).join(Batch).where(col(Output.source_id) == col(Source.id))
    return mine.where(col(Batch.deleted_at).is_(None)).correlate(Source).exists()


def sources_of(*batches: ColumnElement[bool]) -> Any:
    """Return the query of the sources of these batches. It does not depend on a source: it runs only once."""
    ids = select(Batch.id).where(col(Batch.deleted_at).is_(None), *batches)
    return select(Output.source_id).where(col(Output.batch_id).in_(ids))


@Prepared
def _opened(_: Moment) -> Executable:
    return select(func.sum(Upload.size_bytes)).where(col(Upload.state) == "open")


@Prepared
def _results(_: Moment) -> Executable:
    is_going = (col(Batch.status) == JobStatus.EXPIRED) | col(Batch.deleted_at).is_not(None)
    kind = case(
        (is_going, "going"),
        (col(Batch.ended_at).is_(None), "live"),
        (col(Batch.ended_at) > _KEPT_SINCE, "kept"),
        else_="finished",
    )
    stored = select(kind, func.sum(col(Job.stored_bytes) + col(Job.stray_bytes))).join(Batch)
    return stored.where(has_files()).group_by(kind)


def has_files() -> ColumnElement[bool]:
    """Return the SQL condition on a job: it has files in the bucket."""
    return (col(Job.stored_bytes) > 0) | (col(Job.stray_bytes) > 0)


@Prepared
def _to_be_made(_: Moment) -> Executable:
    """Return the query of the most that live jobs may still store, by the planner's bound."""
    left = func.coalesce(col(Job.room_bytes), col(Job.egress_bytes_max)) - col(Job.stored_bytes)
    return select(func.sum(case((left > 0, left), else_=0))).where(col(Job.ended_at).is_(None))


@Prepared
def _sources(_: Moment) -> Executable:
    in_use = col(Source.id).in_(sources_of(col(Batch.ended_at).is_(None)))
    used_lately = col(Source.id).in_(sources_of(col(Batch.ended_at) > _KEPT_SINCE))
    kind = case(
        (col(Source.deleted_at).is_not(None), "going"),
        (in_use | ~is_used(), "live"),
        (used_lately, "kept"),
        else_="finished",
    )
    return select(kind, func.sum(Source.size_bytes)).where(col(Source.key) != "").group_by(kind)
