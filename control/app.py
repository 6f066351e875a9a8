"""The one wiring place: settings -> engine, ports, routes, ticker. Must hold no rule of its own.

Long because the answers of all errors are wired here too.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import version

import urllib3
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from control.api import (
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
    runner,
    storage,
    uploads,
)
from control.api.metrics import routes as metrics_routes
from control.api.page import routes as page_routes
from control.auth.tokens import Signer
from control.clock import SteadyClock
from control.cloud_state import Cloud
from control.context import AppContext
from control.domain import errors
from control.domain.errors import Code, ControlError
from control.http.crowd import Crowd
from control.http.guard import Guard
from control.http.metrics import Metrics
from control.http.middleware import CLOSED, BodyLimit, ClosedHeaders, allow_origins
from control.http.sse import Live
from control.http.threads import require_threads
from control.passes.bucket_rules import check_bucket_rules
from control.passes.launch import launch
from control.passes.loop import Every, Ticker, is_idle
from control.passes.observe import observe
from control.passes.reap import reap
from control.passes.retention import abandon, expire, forget, sweep
from control.passes.watch import watch
from control.passes.webhooks import notify
from control.passes.weigh import EVERY_S, weigh
from control.settings import Settings
from control.store import Store
from control.store.database import close_database, open_database
from control.store.leader import FencingToken, LeaderLock
from control.telemetry import counters
from control.telemetry.log import log_failure
from control.views.batches import Views
from control.views.event_log import Timeline
from infra.fly.client import FlyMachines
from infra.ports import Clock, OutsideError, Refusal, Refused
from infra.s3 import TigrisStorage

METHODS = ("DELETE", "GET", "HEAD", "POST")  # that any of our routes takes
TICK_S = 1.0
TELL_S = 5.0  # webhooks, beside the ends that wake them at once
FLY_TIMEOUT_S = 10.0  # the passes wait for one another
BUCKET_TIMEOUT_S = 30.0
KEPT_CONNECTIONS = 10  # to the bucket; a download holds one for as long as its client takes, however many
STOP_S = 2.5  # for the pass that runs; what is cut off is done again after the next start
PASSES = (observe, launch, watch, reap, forget)  # the cloud first, the database second
# With their seconds, on a thread of their own: nobody waits for them.
SLOW_PASSES = (
    (check_bucket_rules, 600.0),
    (expire, 10.0),
    (weigh, EVERY_S),
    (sweep, 600.0),
    (abandon, 300.0),
)


def _now() -> datetime:
    return datetime.now(UTC)


def create_app(settings: Settings, machine_env: Mapping[str, str] | None = None) -> FastAPI:
    """Return control, ready to be served; its passes run while it is served.

    `machine_env` is what machines are to find in their environment beside what is their own.
    """
    leader_lock = LeaderLock()
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

    machines = FlyMachines(
        api_url=settings.fly_api_url,
        token="" if settings.fly_tokens else settings.fly_api_token.get_secret_value(),
        tokens=settings.fly_tokens,
        timeout_s=FLY_TIMEOUT_S,
    )
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
        ticker.start(
            [Every(TICK_S, partial(run, context), promptly=True, name=run.__name__) for run in PASSES]
        )
        slow_ticker.start([Every(s, partial(run, context), name=run.__name__) for run, s in SLOW_PASSES])
        courier.start([Every(TELL_S, partial(notify, context), promptly=True, name=notify.__name__)])
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
        openapi_url=None,  # `_add_document`
        redirect_slashes=False,  # such a redirect leads wherever the Host header says
        responses=errors.documented(Code.TOO_LARGE, Code.TOO_SLOW, Code.INTERNAL, Code.UNAVAILABLE),
    )

    def drain() -> None:
        for each in (courier, slow_ticker, ticker):
            each.stop(wait_s=0)
        live.stop()

    metrics = Metrics(context, live)
    app.state.metrics = metrics  # for METRICS_PORT, which is served beside the app
    app.state.drain = drain  # begins before the server's end: the lifespan ends after the last answer
    app.add_middleware(BodyLimit, signer=signer, is_client=Guard(context).is_good)
    app.add_middleware(Crowd, signer=signer, is_behind_fly=bool(settings.fly_app_name))
    allow_origins(app, settings)
    app.add_middleware(ClosedHeaders, is_https=settings.public_url.startswith("https:"))
    _add_routes(app, context)
    app.include_router(require_threads(events.routes(Guard(context), timeline, live)))
    app.include_router(require_threads(metrics_routes(Guard(context), metrics)))
    _add_document(app)
    _add_error_answers(app)
    return app


def storage_of(settings: Settings, clock: Clock = _now) -> TigrisStorage:
    """Return the bucket that the settings name; its URLs are signed at the instants of `clock`."""
    return TigrisStorage(
        endpoint=settings.aws_endpoint_url_s3,
        region=settings.aws_region,
        access_key_id=settings.aws_access_key_id,
        secret_access_key=settings.aws_secret_access_key.get_secret_value(),
        bucket=settings.bucket_name,
        public_endpoint=settings.s3_public_endpoint_url,
        clock=clock,
    )


def _add_routes(app: FastAPI, context: AppContext) -> None:
    guard = Guard(context)
    nouns = (auth, uploads, forms, batches, quote, lifecycle, downloads, outputs, machines, costs, storage)
    routers = (
        runner.routes(context),  # asked most often, so looked at first
        *(noun.routes(context, guard) for noun in nouns),
        health.routes(context),
        page_routes(context),
    )
    for router in routers:
        app.include_router(require_threads(router))


def _add_document(app: FastAPI) -> None:
    """Serve the OpenAPI document from one string: the framework makes 100 kB anew for each who asks."""

    @cache
    def document() -> bytes:
        return bytes(JSONResponse(app.openapi()).body)

    async def openapi(_: Request) -> Response:
        return Response(document(), media_type="application/json")

    app.add_route("/openapi.json", openapi, include_in_schema=False)


def _add_error_answers(app: FastAPI) -> None:
    """Answer errors on the event loop: a pool that is used up must not hold back what a runner is told."""

    @app.exception_handler(ControlError)
    async def refused(_: Request, error: ControlError) -> JSONResponse:
        return _answer(error.code, error.message, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        if request.url.path.startswith(runner.PREFIX):
            counters.RUNNER_CALLS_REFUSED.labels("invalid").inc()
        return _answer(Code.INVALID, _first_problem(error))

    @app.exception_handler(OutsideError)
    async def unavailable(_: Request, error: OutsideError) -> JSONResponse:
        log_failure("outside_error", error)
        if isinstance(error, Refused) and error.refusal is Refusal.INVALID:
            return _answer(Code.INTERNAL, "Something went wrong on our side; it has been logged.")
        return _answer(
            Code.UNAVAILABLE, "The storage or Fly does not answer right now. Try again in a minute."
        )

    @app.exception_handler(HTTPException)
    async def routing(request: Request, error: HTTPException) -> JSONResponse:
        known = {
            401: (Code.UNAUTHORIZED, "Sign in first: POST /api/auth with the password gives a token."),
            404: (Code.NOT_FOUND, "There is no such address."),
            405: (Code.METHOD_NOT_ALLOWED, "This address does not take this method."),
            408: (Code.TOO_SLOW, "The body did not come in time. Send it again."),
            413: (Code.TOO_LARGE, "The body is too large. Videos go to POST /api/uploads."),
            503: (Code.UNAVAILABLE, "Too many bodies are under way already. Try again in a moment."),
        }
        unreadable = (Code.INVALID, "The body cannot be read. Send JSON in UTF-8.")
        code, message = known.get(error.status_code, unreadable)
        headers = {"Allow": ", ".join(_methods(app, request))} if error.status_code == 405 else error.headers
        return _answer(code, message, headers)

    @app.exception_handler(Exception)
    async def internal(_: Request, error: Exception) -> JSONResponse:
        log_failure("internal_error", error)
        message = "Something went wrong on our side; it has been logged."
        return _answer(Code.INTERNAL, message, CLOSED)  # no middleware sees this answer


def _methods(app: FastAPI, request: Request) -> list[str]:
    """Return the methods that the request's address takes. The framework names those of one route only."""

    def is_taken(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in app.routes)

    return [method for method in METHODS if is_taken(method)]


def _answer(code: Code, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(errors.body(code, message), errors.STATUS[code], headers)


def _first_problem(error: RequestValidationError) -> str:
    """Return the first problem in words, with the field's name and without the value that was sent."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return f"The body is not JSON: {first['ctx']['error']}."
    if first["type"] == "model_attributes_type":
        return "The body must be a JSON object, sent with Content-Type: application/json."
    field = ".".join(str(part) for part in first["loc"] if not _is_of_the_model(part))
    problem = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "string_pattern_mismatch":
        problem = "has a character that is not allowed"
    return f"{field}: {problem}" if field else problem


def _is_of_the_model(part: str | int) -> bool:
    """Tell whether a part of an error's place is a word of the framework's, not of the request."""
    return part in ("body", "query", "header", "SourceFacts", "SourceRef") or "[" in str(part)
