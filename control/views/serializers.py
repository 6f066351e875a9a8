"""Makes the JSON of clients from rows. PURE; the queries are in `batches` and `tallies`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from control.domain import states
from control.domain.reasons import REASONS
from control.planning.prices import machine_seconds, machine_usd
from control.store.files import files_of
from control.store.recipe import variety_of
from control.store.tables import Attempt, Batch, Job, Output, Webhook
from control.views.schemas.base import Problem
from control.views.schemas.batches import AttemptView, JobInBatch, Progress, SourceView, WebhookView
from control.views.schemas.outputs import FileView, OutputView, VarietyView
from control.views.tallies import Count, Tally, total
from runner.contract import Reason


def problem(code: str | None, message: str | None) -> Problem | None:
    """Return a code with its sentence, or None without a code."""
    return Problem(code=code, message=message or "") if code else None


def progress(subject: Job | Batch, tally: Tally, now: datetime) -> Progress:
    """Return the progress of a job or batch whose outputs are tallied."""
    return Progress(
        percent=tally.percent,
        ready=tally.ready,
        failed=tally.failed,
        total=tally.total,
        eta_s=_eta_s(subject, tally.percent, now),
    )


def _eta_s(subject: Job | Batch, percent: float, now: datetime) -> int | None:
    """Return the remaining seconds at the average speed so far; 0 at the end."""
    if subject.ended_at is not None:
        return 0
    if subject.started_at is None or percent < 1:
        return None
    elapsed_s = (now - subject.started_at).total_seconds()
    return round(elapsed_s * (100 - percent) / percent)


def in_batch(jobs: Sequence[Job], counts: Mapping[str, Sequence[Count]]) -> list[JobInBatch]:
    """Return jobs as their batch shows them."""
    return [
        JobInBatch(job_id=job.id, status=job.status, percent=total(counts[job.id]).percent) for job in jobs
    ]


def source(
    counts: Sequence[Count], outputs: list[OutputView], data: dict[str, Any] | None = None
) -> SourceView:
    """Return the source of these counts with its outputs as clients see it."""
    source = counts[0].source
    return SourceView(
        source_id=source.id,
        name=source.name,
        width=source.width,
        height=source.height,
        status=states.source_status([count.state for count in counts]),
        percent=total(counts).percent,
        notes=source.notes or [],
        data=data,
        outputs=outputs,
    )


def output_view(output: Output) -> OutputView:
    """Return an output as clients see it."""
    return OutputView(
        output_id=output.id,
        name=output.name,
        variation=output.variation,
        preset=output.preset,
        status=output.state,
        percent=round(output.percent, 1),
        size_bytes=output.size_bytes,
        duration_s=output.duration_s,
        sha256=output.sha256,
        effects=output.effects,
        variety=_variety(output),
        files=_files(output) if output.playlist else None,
        poster=output.poster is not None,
        error=problem(output.error_code, output.error_message),
        delivered=output.delivered,
        delivery_error=output.delivery_error,
    )


def _variety(output: Output) -> VarietyView | None:
    variety = variety_of(output)
    return VarietyView(source=variety.source, sibling=variety.sibling) if variety else None


def _files(output: Output) -> list[FileView]:
    return [
        FileView(name=name, size_bytes=file.size_bytes, sha256=file.sha256)
        for name, file in files_of(output).items()
    ]


def spent(attempt: Attempt, now: datetime) -> tuple[float, float]:
    """Return the machine seconds and the USD of an attempt, so far or final.

    An ended attempt without a machine costs nothing, once none of its create calls can still make one.
    """
    if attempt.ended_at is not None and attempt.machine_id is None and not _may_have_machine(attempt, now):
        return 0.0, 0.0
    if attempt.ended_at is not None:
        return attempt.machine_seconds, attempt.cost_usd
    seconds = machine_seconds(attempt.boot_from, now)
    return seconds, machine_usd(size=attempt.size, region=attempt.region, seconds=seconds)


def _may_have_machine(attempt: Attempt, now: datetime) -> bool:
    return attempt.asked_at is not None and attempt.asked_at > now - timedelta(
        seconds=states.UNKNOWN_CREATE_TTL_S
    )


def attempt(attempt: Attempt, now: datetime, log_tail: str | None) -> AttemptView:
    """Return an attempt as clients see it. Its seconds and cost grow while it is live."""
    seconds, usd = spent(attempt, now)
    return AttemptView(
        attempt_id=attempt.id,
        number=attempt.number,
        state=attempt.state,
        reason=attempt.reason,
        reason_text=REASONS[Reason(attempt.reason)].text if attempt.reason else None,
        machine_id=attempt.machine_id,
        app=attempt.app,
        region=attempt.region,
        size=attempt.size,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        machine_seconds=round(seconds, 3),
        cost_usd=round(usd, 6),
        log_tail=log_tail,
    )


def webhook(webhook: Webhook | None) -> WebhookView | None:
    """Return a webhook as clients see it."""
    if webhook is None:
        return None
    return WebhookView(state=webhook.state, tries=webhook.tries, error=webhook.error)
