"""How errors are answered: a status for each code, one JSON body for all, a handler for each exception.

No answer holds a stack trace, a secret or a value that the client sent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match

from control.domain.errors import Code, ControlError
from control.http.middleware import CLOSED
from control.telemetry import counters
from control.telemetry.log import log_failure
from infra.ports import OutsideError, Refusal, Refused, Unanswered
from runner.contract import ATTEMPTS_PATH

STATUS: dict[Code, int] = {
    Code.INVALID: 422,
    Code.UNAUTHORIZED: 401,
    Code.BUDGET_EXCEEDED: 402,
    Code.NOT_FOUND: 404,
    Code.METHOD_NOT_ALLOWED: 405,
    Code.TOO_SLOW: 408,
    Code.CONFLICT: 409,
    Code.SUPERSEDED: 409,
    Code.NOT_READY: 409,
    Code.NOT_FINISHED: 409,
    Code.GONE: 410,
    Code.EXPIRED: 410,
    Code.SOURCE_GONE: 410,
    Code.CHANGED: 412,
    Code.TOO_LARGE: 413,
    Code.NOT_A_VIDEO: 415,
    Code.RANGE_NOT_SATISFIABLE: 416,
    Code.NOT_PLAYABLE: 422,
    Code.QUEUE_FULL: 429,
    Code.TOO_MANY_TRIES: 429,
    Code.STREAMS_FULL: 429,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.STORAGE_FULL: 507,
}
PART_CHARS = 50  # of a field's name in a message: the client chooses the name of an unknown one
METHODS = ("DELETE", "GET", "HEAD", "POST")  # every method that a route of control accepts

_INTERNAL = "Something went wrong on our side; it has been logged."
_UNAVAILABLE = "The storage or Fly does not answer right now. Try again in a minute."
_UNREADABLE = (Code.INVALID, "The body cannot be read. Send JSON in UTF-8.")
_BY_STATUS = {  # what the framework and the middleware raise
    401: (Code.UNAUTHORIZED, "Sign in first: POST /api/auth with the password gives a token."),
    404: (Code.NOT_FOUND, "There is no such address."),
    405: (Code.METHOD_NOT_ALLOWED, "This address does not take this method."),
    408: (Code.TOO_SLOW, "The body did not come in time. Send it again."),
    413: (Code.TOO_LARGE, "The body is too large. Videos go to POST /api/uploads."),
    503: (Code.UNAVAILABLE, "Too many bodies are under way already. Try again in a moment."),
}


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: Code
    message: str


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail


def body(code: Code, message: str) -> dict[str, Any]:
    """Return the JSON of an error answer."""
    return {"error": {"code": code.value, "message": message}}


def answer(code: Code, message: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return an error answer with the status of its code."""
    return JSONResponse(body(code, message), STATUS[code], headers)


def documented(*codes: Code) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI entry of a route's error answers, which names the codes of each status."""
    named: dict[int, list[str]] = defaultdict(list)
    for code in codes:
        named[STATUS[code]].append(f"`{code}`")
    return {
        status: {"model": ErrorBody, "description": f"Error {' or '.join(names)}"}
        for status, names in named.items()
    }


def add_error_handlers(app: FastAPI) -> None:
    """Make the app answer every exception with an ErrorBody.

    The handlers are async and run on the event loop: a runner gets its answer even when all threads are busy.
    """

    @app.exception_handler(ControlError)
    async def refused(_: Request, error: ControlError) -> JSONResponse:
        return answer(error.code, error.message, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        if request.url.path.startswith(ATTEMPTS_PATH):
            counters.RUNNER_CALLS_REFUSED.labels("invalid").inc()
        return answer(Code.INVALID, _first_problem(error))

    @app.exception_handler(OutsideError)
    async def unavailable(_: Request, error: OutsideError) -> JSONResponse:
        log_failure("outside_error", error)
        if isinstance(error, Refused) and error.refusal is Refusal.INVALID:
            return answer(Code.INTERNAL, _INTERNAL)
        may_pass = isinstance(error, Unanswered)  # and every call outside may be repeated
        return answer(Code.UNAVAILABLE, _UNAVAILABLE, {"Retry-After": "2"} if may_pass else None)

    @app.exception_handler(HTTPException)
    async def routing(request: Request, error: HTTPException) -> JSONResponse:
        code, message = _BY_STATUS.get(error.status_code, _UNREADABLE)
        headers = {"Allow": ", ".join(_methods(app, request))} if error.status_code == 405 else error.headers
        return answer(code, message, headers)

    @app.exception_handler(Exception)
    async def internal(_: Request, error: Exception) -> JSONResponse:
        log_failure("internal_error", error)
        return answer(Code.INTERNAL, _INTERNAL, CLOSED)  # sent outside of the middleware that adds these


def _methods(app: FastAPI, request: Request) -> list[str]:
    """Return all methods that the address accepts. The framework names only those of one route."""

    def is_accepted(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in app.routes)

    return [method for method in METHODS if is_accepted(method)]


def _first_problem(error: RequestValidationError) -> str:
    """Describe the first problem: its field and what is wrong with it, without the value that was sent."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return f"The body is not JSON: {first['ctx']['error']}."
    if first["type"] == "model_attributes_type":
        return "The body must be a JSON object, sent with Content-Type: application/json."
    field = ".".join(str(part)[:PART_CHARS] for part in first["loc"] if not _is_framework_name(part))
    problem = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        problem = "there is no such field"
    if first["type"] == "string_pattern_mismatch":
        problem = "has a character that is not allowed"
    return f"{field}: {problem}" if field else problem


def _is_framework_name(part: str | int) -> bool:
    """Return whether a part of an error's location comes from the framework and not from the request."""
    return part in ("body", "query", "header", "SourceFacts", "SourceRef") or "[" in str(part)
