"""Answers to clients when the storage fails."""

from __future__ import annotations

import asyncio

import pytest

from control.app import create_app
from infra.ports import OutsideError, Refusal, Refused, Unanswered


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Unanswered("cut"), 503, b"unavailable"),
        (Refused(Refusal.UNAUTHORIZED, "our key"), 503, b"unavailable"),
        (Refused(Refusal.INVALID, "our mistake"), 500, b"internal"),
    ],
    ids=str,
)
def test_only_an_unanswered_call_is_reported_as_unavailable(settings, error, status, code):
    answer = asyncio.run(create_app(settings).exception_handlers[OutsideError](None, error))
    assert (answer.status_code, code in answer.body) == (status, True)
    assert ("Retry-After" in answer.headers) == isinstance(error, Unanswered), "a client may ask again"
