"""What clients are told when something is refused: a closed list of codes, each with one HTTP status."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel


class Code(StrEnum):
    """`error.code`: closed, published in the OpenAPI document, so clients may match on it."""

    INVALID = "invalid"
    UNAUTHORIZED = "unauthorized"
    BUDGET_EXCEEDED = "budget_exceeded"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    TOO_SLOW = "too_slow"
    CONFLICT = "conflict"
    SUPERSEDED = "superseded"
    NOT_READY = "not_ready"
    GONE = "gone"
    EXPIRED = "expired"
    SOURCE_GONE = "source_gone"
    CHANGED = "changed"
    TOO_LARGE = "too_large"
    NOT_A_VIDEO = "not_a_video"
    RANGE_NOT_SATISFIABLE = "range_not_satisfiable"
    NOT_PLAYABLE = "not_playable"
    QUEUE_FULL = "queue_full"
    TOO_MANY_TRIES = "too_many_tries"
    STREAMS_FULL = "streams_full"
    STORAGE_FULL = "storage_full"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"


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


class ControlError(Exception):
    """A refusal with a message that a person can act on. `headers` go with the answer."""

    def __init__(self, code: Code, message: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.headers = code, message, headers


def source_gone(source_id: str) -> ControlError:
    """Return the refusal of a source whose time is over."""
    return ControlError(Code.SOURCE_GONE, f"Source {source_id} has been deleted. Upload the video again.")


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


def documented(*codes: Code) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI entry of a route's error answers."""
    return {STATUS[code]: {"model": ErrorBody} for code in codes}
