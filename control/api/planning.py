"""From a request to a plan, with what is known at the moment: what a submit stores and a quote tells."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from sqlmodel import col, select

from control.errors import Code, ControlError
from control.ids import new_id
from control.parts import Parts
from control.plan import (
    OUTPUTS_PER_BATCH_MAX,
    OUTPUTS_PER_JOB_MAX,
    PlannedBatch,
    PlannedSource,
    jobs_count,
    plan,
)
from control.shapes import NewBatch, NewJob
from control.spread import Means
from control.store.speeds import footage, speeds
from control.tables import Source

SEED_BITS = 63
FREE_SHARE_MIN = 4  # machines that are busy now will be free by then: at least a fourth of all counts as free


def require_plannable(body: NewBatch) -> None:
    """Return if a batch is not too large for its machines. Raises ControlError invalid."""
    outputs = body.variations * len(body.sources)
    if outputs > OUTPUTS_PER_BATCH_MAX:
        raise ControlError(Code.INVALID, f"A batch makes at most {OUTPUTS_PER_BATCH_MAX} outputs.")
    needed = jobs_count(outputs)
    if body.max_machines is not None and needed > body.max_machines:
        raise ControlError(
            Code.INVALID,
            f"One machine makes at most {OUTPUTS_PER_JOB_MAX} outputs, so {outputs} need {needed} machines. "
            "Raise max_machines, or submit several batches.",
        )


def stored_sources(parts: Parts, ids: Sequence[str]) -> list[PlannedSource]:
    """Return sources by their ids, in order. Raises ControlError: invalid (named twice), not_found."""
    if len(set(ids)) < len(ids):
        raise ControlError(Code.INVALID, "A source is named twice. Ask for more variations instead.")
    with parts.views.session() as session:
        rows = {row.id: row for row in session.exec(select(Source).where(col(Source.id).in_(ids)))}
    if missing := [source_id for source_id in ids if source_id not in rows]:
        raise ControlError(Code.NOT_FOUND, f"There is no source {missing[0][:64]!r}. Upload it first.")
    return [
        PlannedSource(
            source_id=id_, name=rows[id_].name, fingerprint=rows[id_].etag, footage=footage(rows[id_])
        )
        for id_ in ids
    ]


def planned_batch(parts: Parts, body: NewJob, sources: Sequence[PlannedSource]) -> PlannedBatch:
    """Return the plan of a request. A job is for one machine; a batch for as many as pay off."""
    most, deadline_s = (body.max_machines, body.deadline_s) if isinstance(body, NewBatch) else (1, None)
    return plan(
        sources,
        variations=body.variations,
        seed=secrets.randbits(SEED_BITS) if body.seed is None else body.seed,
        new_id=lambda: new_id("out"),
        means=_means(parts, most),
        deadline_s=deadline_s,
        max_cost_usd=body.max_cost_usd,
    )


def _means(parts: Parts, machines_max: int | None) -> Means:
    settings = parts.settings
    free = max(
        settings.max_machines - parts.views.live_attempts(), settings.max_machines // FREE_SHARE_MIN, 1
    )
    with parts.views.session() as session:
        known = speeds(session)
    return Means(
        sizes=settings.runner_sizes,
        speeds=known,
        region=settings.runner_regions[0],
        apps=len(settings.runner_apps),
        machines_max=min(free, machines_max or free),
        jobs_max=machines_max,
        outputs_max=OUTPUTS_PER_JOB_MAX,
    )
