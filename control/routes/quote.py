"""Quotes: the time and cost of a batch before it is started."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from control.context import AppContext
from control.domain.encoding import Encoding
from control.domain.errors import Code
from control.http.errors import documented
from control.http.guard import Guard
from control.http.threads import PLANNING
from control.planning.accuracy import likely_range
from control.planning.planner import PlannedBatch, PlannedSource
from control.planning.schedule import Schedule
from control.planning.workload import SourceInfo
from control.routes.plan_request import planned_batch, planned_source, require_plannable
from control.store.calibration import bill_ratios
from control.store.usage import fits
from control.uploads.sources import named
from control.views.schemas.quote import CurvePoint, NewQuote, Quote, SourceFacts
from control.views.schemas.submit import SourceRef


def routes(context: AppContext, guard: Guard) -> APIRouter:
    """Return the route `/api/quote`."""
    router = APIRouter(
        prefix="/api", dependencies=[Depends(guard)], tags=["costs"], route_class=PLANNING.route
    )

    errors = documented(Code.UNAUTHORIZED, Code.NOT_FOUND, Code.SOURCE_GONE, Code.INVALID)

    @router.post("/quote", responses=errors)
    def quote(body: NewQuote) -> Quote:
        """Estimate machines, time and cost of a batch. Nothing is started or stored.

        The body is that of `POST /api/batches`. Instead of a `source_id` a source may have `size_bytes`,
        `duration_s`, `width` and `height`.
        """
        require_plannable(body)
        sources = _sources(context, body.sources)
        any_seed = body.model_copy(
            update={"seed": body.seed or 0}
        )  # so that the same request always gets the same quote
        planned = planned_batch(context, any_seed, sources)
        with context.views.session() as session:
            has_room = fits(session, context.settings, context.clock(), planned.room_bytes)
            likely = likely_range(bill_ratios(session))
        kept_h = context.settings.retention_hours
        return _quoted(planned, sources, has_room=has_room, likely=likely, retention_hours=kept_h)

    return router


def _sources(context: AppContext, asked: list[SourceRef | SourceFacts]) -> list[PlannedSource]:
    named_rows = iter(named(context, [source for source in asked if isinstance(source, SourceRef)]))
    return [
        planned_source(context, next(named_rows))
        if isinstance(source, SourceRef)
        else _described(source, number)
        for number, source in enumerate(asked)
    ]


def _described(source: SourceFacts, number: int) -> PlannedSource:
    source_info = SourceInfo(
        size_bytes=source.size_bytes,
        duration_s=source.duration_s,
        pixels=source.width * source.height,
        frame_rate=source.frame_rate,
    )
    return PlannedSource(
        source_id=f"described {number}",
        name=source.name,
        fingerprint=str(number),
        source_info=source_info,
        sides=(source.width, source.height),
    )


def _is_known(source_info: SourceInfo, encoding: Encoding) -> bool:
    needs_rate = encoding.frame_rate == "source"
    return source_info.is_known and (source_info.frame_rate is not None or not needs_rate)


def _quoted(
    planned: PlannedBatch,
    sources: list[PlannedSource],
    *,
    has_room: bool,
    likely: tuple[float, float] | None,
    retention_hours: float,
) -> Quote:
    assert planned.schedule is not None, "a plan has one"
    chosen = _point(planned.schedule)
    low, high = (round(chosen.cost_usd * factor, 6) for factor in likely) if likely else (None, None)
    return Quote(
        **chosen.model_dump(),
        size=planned.schedule.size,
        cost_low_usd=low,
        cost_high_usd=high,
        estimated=not all(_is_known(source.source_info, planned.encoding) for source in sources),
        fits=has_room,
        retention_hours=retention_hours,
        curve=[_point(way) for way in planned.curve],
    )


def _point(way: Schedule) -> CurvePoint:
    return CurvePoint(
        machines=way.machines, makespan_s=round(way.makespan_s, 1), cost_usd=round(way.cost_usd, 6)
    )
