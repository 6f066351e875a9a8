"""`/metrics` for clients with a token. METRICS_PORT, which needs none, is in `control.http.metrics_port`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from control.domain.errors import Code
from control.http.errors import documented
from control.http.guard import Guard
from control.http.metrics import Metrics
from control.http.threads import METRICS


def routes(guard: Guard, metrics: Metrics) -> APIRouter:
    """Return the route `/metrics`."""
    router = APIRouter(dependencies=[Depends(guard)], tags=["health"], route_class=METRICS.route)
    text: dict[int | str, Any] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}

    @router.get("/metrics", response_class=Response, responses={**text, **documented(Code.UNAUTHORIZED)})
    def scrape() -> Response:
        """Return all metrics in the Prometheus text format. They are at most some seconds old."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return router
