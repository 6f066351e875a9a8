"""Stores a submitted batch with its jobs and outputs, in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Executable, bindparam, func
from sqlmodel import col, select

from control.domain import states
from control.domain.errors import Code, ControlError, source_gone
from control.domain.ids import new_id
from control.domain.states import JobStatus, OutputState
from control.planning.planner import PlannedBatch, PlannedOutput
from control.store import idempotency, webhooks
from control.store.budget import require_money
from control.store.prepared import Moment, Prepared
from control.store.tables import Batch, Delivery, Job, Output, Source, SourceData, Upload
from control.store.transaction import Store, Transaction
from control.store.usage import require_space
from runner.contract import OutputFault

_LIVE = sorted(set(JobStatus) - states.ENDED)


def submit(
    store: Store,
    planned: PlannedBatch,
    *,
    key: str | None = None,
    request_sha256: str = "",
    deliveries: Mapping[str, Sequence[str]] | None = None,
    webhook: tuple[str, str] | None = None,
    arrived: Sequence[Source] = (),
    data: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Store a batch with its jobs and outputs and return its id. Nothing is started yet.

    `arrived` are the sources that come with the request and are stored too: files of a form, whose uploads
    become completed, and users' URLs. `deliveries` are, by source, URLs of a user, one for each output in
    order: the output is also PUT there. `data` is the caller's own, by source. `webhook` is what was posted
    (job or batch) and the URL to call at its end. If `key`, the Idempotency-Key, was used before for the same
    request, nothing is stored and the id of the first batch is returned.
    Raises ControlError: conflict (the key came with another request), source_gone, queue_full, storage_full,
    budget_exceeded.
    """
    with store.transaction() as tx:
        if first := idempotency.first_use(tx.session, key, request_sha256, tx.now):
            return first
        _add_sources(tx, arrived)
        _require_sources(tx, planned)
        _require_room(tx, planned)
        require_space(tx.session, tx.settings, tx.now, more_bytes=planned.room_bytes)
        require_money(tx, planned)
        batch = _add_batch(tx, planned)
        _add_data(tx, batch, data or {})
        if webhook is not None:
            webhooks.ask(tx, batch, *webhook)
        places = _places(planned)
        for position in range(len(planned.jobs)):
            _add_job(tx, batch, planned, position, places)
        _add_deliveries(tx, batch, deliveries or {})
        _fail_refused(tx, batch, arrived)
        if key is not None:
            idempotency.note(tx, key, request_sha256, batch.id)
        return batch.id


def _add_sources(tx: Transaction, arrived: Sequence[Source]) -> None:
    tx.session.add_all(arrived)
    stored = {source.key: source.id for source in arrived if source.key}
    for upload in tx.session.load(Upload, _with_keys, keys=list(stored)):
        if upload.state != "open":
            raise ControlError(Code.SOURCE_GONE, f"The video {upload.name!r} is gone. Send it again.")
        upload.state, upload.source_id = "completed", stored[upload.key]


@Prepared
def _with_keys(_: Moment) -> Executable:
    return select(Upload).where(col(Upload.key).in_(bindparam("keys", expanding=True)))


def _add_data(tx: Transaction, batch: Batch, data: Mapping[str, Mapping[str, Any]]) -> None:
    tx.session.add_all(
        SourceData(batch_id=batch.id, source_id=source_id, data=dict(own)) for source_id, own in data.items()
    )


def _add_deliveries(tx: Transaction, batch: Batch, deliveries: Mapping[str, Sequence[str]]) -> None:
    if not deliveries:
        return
    mine = select(Output).where(col(Output.batch_id) == batch.id, col(Output.source_id).in_(deliveries))
    for output in tx.session.exec(mine).all():
        url = deliveries[output.source_id][max(output.variation, 1) - 1]
        tx.session.add(Delivery(output_id=output.id, batch_id=batch.id, url=url))
        output.delivered = False


