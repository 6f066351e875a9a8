"""Plans a request with the current facts. A submit stores the plan, a quote shows it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from control.context import AppContext
from control.domain.effects import EffectChoice
from control.domain.encoding import Encoding
from control.domain.errors import Code, ControlError
from control.domain.ids import new_id
from control.domain.name_template import NameRefused, NameTemplate
from control.planning.planner import (
    OUTPUTS_PER_BATCH_MAX,
    OUTPUTS_PER_JOB_MAX,
    Naming,
    PlannedBatch,
    PlannedSource,
    jobs_count,
    plan,
)
from control.planning.schedule import Capacity
from control.planning.sizing import fitting_sizes, needed_bytes
from control.store.calibration import source_info, speeds
from control.store.tables import Source
from control.uploads.sources import require_callable
from control.views.schemas.submit import NewBatch, NewJob

SEED_BITS = 63
FREE_SHARE_MIN = 4  # busy machines become free: at least a fourth of all machines counts as free


def require_plannable(body: NewBatch) -> None:
    """Return if the batch is not too large for its machines. Raises ControlError invalid."""
    outputs = body.outputs_count
    if outputs > OUTPUTS_PER_BATCH_MAX:
        raise ControlError(Code.INVALID, f"A batch makes at most {OUTPUTS_PER_BATCH_MAX} outputs.")
    needed = jobs_count(outputs)
    if body.max_machines is not None and needed > body.max_machines:
        raise ControlError(
            Code.INVALID,
            f"One machine makes at most {OUTPUTS_PER_JOB_MAX} outputs, so {outputs} need {needed} machines. "
            "Raise max_machines, or submit several batches.",
        )


def require_one_job(body: NewJob) -> None:
    """Raise ControlError invalid for more outputs than one job may have."""
    if body.outputs_count > OUTPUTS_PER_JOB_MAX:
        raise ControlError(
            Code.INVALID,
            f"A job makes at most {OUTPUTS_PER_JOB_MAX} outputs. Submit a batch instead.",
        )


def planned_source(context: AppContext, row: Source) -> PlannedSource:
    """Return a source as a plan sees it."""
    seen = source_info(row, url_bytes_max=context.settings.max_source_bytes)
    return PlannedSource(
        source_id=row.id,
        name=row.name,
        fingerprint=row.etag,
        source_info=seen,
        sides=None if row.url is not None else (row.width, row.height),
    )


def planned_batch(context: AppContext, body: NewJob, sources: Sequence[PlannedSource]) -> PlannedBatch:
    """Return the plan of a request. A job is for one machine; a batch for as many as are worth their cost.

    Raises ControlError invalid for URLs that cannot be called, for more variations than can differ, and for
    a `name_template` that cannot name the outputs.
    """
    _require_urls(context, body)
    _require_distinct(body.variations or 0, body.choice)
    most, deadline_s = (body.max_machines, body.deadline_s) if isinstance(body, NewBatch) else (1, None)
    naming = None
    if body.name_template is not None:
        naming = Naming(template=NameTemplate(body.name_template), day=context.clock().date())
    try:
        return plan(
            sources,
            variations=body.variations or 0,
            preset=body.recipe,
            seed=secrets.randbits(SEED_BITS) if body.seed is None else body.seed,
            new_id=lambda: new_id("out"),
            capacity=_capacity(context, most, _fitting_sizes(context, sources, body.encoding)),
            sends=2 if body.delivers else 1,
            deadline_s=deadline_s,
            max_cost_usd=body.max_cost_usd,
            name=body.name,
            choice=body.choice,
            encoding=body.encoding,
            naming=naming,
        )
    except NameRefused as why:
        raise ControlError(Code.INVALID, f"name_template: {why}.") from None


def _require_distinct(variations: int, choice: EffectChoice) -> None:
    if variations > choice.distinct_max:
        raise ControlError(
            Code.INVALID,
            f"variations: with the effects that `without` leaves, a video can have at most"
            f" {choice.distinct_max:.0f} different variations. Ask for fewer, or leave more effects in.",
        )


def _require_urls(context: AppContext, body: NewJob) -> None:
    if body.webhook_url is not None:
        if context.settings.webhook_secret is None:
            raise ControlError(
                Code.INVALID, "webhook_url: webhooks are off here. Set WEBHOOK_SECRET, or poll the job."
            )
        require_callable(context, body.webhook_url, "webhook_url")
    if body.output_url is not None:
        require_callable(context, body.output_url, "output_url")
        if body.outputs_count != 1:
            raise ControlError(Code.INVALID, "output_url: it takes one file, so ask for exactly one output.")
    for field, url in body.output_urls:
        require_callable(context, url, field)


def _fitting_sizes(
    context: AppContext, sources: Sequence[PlannedSource], encoding: Encoding
) -> Sequence[str]:
    """Return the allowed sizes with enough memory. Raises ControlError invalid when there is none."""
    allowed = context.settings.runner_sizes
    needed = needed_bytes([source.source_info for source in sources], encoding)
    if fitting := fitting_sizes(needed, allowed):
        return fitting
    name = max(sources, key=lambda source: source.source_info.size_bytes).name
    raise ControlError(
        Code.INVALID,
        f"{name!r} needs a machine with {needed / 2**30:.1f} GiB of memory, and of the allowed sizes"
        f" ({', '.join(allowed)}) none has. Send a smaller or shorter video.",
    )


def _capacity(context: AppContext, machines_max: int | None, sizes: Sequence[str]) -> Capacity:
    settings = context.settings
    free = max(
        settings.max_machines - context.views.live_attempts(), settings.max_machines // FREE_SHARE_MIN, 1
    )
    with context.views.session() as session:
        known = speeds(session)
    return Capacity(
        sizes=sizes,
        speeds=known,
        region=settings.runner_regions[0],
        apps=len(settings.runner_apps),
        machines_max=min(free, machines_max or free),
        jobs_max=machines_max,
        outputs_max=OUTPUTS_PER_JOB_MAX,
    )
