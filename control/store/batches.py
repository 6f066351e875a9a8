"""The write that everything starts with: a batch, its jobs and outputs, in one transaction."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import func
from sqlmodel import col, select

from control.domain import JobStatus, OutputState
from control.errors import Code, ControlError
from control.fit import Load, needed_bytes, smallest_size
from control.ids import new_id
from control.plan import PlannedBatch
from control.store.transaction import Store, Transaction
from control.tables import Batch, IdempotencyKey, Job, Output, Source

IDEMPOTENCY_LIFE = timedelta(hours=24)


def submit(store: Store, planned: PlannedBatch, *, key: str | None = None, request_sha256: str = "") -> str:
    """Store a batch with its jobs and outputs and return its id. Nothing is started yet.

    With an Idempotency-Key that was used for the same request, return the first batch's id instead.
    Raises ControlError: conflict (the key came with another request), source_gone, queue_full, invalid (it
    fits no allowed machine).
    """
    with store.transaction() as tx:
        if key is not None and (first := _first_use(tx, key, request_sha256)):
            return first
        _require_sources(tx, planned)
        _require_room(tx, planned)
        batch = _add_batch(tx, planned)
        for position in range(len(planned.jobs)):
            _add_job(tx, batch, planned, position)
        if key is not None:
            tx.session.add(
                IdempotencyKey(key=key, request_sha256=request_sha256, batch_id=batch.id, created_at=tx.now)
            )
        return batch.id


def _first_use(tx: Transaction, key: str, request_sha256: str) -> str | None:
    first = tx.session.get(IdempotencyKey, key)
    if first is not None and first.created_at <= tx.now - IDEMPOTENCY_LIFE:
        tx.session.delete(first)
        tx.session.flush()
        return None
    if first is not None and first.request_sha256 != request_sha256:
        raise ControlError(Code.CONFLICT, "This Idempotency-Key was used for another request.")
    return first.batch_id if first else None


def _require_sources(tx: Transaction, planned: PlannedBatch) -> None:
    wanted = {output.source_id for job in planned.jobs for output in job}
    alive = select(Source.id).where(col(Source.id).in_(wanted), col(Source.deleted_at).is_(None))
    if gone := wanted - set(tx.session.exec(alive).all()):
        raise ControlError(Code.SOURCE_GONE, f"Source {min(gone)} has been deleted. Upload the video again.")


def _require_room(tx: Transaction, planned: PlannedBatch) -> None:
    queued = select(func.count()).select_from(Output).where(col(Output.state) == OutputState.QUEUED)
    waiting = tx.session.exec(queued).one()
    if waiting + planned.outputs_count > tx.settings.queue_outputs_max:
        raise ControlError(
            Code.QUEUE_FULL,
            f"{waiting} outputs are waiting already. Try again when some are done.",
            headers={"Retry-After": "60"},
        )


def _add_batch(tx: Transaction, planned: PlannedBatch) -> Batch:
    batch = Batch(
        id=new_id("bat"),
        seed=planned.seed,
        variations=planned.variations,
        status=JobStatus.QUEUED,
        created_at=tx.now,
    )
    tx.session.add(batch)
    tx.session.flush()
    return batch


def _fitting_size(tx: Transaction, planned: PlannedBatch, position: int) -> str:
    """Return the smallest allowed machine that a job's sources fit. Raises ControlError(INVALID)."""
    wanted = {output.source_id for output in planned.jobs[position]}
    sources = tx.session.exec(select(Source).where(col(Source.id).in_(wanted))).all()
    needed = needed_bytes(
        Load(size_bytes=s.size_bytes, duration_s=s.duration_s, width=s.width, height=s.height)
        for s in sources
    )
    size = smallest_size(needed, tx.settings.runner_sizes)
    if size is None:
        name = max(sources, key=lambda source: source.size_bytes).name
        raise ControlError(
            Code.INVALID,
            f"{name!r} needs a machine with {needed / 2**30:.1f} GiB of memory, and of the allowed sizes"
            f" ({', '.join(tx.settings.runner_sizes)}) none has. Send a smaller or shorter video.",
        )
    return size


def _add_job(tx: Transaction, batch: Batch, planned: PlannedBatch, position: int) -> None:
    job = Job(
        id=new_id("job"),
        batch_id=batch.id,
        position=position,
        status=JobStatus.QUEUED,
        attempts_max=tx.settings.attempts_max,
        size=_fitting_size(tx, planned, position),
        not_before=tx.now,
        created_at=tx.now,
    )
    tx.session.add(job)
    tx.session.flush()
    before = sum(len(earlier) for earlier in planned.jobs[:position])
    tx.session.add_all(
        Output(
            id=output.output_id,
            batch_id=batch.id,
            job_id=job.id,
            source_id=output.source_id,
            position=before + index,
            variation=output.variation,
            name=output.name,
            effects=output.effects.model_dump(),
            state=OutputState.QUEUED,
        )
        for index, output in enumerate(planned.jobs[position])
    )
    tx.event("submitted", job)