def _fail_refused(tx: Transaction, batch: Batch, arrived: Sequence[Source]) -> None:
    """Fail the outputs of files that were not accepted as videos."""
    refused = {source.id: source.refusal for source in arrived if source.refusal is not None}
    if not refused:
        return
    mine = select(Output).where(col(Output.batch_id) == batch.id, col(Output.source_id).in_(refused))
    for output in tx.session.exec(mine).all():
        output.state = OutputState.FAILED
        output.error_code = OutputFault.SOURCE_UNPLAYABLE
        output.error_message = refused[output.source_id]
        tx.event("output_failed", tx.session.get_one(Job, output.job_id), output_id=output.id)


def _require_sources(tx: Transaction, planned: PlannedBatch) -> None:
    wanted = {output.source_id for job in planned.jobs for output in job}
    if gone := wanted - {source_id for (source_id,) in tx.rows(_alive, ids=sorted(wanted))}:
        raise source_gone(min(gone))


@Prepared
def _alive(_: Moment) -> Executable:
    wanted = col(Source.id).in_(bindparam("ids", expanding=True))
    return select(Source.id).where(wanted, col(Source.deleted_at).is_(None))


def _require_room(tx: Transaction, planned: PlannedBatch) -> None:
    [(waiting,)] = tx.rows(_count_waiting)
    most = tx.settings.queue_outputs_max
    if waiting + planned.outputs_count > most:
        later = f"{waiting} outputs are waiting already. Try again when some are done."
        never = f"At most {most} outputs may wait here, and this makes more. Submit several batches."
        why = never if planned.outputs_count > most else later
        raise ControlError(Code.QUEUE_FULL, why, headers={"Retry-After": "60"})


@Prepared
def _count_waiting(_: Moment) -> Executable:
    # by the few live jobs: to count among all outputs would take half a second with a long history
    queued = select(func.count()).select_from(Output).join(Job).where(col(Job.status).in_(_LIVE))
    return queued.where(col(Output.state) == OutputState.QUEUED)


def _add_batch(tx: Transaction, planned: PlannedBatch) -> Batch:
    batch = Batch(
        id=new_id("bat"),
        name=planned.name,
        seed=planned.seed,
        variations=planned.variations,
        preset=planned.preset,
        without=list(planned.choice.without),
        strength=planned.choice.strength,
        quality=planned.encoding.quality,
        frame_rate=planned.encoding.frame_rate,
        name_template=planned.name_template,
        max_cost_usd=planned.max_cost_usd,
        status=JobStatus.QUEUED,
        created_at=tx.now,
    )
    tx.session.add(batch)
    tx.batch_event("batch_queued", batch, partial=False)
    return batch


def _places(planned: PlannedBatch) -> dict[str, int]:
    """Return the position of each output within the batch, independent of its job."""
    outputs = sorted((output for job in planned.jobs for output in job), key=_position)
    return {output.output_id: place for place, output in enumerate(outputs)}


def _position(output: PlannedOutput) -> int:
    return output.position


def _add_job(
    tx: Transaction, batch: Batch, planned: PlannedBatch, position: int, places: Mapping[str, int]
) -> None:
    assignment = planned.schedule.assignments[position] if planned.schedule else None
    job = Job(
        id=new_id("job"),
        batch_id=batch.id,
        position=position,
        status=JobStatus.QUEUED,
        attempts_max=tx.settings.attempts_max,
        size=planned.schedule.size if planned.schedule else tx.settings.runner_sizes[0],
        estimate_s=assignment.seconds if assignment else 0.0,
        estimate_usd=assignment.usd if assignment else 0.0,
        egress_bytes_max=assignment.bytes_max if assignment else 0.0,
        room_bytes=assignment.room_bytes if assignment else 0.0,
        not_before=tx.now,
        created_at=tx.now,
    )
    tx.session.add(job)
    tx.session.add_all(
        Output(
            id=output.output_id,
            batch_id=batch.id,
            job_id=job.id,
            source_id=output.source_id,
            position=places[output.output_id],
            variation=output.variation,
            name=output.name,
            effects=output.effects.model_dump() if output.effects else {},
            preset=output.preset,
            state=OutputState.QUEUED,
        )
        for output in planned.jobs[position]
    )
    tx.event("job_queued", job, partial=False)
