"""Outputs counted by job, source and state: one query for single batches, lists and event streams."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import ColumnElement, String, and_, cast, func
from sqlalchemy.orm import defer
from sqlmodel import Session, col, select

from control.domain.states import OutputState
from control.store.tables import Output, Source

UNKNOWN_WORK = 15.0 * 1080 * 1920  # assumed pixel-seconds of a video that only its runner has probed


@dataclass(frozen=True)
class Tally:
    """The progress of some outputs: counts, and work in pixel-seconds, in which large ones count more."""

    ready: int = 0
    failed: int = 0
    total: int = 0
    work: float = 0.0
    done: float = 0.0  # the finished work; a failed output is finished, one of a refused file no work
    size_bytes: int = 0  # of the ready ones

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            ready=self.ready + other.ready,
            failed=self.failed + other.failed,
            total=self.total + other.total,
            work=self.work + other.work,
            done=self.done + other.done,
            size_bytes=self.size_bytes + other.size_bytes,
        )

    @property
    def percent(self) -> float:
        """The share of the work that is done. Where all files were refused, nothing is left to do."""
        if not self.work:
            return 100.0 if self.failed else 0.0
        return round(100 * self.done / self.work, 1)


@dataclass(frozen=True)
class Count:
    """The outputs of one job and source in one state."""

    source: Source
    state: OutputState
    tally: Tally
    position: int  # of the first of them


class Poster(NamedTuple):
    """An output that has a poster. They sort by their place in the batch."""

    position: int
    output_id: str
    source_id: str


def tally(source: Source, state: str, percents: float, count: int = 1, size_bytes: int = 0) -> Tally:
    """Return the tally of `count` outputs of a source in one state, their percents summed."""
    if source.refusal is not None:  # no video: its work would be a guess, and done from the start
        return Tally(failed=count, total=count)
    each = source.duration_s * source.width * source.height or UNKNOWN_WORK
    work = each * count
    match state:
        case OutputState.READY:
            return Tally(ready=count, total=count, work=work, done=work, size_bytes=size_bytes)
        case OutputState.FAILED:
            return Tally(failed=count, total=count, work=work, done=work)
        case _:
            return Tally(total=count, work=work, done=each * percents / 100)


def counts(session: Session, outputs: ColumnElement[bool]) -> Mapping[str, Sequence[Count]]:
    """Return the counts of each job among these outputs, in the order of the batch. Others have none."""
    first, size_bytes = func.min(Output.position), func.sum(Output.size_bytes)
    rows = (
        select(  # type: ignore[call-overload]  # seven columns
            Output.job_id, Source, Output.state, func.sum(Output.percent), func.count(), size_bytes, first
        )
        .join(Source)
        .where(outputs)
        .group_by(col(Output.job_id), col(Source.id), col(Output.state))
        .order_by(first)
        .options(defer(Source.url))  # type: ignore[arg-type]  # 8 kB in each of the rows that are sorted
    )
    found: dict[str, list[Count]] = defaultdict(list)
    for job_id, source, state, percents, number, held_bytes, position in session.exec(rows):
        each = tally(source, state, percents, number, int(held_bytes or 0))
        found[job_id].append(Count(source, OutputState(state), each, position))
    return found


def by_source(counts: Iterable[Count]) -> Mapping[str, Sequence[Count]]:
    """Return these counts by the id of their source, in the order of the sources."""
    found: dict[str, list[Count]] = defaultdict(list)
    for count in counts:
        found[count.source.id].append(count)
    return found


def total(counts: Iterable[Count]) -> Tally:
    """Return the tally of all these outputs."""
    return sum((count.tally for count in counts), Tally())


def posters(session: Session, outputs: ColumnElement[bool]) -> Mapping[str, Sequence[Poster]]:
    """Return the first of these outputs with a poster of each source, for each job that has one."""
    firsts = (
        select(Output.job_id, func.min(Output.position).label("position"))
        .where(outputs, _has_poster())
        .group_by(col(Output.job_id), col(Output.source_id))
        .subquery()
    )
    is_first = and_(col(Output.job_id) == firsts.c.job_id, col(Output.position) == firsts.c.position)
    columns = select(Output.job_id, Output.position, Output.id, Output.source_id)
    found: dict[str, list[Poster]] = defaultdict(list)
    for job_id, position, id_, source_id in session.exec(columns.join(firsts, is_first)):
        found[job_id].append(Poster(position, id_, source_id))
    return found


def _has_poster() -> ColumnElement[bool]:
    """Return the condition of a ready output with a poster: a JSON column holds `null` where it has none."""
    return (col(Output.state) == OutputState.READY) & (cast(col(Output.poster), String) != "null")
