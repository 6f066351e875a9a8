"""The one wiring place: settings -> engine, ports, routes, ticker. Must hold no rule of its own.

One file, since all of it is one wiring.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import version
from typing import Any

import urllib3
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from control.auth.tokens import Signer
from control.clock import SteadyClock
from control.cloud_state import Cloud
from control.context import AppContext
from control.domain.errors import Code
from control.http.activity import Activity, CountRequests
from control.http.crowd import Crowd
from control.http.errors import add_error_handlers, documented
from control.http.guard import Guard
from control.http.metrics import Metrics
from control.http.middleware import BodyLimit, ClosedHeaders, PlainPath, allow_origins
from control.http.sse import Live
from control.http.threads import require_threads
from control.passes.bucket_rules import check_bucket_rules
from control.passes.launch import launch
from control.passes.loop import Every, Ticker, is_idle
from control.passes.observe import observe
from control.passes.reap import reap
from control.passes.retention import abandon, expire, forget, sweep
from control.passes.stop import stop_when_idle
from control.passes.watch import recall, watch
from control.passes.webhooks import notify
from control.passes.weigh import EVERY_S, weigh
from control.routes import (
    auth,
    batches,
    costs,
    downloads,
    events,
    forms,
    health,
    lifecycle,
    machines,
    outputs,
    quote,
    reference,
    runner,
    shares,
    sources,
    storage,
    uploads,
)
from control.routes.metrics import routes as metrics_routes
from control.routes.page import routes as page_routes
from control.settings import Settings
from control.store import Store
from control.store.database import close_database, open_database, require_mounted
from control.store.leader import FencingToken, LeaderLock
from control.views.batches import Views
from control.views.event_log import Timeline
from infra.fly.client import FlyMachines
from infra.ports import Clock
from infra.s3 import TigrisStorage

TICK_S = 1.0
TELL_S = 5.0  # between two searches for due webhooks; the end of a batch starts one immediately
FLY_TIMEOUT_S = 10.0  # short, since the passes run one after another
BUCKET_TIMEOUT_S = 30.0
KEPT_CONNECTIONS = 10  # idle ones to the bucket; each download opens its own and holds it until its end
ANSWER_FIRST_S = 1.0  # slow passes load much code; the client that has woken control is answered first
STOP_S = 2.5  # for the pass that is running; interrupted work is repeated after the next start
PASSES = (observe, launch, watch, reap)  # the cloud first, the database second
# These run on a thread of their own, so no other pass waits for them. With their intervals in seconds.
SLOW_PASSES = (
    (check_bucket_rules, 600.0),
    (forget, 2.0),
    (expire, 10.0),
    (weigh, EVERY_S),
    (sweep, 600.0),
    (abandon, 300.0),
)


def _now() -> datetime:
    return datetime.now(UTC)


def create_app(settings: Settings, machine_env: Mapping[str, str] | None = None) -> FastAPI:
    """Return the ASGI app of control. Its passes run while it is served.

    `machine_env` is added to the environment of every machine.
    """
    leader_lock = LeaderLock()
    require_mounted(settings.database_url, settings.database_mount)
    engine = open_database(settings.database_url, leader_lock=leader_lock.take)
    signer = Signer(
        settings.token_secret.get_secret_value(),
        settings.token_secret_previous.get_secret_value() if settings.token_secret_previous else None,
        password=settings.auth_password.get_secret_value(),
    )
    clock = SteadyClock(_now)
    views = Views(engine, signer, clock)
    timeline = Timeline(views.session, clock)
    live = Live(timeline)
    ticker = Ticker("ticker", is_idle=lambda: is_idle(context))
    slow_ticker, courier = Ticker("slow ticker"), Ticker("courier")

    def wake() -> None:
        ticker.poke()
        courier.poke()

    machines = machines_of(settings)
    context = AppContext(
        settings=settings,
        clock=clock,
        store=Store(engine, settings, clock, fencing_token=FencingToken(engine).check, on_commit=live.poke),
        views=views,
        signer=signer,
        storage=storage_of(settings, clock),
        machines=machines,
        cloud=Cloud(started_at=time.monotonic()),
        bucket_http=urllib3.PoolManager(retries=False, timeout=BUCKET_TIMEOUT_S, maxsize=KEPT_CONNECTIONS),
        wake=wake,
        machine_env=machine_env or {},
    )

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        recall(context)
        ticker.start(
            [Every(TICK_S, partial(run, context), promptly=True, name=run.__name__) for run in PASSES]
        )
        slow_passes = [Every(s, partial(run, context), name=run.__name__) for run, s in SLOW_PASSES]
        slow_ticker.start(slow_passes, after_s=ANSWER_FIRST_S)
        courier.start(
            [
                Every(TELL_S, partial(notify, context), promptly=True, name=notify.__name__),
                Every(
                    TELL_S, partial(stop_when_idle, context, activity, _end_process), name="stop_when_idle"
                ),
            ]
        )
        yield
        drain()
        stop_at = time.monotonic() + STOP_S
        for each in (ticker, slow_ticker):
            each.stop(wait_s=max(0.0, stop_at - time.monotonic()))
        machines.close()
        context.bucket_http.clear()
        leader_lock.leave()
        close_database(engine)

    app = FastAPI(
        title="Video Refresher",
        version=version("video-refresher"),
        lifespan=running,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # see `_add_document`
        redirect_slashes=False,  # such a redirect goes to the host of the Host header, which anyone can set
        responses=documented(Code.TOO_LARGE, Code.TOO_SLOW, Code.INTERNAL, Code.UNAVAILABLE),
    )

    def drain() -> None:
        for each in (courier, slow_ticker, ticker):
            each.stop(wait_s=0)
        live.stop()

    activity = Activity()
    metrics = Metrics(context, live)
    app.state.metrics = metrics  # for METRICS_PORT, which is served beside the app
    app.state.drain = drain  # called when the server begins to stop: the lifespan ends after the last answer
    app.add_middleware(PlainPath)
    app.add_middleware(BodyLimit, signer=signer, is_client=Guard(context).is_good)
    app.add_middleware(Crowd, signer=signer, is_behind_fly=bool(settings.fly_app_name))
    app.add_middleware(CountRequests, activity=activity)
    allow_origins(app, settings)
    app.add_middleware(ClosedHeaders, is_https=settings.public_url.startswith("https:"))
    _add_routes(app, context)
    app.include_router(require_threads(events.routes(Guard(context), timeline, live)))
    app.include_router(require_threads(metrics_routes(Guard(context), metrics)))
    _add_document(app)
    add_error_handlers(app)
    return app


def _end_process() -> None:
    """Stop like any other time: the server drains, and the exit code is 0."""
    os.kill(os.getpid(), signal.SIGTERM)


def machines_of(settings: Settings) -> FlyMachines:
    """Return the machines of the apps that the settings name."""
    return FlyMachines(
        api_url=settings.fly_api_url,
        token="" if settings.fly_tokens else settings.fly_api_token.get_secret_value(),
        tokens=settings.fly_tokens,
        timeout_s=FLY_TIMEOUT_S,
    )


def storage_of(
    settings: Settings, clock: Clock = _now, *, pause: Callable[[float], None] = time.sleep
) -> TigrisStorage:
    """Return the bucket that the settings name.

    `clock` gives the time for signed URLs; `pause` waits before a read that found nothing is repeated.
    """
    return TigrisStorage(
        endpoint=settings.aws_endpoint_url_s3,
        region=settings.aws_region,
        access_key_id=settings.aws_access_key_id,
        secret_access_key=settings.aws_secret_access_key.get_secret_value(),
        bucket=settings.bucket_name,
        public_endpoint=settings.s3_public_endpoint_url,
        clock=clock,
        pause=pause,
    )


def _add_routes(app: FastAPI, context: AppContext) -> None:
    guard = Guard(context)
    nouns = (
        *(auth, uploads, sources, forms, batches, quote, lifecycle, downloads, outputs, shares),
        *(machines, costs, storage),
    )
    routers = (
        runner.routes(context),  # called most often, so matched first
        *(noun.routes(context, guard) for noun in nouns),
        health.routes(context),
        page_routes(context),
    )
    for router in routers:
        app.include_router(require_threads(router))


def _add_document(app: FastAPI) -> None:
    """Serve the OpenAPI document from a cached string: the framework would build 100 kB for each request."""

    @cache
    def described() -> dict[str, Any]:
        return reference.with_summaries(app.openapi())

    @cache
    def document() -> bytes:
        return bytes(JSONResponse(described()).body)

    @cache
    def page() -> bytes:
        return reference.page(described()).encode()

    async def openapi(_: Request) -> Response:
        return Response(document(), media_type="application/json")

    async def docs(_: Request) -> Response:
        headers = {"Content-Security-Policy": reference.POLICY, "Cache-Control": "no-cache"}
        return Response(page(), headers=headers, media_type="text/html")

    app.add_route("/docs", docs, include_in_schema=False)
    app.add_route("/openapi.json", openapi, include_in_schema=False)
