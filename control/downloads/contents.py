"""The content of a download: the members of the ZIP. Only reads rows.

When a job or batch ends, its archive is frozen: only a retry may change it, because an interrupted download
is resumed at any byte. The layout of 10,000 outputs takes a second of CPU. So the size and ETag are stored in
the row, and most requests need nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, func, select

from control.domain import filenames
from control.domain.errors import Code, ControlError
from control.domain.states import JobStatus, OutputState
from control.downloads.manifest import Manifest
from control.downloads.zip_layout import Archive, Member, literal
from control.store.arguments import arguments_of
from control.store.files import StoredFile, files_of
from control.store.rows import attempts_of, data_of, jobs_of, outputs_of
from control.store.tables import Attempt, Batch, Job, Output, Source

ROWS_AT_ONCE = 200


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The facts of a ZIP that a client gets before its bytes."""

    size_bytes: int
    tag: str | None  # the ETag without quotes; None while the archive still grows


@dataclass(frozen=True, kw_only=True)
class ZipRequest:
    """A job or batch whose ZIP was requested, from its row."""

    table: type[Job | Batch]
    id: str
    zip_name: str
    chosen: frozenset[int] | None  # positions of the requested outputs; None: all
    ended_at: datetime | None  # the archive is frozen from then on; a new end makes a new archive
    expires_at: datetime | None  # None while its batch is live
    facts: Facts | None  # None: there was no layout since its end
    is_shared: bool = False  # by a share link: without the manifests, which tell more than it may show


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The ZIP of a job or batch: enough to produce any of its bytes."""

    archive: Archive
    files: Mapping[str, StoredFile]  # by member name
    facts: Facts


def zip_request(
    session: Session,
    subject: Job | Batch,
    *,
    now: datetime,
    chosen: frozenset[int] | None = None,
    is_shared: bool = False,
) -> ZipRequest:
    """Return the facts of a ZIP that need no layout. Raises ControlError expired, not_ready."""
    batch = _batch(session, subject)
    require_kept(batch, now=now)
    facts, is_whole = None, chosen is None and not is_shared
    if is_whole and subject.ended_at and subject.zip_tag and subject.zip_bytes is not None:
        facts = Facts(size_bytes=subject.zip_bytes, tag=subject.zip_tag)
    elif not _is_any_ready(session, subject, chosen):
        later = "Nothing is ready yet. Look at the job's progress and try later."
        why = "Nothing was made, so there is nothing to download. Retry it." if subject.ended_at else later
        raise ControlError(Code.NOT_READY, why)
    return ZipRequest(
        table=type(subject),
        id=subject.id,
        zip_name=filenames.zip_name(batch.name or _called_by_sources(session, subject)),
        chosen=chosen,
        ended_at=subject.ended_at,
        expires_at=batch.expires_at,
        facts=facts,
        is_shared=is_shared,
    )


def _called_by_sources(session: Session, subject: Job | Batch) -> str:
    """Return a name for a job or batch without one: its first source, and how many more there are."""
    mine = col(Output.batch_id if isinstance(subject, Batch) else Output.job_id) == subject.id
    sources = select(Source.name).join(Output, col(Output.source_id) == Source.id).where(mine)
    first = session.exec(sources.order_by(col(Output.position)).limit(1)).one()
    more = session.exec(select(func.count(col(Output.source_id).distinct())).where(mine)).one() - 1
    return filenames.stem(first) + (f" and {more} more" if more else "")


def positions(session: Session, subject: Job | Batch, output_ids: Collection[str]) -> frozenset[int]:
    """Return the positions of these outputs of a job or batch. Raises ControlError not_found."""
    own = Output.batch_id if isinstance(subject, Batch) else Output.job_id
    mine = select(Output.id, Output.position).where(col(own) == subject.id)
    known = dict(session.exec(mine.where(col(Output.id).in_(set(output_ids)))).all())
    if missing := set(output_ids) - set(known):
        noun = type(subject).__name__.lower()
        raise ControlError(Code.NOT_FOUND, f"This {noun} has no output {min(missing)}.")
    return frozenset(known.values())


def laid_out(
    session: Session,
    subject: Job | Batch,
    *,
    now: datetime,
    chosen: frozenset[int] | None = None,
    is_shared: bool = False,
) -> Layout:
    """Return the ZIP of the ready outputs of a job or batch, or of the chosen ones.

    With `is_shared` it has no manifests. Raises ControlError expired, not_ready.
    """
    zip_request(session, subject, now=now, chosen=chosen)
    jobs = _jobs(session, subject)
    manifest = Manifest(_claimed(session, jobs))
    files: dict[str, StoredFile] = {}
    ready_at: list[datetime] = []
    source_ids: dict[str, None] = {}  # in order
    for output, packed in outputs_of(session, jobs, rows_at_once=ROWS_AT_ONCE):
        if chosen is not None and output.position not in chosen:
            continue
        manifest.add(output, arguments_of(output, packed))
        source_ids[output.source_id] = None
        if output.state == OutputState.READY and output.ready_at is not None:
            files |= files_of(output)
            ready_at.append(output.ready_at)
    batch = _batch(session, subject)
    document = manifest.document(batch, _sources(session, batch, source_ids))
    manifests = [literal(filenames.TABLE, manifest.table()), literal(filenames.MANIFEST, document)]
    members = [*(_member(name, file) for name, file in files.items()), *([] if is_shared else manifests)]
    archive = Archive(members, modified_at=max(ready_at))
    tag = hashlib.sha256(archive.directory + document).hexdigest()[:32] if subject.ended_at else None
    return Layout(archive=archive, files=files, facts=Facts(size_bytes=archive.size_bytes, tag=tag))


def require_kept(batch: Batch, *, now: datetime) -> None:
    """Raise ControlError expired if the files of a batch are deleted or about to be deleted."""
    if batch.status == JobStatus.EXPIRED or (batch.expires_at is not None and batch.expires_at <= now):
        raise ControlError(Code.EXPIRED, "The results have expired. Upload the videos and submit them again.")


def _batch(session: Session, subject: Job | Batch) -> Batch:
    return subject if isinstance(subject, Batch) else session.get_one(Batch, subject.batch_id)


def _is_any_ready(session: Session, subject: Job | Batch, chosen: frozenset[int] | None) -> bool:
    own = Output.batch_id if isinstance(subject, Batch) else Output.job_id
    ready = select(Output.position).where(col(own) == subject.id, col(Output.state) == OutputState.READY)
    if chosen is not None:
        return not chosen.isdisjoint(session.exec(ready).all())
    return session.exec(ready.limit(1)).first() is not None


def _jobs(session: Session, subject: Job | Batch) -> Sequence[Job]:
    return [subject] if isinstance(subject, Job) else jobs_of(session, [subject.id])


def _claimed(session: Session, jobs: Sequence[Job]) -> Mapping[str, Attempt]:
    """Return the attempts of these jobs that a machine has claimed: only these can have made outputs."""
    return {attempt.id: attempt for attempt in attempts_of(session, jobs) if attempt.claimed_by is not None}


def _member(name: str, file: StoredFile) -> Member:
    return Member(name=name, size_bytes=file.size_bytes, crc32=file.crc32, source=file.key)


def _sources(session: Session, batch: Batch, ids: Collection[str]) -> list[dict[str, Any]]:
    """Return the sources of these ids, in their order, with the caller's own data."""
    data = data_of(session, batch)
    names = dict(session.exec(select(Source.id, Source.name).where(col(Source.id).in_(ids))).all())
    return [{"source_id": id_, "name": names[id_], "data": data.get(id_)} for id_ in ids]
