"""What a download holds: the members of the ZIP and its manifest (contract, section 5). Reads rows only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlmodel import Session, col, select

from control import names
from control.archive import Archive, Member, literal
from control.domain import JobStatus, OutputState
from control.errors import Code, ControlError
from control.tables import Attempt, Batch, Job, Output


def archive(session: Session, batch: Batch, jobs: Sequence[Job]) -> tuple[Archive, Mapping[str, Output]]:
    """Return the ZIP of what these jobs have ready, and its outputs by the name of their member's source.

    Raises ControlError: not_ready while there is nothing, expired.
    """
    require_kept(batch)
    mine = col(Output.job_id).in_([job.id for job in jobs])
    outputs = session.exec(select(Output).where(mine).order_by(col(Output.position))).all()
    ready = [output for output in outputs if output.state == OutputState.READY]
    if not ready:
        raise ControlError(Code.NOT_READY, "Nothing is ready yet. Look at the job's progress and try later.")
    members = [_member(output) for output in ready]
    members.append(literal(names.RESERVED, _manifest(session, batch, outputs)))
    modified_at = max(output.ready_at for output in ready if output.ready_at)
    return Archive(members, modified_at=modified_at), {output.id: output for output in ready}


def require_kept(batch: Batch) -> None:
    """Raise ControlError expired when the batch's files are gone, or about to go."""
    if batch.status == JobStatus.EXPIRED:
        raise ControlError(Code.EXPIRED, "This has expired: its files are gone. Submit the videos again.")


def _member(output: Output) -> Member:
    size_bytes, crc32 = output.size_bytes, output.crc32
    assert size_bytes is not None, "a ready output has its size"
    assert crc32 is not None, "a ready output has its CRC"
    return Member(name=output.name, size_bytes=size_bytes, crc32=crc32, source=output.id)


def _manifest(session: Session, batch: Batch, outputs: Sequence[Output]) -> bytes:
    ids = {output.attempt_id for output in outputs if output.attempt_id}
    rows = session.exec(select(Attempt).where(col(Attempt.id).in_(ids))).all()
    attempts = {attempt.id: attempt for attempt in rows}
    content = {
        "batch_id": batch.id,
        "seed": batch.seed,
        "image": max(rows, key=lambda attempt: attempt.created_at).image,  # each output names its own
        "created_at": _rfc3339(batch.created_at),
        "outputs": [_entry(output, attempts.get(output.attempt_id or "")) for output in outputs],
    }
    return json.dumps(content, indent=1, ensure_ascii=False).encode()


def _entry(output: Output, attempt: Attempt | None) -> dict[str, Any]:
    error = {"code": output.error_code, "message": output.error_message} if output.error_code else None
    return {
        "file": output.name,
        "output_id": output.id,
        "source_id": output.source_id,
        "variation": output.variation,
        "status": output.state,
        "size_bytes": output.size_bytes,
        "sha256": output.sha256,
        "duration_s": output.duration_s,
        "effects": output.effects,
        "ffmpeg_args": output.ffmpeg_args,
        "image": attempt.image if attempt else None,
        "attempt_id": attempt.id if attempt else None,
        "machine_id": attempt.machine_id if attempt else None,
        "error": error,
    }


def _rfc3339(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
