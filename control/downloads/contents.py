"""The content of a download: the members of the ZIP and its manifest. Only reads rows.

When a job or batch ends, its archive is frozen: only a retry may change it, because an interrupted download
is resumed at any byte. The layout of 10,000 outputs takes a second of CPU. So the size and ETag are stored in
the row, and most requests need nothing else.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, select

from control.domain import filenames
from control.domain.errors import Code, ControlError
from control.domain.states import JobStatus, OutputState
from control.downloads.zip_layout import Archive, Member, literal
from control.store.files import StoredFile, files_of
from control.store.tables import Attempt, Batch, Job, Output, Source
from control.views.batches import data_of
from runner.contract import Effects

ROWS_AT_ONCE = 200

_COLUMNS = (
    *(
        "file",
        "status",
        "output_id",
        "source_id",
        "variation",
        "preset",
        "size_bytes",
        "sha256",
        "duration_s",
    ),
    *Effects.model_fields,
    *("image", "attempt_id", "machine_id", "error_code", "error_message"),
)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a client learns of a ZIP before its bytes."""

    size_bytes: int
    tag: str | None  # the ETag without quotes; None while the archive still grows


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A job or batch whose ZIP was asked for, from its row."""

    table: type[Job | Batch]
    id: str
    zip_name: str
    chosen: frozenset[int] | None  # positions of the outputs that are wanted; None: all
    ended_at: datetime | None  # the archive is frozen from then on; a new end makes a new archive
    expires_at: datetime | None  # None while its batch is live
    facts: Facts | None  # None: there was no layout since its end


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The ZIP of a job or batch: enough to produce any of its bytes."""

    archive: Archive
    files: Mapping[str, StoredFile]  # by member name
    facts: Facts


def asked(
    session: Session, subject: Job | Batch, *, now: datetime, chosen: frozenset[int] | None = None
) -> Asked:
    """Return what is known of a ZIP without its layout. Raises ControlError expired, not_ready."""
    batch = _batch(session, subject)
    require_kept(batch, now=now)
    facts = None
    if chosen is None and subject.ended_at and subject.zip_tag and subject.zip_bytes is not None:
        facts = Facts(size_bytes=subject.zip_bytes, tag=subject.zip_tag)
    elif not _is_any_ready(session, subject, chosen):
        later = "Nothing is ready yet. Look at the job's progress and try later."
        why = "Nothing was made, so there is nothing to download. Retry it." if subject.ended_at else later
        raise ControlError(Code.NOT_READY, why)
    return Asked(
        table=type(subject),
        id=subject.id,
        zip_name=filenames.zip_name(batch.name, subject.id),
        chosen=chosen,
        ended_at=subject.ended_at,
        expires_at=batch.expires_at,
        facts=facts,
    )


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
    session: Session, subject: Job | Batch, *, now: datetime, chosen: frozenset[int] | None = None
) -> Layout:
    """Return the ZIP of what a job or batch has ready, or of the chosen outputs of it.

    Raises ControlError expired, not_ready.
    """
    asked(session, subject, now=now, chosen=chosen)
    jobs = _jobs(session, subject)
    attempts = _attempts(session, jobs)
    files: dict[str, StoredFile] = {}
    ready_at: list[datetime] = []
    entries: list[str] = []
    source_ids: dict[str, None] = {}  # in order
    rows = io.StringIO()
    table = csv.writer(rows, lineterminator="\r\n")  # RFC 4180
    table.writerow(_COLUMNS)
    for output in _outputs(session, jobs):
        if chosen is not None and output.position not in chosen:
            continue
        entry = _entry(output, attempts.get(output.attempt_id or ""))
        entries.append(json.dumps(entry, ensure_ascii=False))
        source_ids[output.source_id] = None
        table.writerow(_row(entry))
        if output.state == OutputState.READY and output.ready_at is not None:
            files |= files_of(output)
            ready_at.append(output.ready_at)
    batch = _batch(session, subject)
    manifest = _manifest(batch, _sources(session, batch, source_ids), attempts, entries)
    archive = Archive(
        [
            *(_member(name, file) for name, file in files.items()),
            literal(filenames.TABLE, rows.getvalue().encode()),
            literal(filenames.MANIFEST, manifest),
        ],
        modified_at=max(ready_at),
    )
    tag = hashlib.sha256(archive.directory + manifest).hexdigest()[:32] if subject.ended_at else None
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
    if isinstance(subject, Job):
        return [subject]
    return session.exec(select(Job).where(col(Job.batch_id) == subject.id)).all()


