"""The three calls to control: claim, heartbeat, finish.

No error and no log line may hold a header, the token or a body.
"""

from __future__ import annotations

import time
from threading import Event
from typing import Literal, TypeVar

import urllib3
from pydantic import ValidationError

from runner.contract import (
    CLAIM_TIMEOUT_S,
    Claim,
    Finish,
    Heartbeat,
    HeartbeatAnswer,
    JobSpec,
    Message,
    attempt_path,
)
from runner.retry import RetryableError, is_transient, retrying

CALL_TIMEOUT_S = 10.0
BEAT_TIMEOUT_S = 4.0  # short, since the end of the work waits for a beat under way

Call = Literal["claim", "heartbeat", "finish"]
Shape = TypeVar("Shape", bound=Message)


class CallRefused(Exception):
    """Control refuses this call, and would refuse it again: it does not know this attempt or token."""


class Superseded(CallRefused):
    """Another machine has the attempt, or the attempt has ended. This machine made no error."""


class ControlClient:
    """Makes the calls of one attempt; each names the machine. Safe to use from several threads."""

    def __init__(self, *, base_url: str, attempt_id: str, token: str, machine_id: str) -> None:
        self._base_url, self._attempt_id, self._machine_id = base_url.rstrip("/"), attempt_id, machine_id
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._http = urllib3.PoolManager(retries=False)

    def claim(self, *, stop: Event) -> JobSpec:
        """Return the job. Retries until CLAIM_TIMEOUT_S is over.

        Raises RetryableError when control did not answer in time, Superseded, CallRefused, or Stopped.
        """
        claim, until = Claim(machine_id=self._machine_id), time.monotonic() + CLAIM_TIMEOUT_S
        return retrying(lambda: self._post("claim", claim, JobSpec), stop=stop, until=until)

    def heartbeat(self, beat: Heartbeat) -> HeartbeatAnswer:
        """Return the answer to one try; the next beat retries.

        Raises RetryableError, Superseded, CallRefused.
        """
        beat = beat.model_copy(update={"machine_id": self._machine_id})
        return self._post("heartbeat", beat, HeartbeatAnswer, timeout_s=BEAT_TIMEOUT_S)

    def finish(self, finish: Finish, *, until: float) -> None:
        """Report the end. Retries until `until`, a time of `time.monotonic()`; a stop does not interrupt it.

        Raises RetryableError when control did not answer in time, Superseded, or CallRefused.
        """
        last = finish.model_copy(update={"machine_id": self._machine_id})
        retrying(lambda: self._send("finish", last), stop=Event(), until=until)

    def _post(
        self, call: Call, body: Message, shape: type[Shape], *, timeout_s: float = CALL_TIMEOUT_S
    ) -> Shape:
        content = self._send(call, body, timeout_s=timeout_s)
        try:
            return shape.model_validate_json(content)
        except ValidationError:
            raise RetryableError(f"{call}: the body is not a valid answer") from None

    def _send(self, call: Call, body: Message, *, timeout_s: float = CALL_TIMEOUT_S) -> bytes:
        """Return the body of an answer 200, unchecked."""
        path = attempt_path(self._attempt_id, call)
        try:
            answer = self._http.request(
                "POST",
                self._base_url + path,
                body=body.model_dump_json(),
                headers=self._headers,
                redirect=False,
                timeout=urllib3.Timeout(total=timeout_s),
            )
        except urllib3.exceptions.HTTPError as error:
            raise RetryableError(f"POST {path}: {type(error).__name__}") from None
        _judge(answer.status, where=f"POST {path}: {answer.status}")
        return answer.data


def _judge(status: int, *, where: str) -> None:
    if status == 409:
        raise Superseded(where)
    if is_transient(status):
        raise RetryableError(where)
    if status != 200:
        raise CallRefused(where)
