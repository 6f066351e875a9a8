"""Requests to control, and its refusals as errors."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import httpx

LOGIN_PATH = "/api/auth"
BUSY_TRIES = 10  # retries of a call: a 503 with Retry-After has done nothing
# 409: the first request with the same Idempotency-Key is still being answered, and its connection broke
BUSY = (httpx.codes.CONFLICT, httpx.codes.SERVICE_UNAVAILABLE)


class ApiError(Exception):
    """Control refused the request. The message is from control and made for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Api:
    """Control behind an httpx client. Raises ApiError for a refusal, httpx.HTTPError without an answer."""

    def __init__(self, http: httpx.Client) -> None:
        self._http, self._password = http, ""

    @property
    def url(self) -> str:
        """The address of control."""
        return str(self._http.base_url)

    def use_token(self, token: str) -> None:
        """Send this bearer token with every request from now on."""
        self._http.headers["Authorization"] = f"Bearer {token}"

    def sign_in(self, password: str) -> None:
        """Get a token for the password. It lives for a day, so a later 401 gets another one."""
        self.use_token(self.call("POST", LOGIN_PATH, json={"password": password}).json()["token"])
        self._password = password

    def call(self, method: str, path: str, **content: Any) -> httpx.Response:
        """Return the answer to a request. Waits as long as control says while it is too busy to answer."""
        answer = self._answer(method, path, **content)
        for _ in range(BUSY_TRIES):
            pause_s = _pause_s(answer) if answer.status_code in BUSY else None
            if pause_s is None:
                break
            time.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311
            answer = self._answer(method, path, **content)
        _check(answer)
        return answer

    def _answer(self, method: str, path: str, **content: Any) -> httpx.Response:
        """Return the answer to one request. After a token that was too old it is sent once more."""
        answer = self._http.request(method, path, **content)
        if self._must_sign_in(answer):
            answer = self._http.request(method, path, **content)
        return answer

    @contextmanager
    def stream(self, path: str, **content: Any) -> Iterator[httpx.Response]:
        """Yield the answer to a GET whose body the caller reads."""
        with ExitStack() as stack:
            answer = stack.enter_context(self._http.stream("GET", path, **content))
            if self._must_sign_in(answer):
                answer = stack.enter_context(self._http.stream("GET", path, **content))
            if answer.is_error:
                answer.read()
            _check(answer)
            yield answer

    def _must_sign_in(self, answer: httpx.Response) -> bool:
        """Return whether the token was too old; there is a fresh one then."""
        is_refused = answer.status_code == httpx.codes.UNAUTHORIZED
        if not is_refused or not self._password or answer.request.url.path == LOGIN_PATH:
            return False
        self.sign_in(self._password)
        return True


def address(id_: str) -> str:
    """Return the path of a job or batch: the prefix of an id says what it is."""
    noun = "jobs" if id_.startswith("job_") else "batches"
    return f"/api/{noun}/{segment(id_)}"


def segment(id_: str) -> str:
    """Return an id as one segment of a path."""
    return quote(id_, safe="")


def _pause_s(answer: httpx.Response) -> float | None:
    """Return the seconds until the time in `Retry-After`, which RFC 9110 writes as seconds or as a date.

    None: the answer names no time.
    """
    value = answer.headers.get("Retry-After", "")
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", value):
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    return max(0.0, (at.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds())  # it is always in GMT


def _check(answer: httpx.Response) -> None:
    if answer.is_error:
        try:
            error = answer.json()["error"]
            raise ApiError(answer.status_code, error["code"], error["message"])
        except (ValueError, KeyError, TypeError):
            text = f"{answer.request.url.path} answered {answer.status_code}"
            raise ApiError(answer.status_code, "unknown", text) from None