def _attempts(session: Session, jobs: Sequence[Job]) -> Mapping[str, Attempt]:
    """Return the attempts of these jobs that a machine has claimed: only these can have made outputs."""
    mine = select(Attempt).where(col(Attempt.job_id).in_([job.id for job in jobs]))
    claimed = mine.where(col(Attempt.claimed_by).is_not(None)).order_by(col(Attempt.created_at))
    return {attempt.id: attempt for attempt in session.exec(claimed)}


def _outputs(session: Session, jobs: Sequence[Job]) -> Iterable[Output]:
    """Return the outputs of these jobs in order, a few at a time: 10,000 rows at once would take 100 MB."""
    mine = select(Output).where(col(Output.job_id).in_([job.id for job in jobs]))
    return session.exec(mine.order_by(col(Output.position)).execution_options(yield_per=ROWS_AT_ONCE))


def _member(name: str, file: StoredFile) -> Member:
    return Member(name=name, size_bytes=file.size_bytes, crc32=file.crc32, source=file.key)


def _sources(session: Session, batch: Batch, ids: Collection[str]) -> list[dict[str, Any]]:
    """Return the sources of these ids, in their order, with the caller's own data."""
    data = data_of(session, batch)
    names = dict(session.exec(select(Source.id, Source.name).where(col(Source.id).in_(ids))).all())
    return [{"source_id": id_, "name": names[id_], "data": data.get(id_)} for id_ in ids]


def _manifest(
    batch: Batch,
    sources: Sequence[Mapping[str, Any]],
    attempts: Mapping[str, Attempt],
    entries: Sequence[str],
) -> bytes:
    head = {
        "batch_id": batch.id,
        "name": batch.name,
        "seed": batch.seed,
        "variations": batch.variations,
        "preset": batch.preset,
        "without": batch.without,
        "strength": batch.strength,
        "quality": batch.quality,
        "frame_rate": batch.frame_rate,
        "image": list(attempts.values())[-1].image,  # of the newest attempt; each output names its own
        "created_at": _rfc3339(batch.created_at),
        "sources": sources,
    }
    opened = json.dumps(head, ensure_ascii=False).removesuffix("}")
    return (opened + ', "outputs": [\n' + ",\n".join(entries) + "\n]}\n").encode()


def _entry(output: Output, attempt: Attempt | None) -> dict[str, Any]:
    error = {"code": output.error_code, "message": output.error_message} if output.error_code else None
    return {
        "file": output.name,
        "output_id": output.id,
        "source_id": output.source_id,
        "variation": output.variation,
        "preset": output.preset,
        "status": output.state,
        "size_bytes": output.size_bytes,
        "sha256": output.sha256,
        "duration_s": output.duration_s,
        "effects": output.effects,
        "files": _files(output) if output.playlist else None,
        "ffmpeg_args": output.ffmpeg_args,
        "image": attempt.image if attempt else None,
        "attempt_id": attempt.id if attempt else None,
        "machine_id": attempt.claimed_by if attempt else None,
        "error": error,
    }


def _row(entry: Mapping[str, Any]) -> list[object]:
    """Return an output's row of the table. What a spreadsheet would run as a formula becomes text."""
    error = entry["error"] or {}
    flat = {
        **entry,
        **entry["effects"],
        "error_code": error.get("code"),
        "error_message": error.get("message"),
    }
    values = [flat.get(column) for column in _COLUMNS]
    return [
        f"'{v}" if isinstance(v, str) and v.startswith(("=", "+", "-", "@", "\t", "\r")) else v
        for v in values
    ]


def _files(output: Output) -> list[dict[str, Any]]:
    return [
        {"file": name, "size_bytes": file.size_bytes, "sha256": file.sha256}
        for name, file in files_of(output).items()
    ]


def _rfc3339(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
