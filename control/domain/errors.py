"""The errors that clients get: a closed list of codes. `control.http.errors` maps each to an HTTP status."""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """`error.code`: a closed list, published in the OpenAPI document, so clients may match on it."""

    INVALID = "invalid"
    UNAUTHORIZED = "unauthorized"
    BUDGET_EXCEEDED = "budget_exceeded"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    TOO_SLOW = "too_slow"
    CONFLICT = "conflict"
    SUPERSEDED = "superseded"
    NOT_READY = "not_ready"
    NOT_FINISHED = "not_finished"
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


class ControlError(Exception):
    """A refused request. `message` says what to do; `headers` are added to the answer."""

    def __init__(self, code: Code, message: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.headers = code, message, headers


def source_gone(source_id: str) -> ControlError:
    """Return the error for a source that has been deleted."""
    return ControlError(Code.SOURCE_GONE, f"Source {source_id} has been deleted. Upload the video again.")
