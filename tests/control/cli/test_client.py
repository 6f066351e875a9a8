"""Retries of the client while control cannot answer."""

from __future__ import annotations

import httpx
import pytest

from control.cli.client import BUSY_TRIES, Client
from control.cli.errors import ApiError


def client(answers: list[httpx.Response]) -> Client:
    http = httpx.Client(
        base_url="http://control.test", transport=httpx.MockTransport(lambda _: answers.pop(0))
    )
    return Client(http)


def busy(**headers: str) -> httpx.Response:
    return httpx.Response(503, headers=headers, json={"error": {"code": "unavailable", "message": "Busy."}})


def test_a_call_that_control_was_too_busy_for_is_repeated_after_retry_after():
    answers = [*(busy(**{"Retry-After": "0"}) for _ in range(BUSY_TRIES)), httpx.Response(200, json={"a": 1})]
    assert client(answers).show("job_1") == {"a": 1}


def test_a_failure_that_does_not_say_when_to_retry_is_reported_at_once():
    answers = [busy(), httpx.Response(200, json={})]
    with pytest.raises(ApiError, match="Busy"):
        client(answers).show("job_1")
    assert len(answers) == 1
