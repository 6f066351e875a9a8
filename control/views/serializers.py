"""Makes the JSON of clients from rows. PURE; the queries are in `batches`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta

from control.domain import states
from control.domain.reasons import REASONS
from control.domain.states import OutputState
from control.planning.prices import machine_seconds, machine_usd
from control.store.files import files_of
from control.store.tables import Attempt, Batch, Job, Output, Source, Webhook
from control.views.schemas.base import Problem
from control.views.schemas.batches import AttemptView, JobInBatch, Progress, SourceView, WebhookView
from control.views.schemas.outputs import FileView, OutputView
from runner.contract import Reason

UNKNOWN_WORK = 15.0 * 1080 * 1920  # assumed pixel-seconds of a video that only its runner has probed


def problem(code: str | None, message: str | None) -> Problem | None:
    """Return a code with its sentence, or None without a code."""
    return Problem(code=code, message=message or "") if code else None


@dataclass(frozen=True)
class Tally:
    """The progress of some outputs: counts, and work in pixel-seconds, so that large ones count more."""

    ready: int = 0
    failed: int = 0
    total: int = 0
    work: float = 0.0
    done: float = 0.0  # the finished work; a failed output counts as finished

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def percent(self) -> float:
        """The share of the work that is done."""
        return round(100 * self.done / self.work, 1) if self.work else 0.0


def tally(source: Source, state: str, percents: float, count: int = 1) -> Tally:
    """Return the tally of `count` outputs of a source in one state, their percents summed."""
    each = source.duration_s * source.width * source.height or UNKNOWN_WORK
    work = each * count
    match state:
        case OutputState.READY:
            return Tally(ready=count, total=count, work=work, done=work)
        case OutputState.FAILED:
            return Tally(failed=count, total=count, work=work, done=work)
        case _:
            return Tally(total=count, work=work, done=each * percents / 100)


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


def in_batch(jobs: Sequence[Job], tallies: Mapping[str, Tally]) -> list[JobInBatch]:
    """Return jobs as their batch shows them."""
    return [JobInBatch(job_id=job.id, status=job.status, percent=tallies[job.id].percent) for job in jobs]


def source(source: Source, outputs: Sequence[Output]) -> SourceView:
    """Return a source with its outputs as clients see it."""
    done = sum((tally(source, output.state, output.percent) for output in outputs), Tally())
    return SourceView(
        source_id=source.id,
        name=source.name,
        status=states.source_status([OutputState(output.state) for output in outputs]),
        percent=done.percent,
        notes=source.notes or [],
        outputs=[output_view(output) for output in outputs],
    )


def output_view(output: Output) -> OutputView:
    """Return an output as clients see it."""
    return OutputView(
        output_id=output.id,
        name=output.name,
        variation=output.variation,
        preset=output.preset,
        status=output.state,
        percent=output.percent,
        size_bytes=output.size_bytes,
        duration_s=output.duration_s,
        sha256=output.sha256,
        effects=output.effects,
        files=_files(output) if output.playlist else None,
        poster=output.poster is not None,
        error=problem(output.error_code, output.error_message),
        delivery_error=output.delivery_error,
    )


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


def attempt(attempt: Attempt, now: datetime) -> AttemptView:
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
    )


def webhook(webhook: Webhook | None) -> WebhookView | None:
    """Return a webhook as clients see it."""
    if webhook is None:
        return None
    return WebhookView(state=webhook.state, tries=webhook.tries, error=webhook.error)
