"""The rights of an attempt's token, over real HTTP: one attempt, for one machine, until its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from control.auth.tokens import Signer
from infra.local.s3_server import LocalS3
from runner.contract import Claim, Finish, Heartbeat, Message, Timings, Usage, attempt_path
from tests.support.maker import Maker, code, making

CALLS = ("claim", "heartbeat", "finish")
SUPERSEDED, UNAUTHORIZED = (409, "superseded"), (401, "unauthorized")


def message(call: str, machine_id: str) -> Message:
    if call == "claim":
        return Claim(machine_id=machine_id)
    if call == "heartbeat":
        return Heartbeat(seq=1, outputs=[], machine_id=machine_id)
    usage = Usage(wall_s=1, cpu_s=1, timings=Timings())
    return Finish(seq=9, outcome="error", outputs=[], usage=usage, machine_id=machine_id)


def send(maker: Maker, attempt_id: str, call: Any, machine_id: str, *, token: str) -> httpx.Response:
    return maker.http.post(
        attempt_path(attempt_id, call),
        json=message(call, machine_id).model_dump(mode="json"),
        headers={"Authorization": f"Bearer {token}"},
    )


@pytest.fixture
def running(maker: Maker) -> tuple[str, str]:
    """An attempt that runs, and its machine's id."""
    attempt_id = maker.claim(maker.submit(variations=1)["jobs"][0]["job_id"]).attempt_id
    return attempt_id, f"m-{attempt_id}"


@pytest.fixture
def foreign(maker: Maker, running: tuple[str, str]) -> Mapping[str, str]:
    """Every other token that somebody near could have."""
    (attempt_id, _), signer = running, maker.signer
    job_id, other = attempt_id.rpartition("-")[0], maker.submit(variations=1)
    own = signer.attempt_token(attempt_id)
    return {
        "none": "none",
        "the next attempt's": signer.attempt_token(f"{job_id}-2"),
        "another job's": signer.attempt_token(f"{other['jobs'][0]['job_id']}-1"),
        "its job's": signer.attempt_token(job_id),
        "a user's": maker.http.headers["Authorization"].removeprefix("Bearer "),
        "its batch's ticket": other["ticket"],
        "of another secret": Signer("another").attempt_token(attempt_id),
        "cut": own[:-1],
        "changed": ("0" if own[0] != "0" else "1") + own[1:],
    }


@pytest.mark.parametrize("call", CALLS)
def test_no_other_token_opens_an_attempt(maker, running, foreign, call):
    attempt_id, machine_id = running
    answers = {
        name: code(send(maker, attempt_id, call, machine_id, token=token)) for name, token in foreign.items()
    }
    assert answers == dict.fromkeys(foreign, UNAUTHORIZED)


def test_the_token_of_an_attempt_opens_nothing_of_a_user(maker, running):
    headers = {"Authorization": f"Bearer {maker.signer.attempt_token(running[0])}"}
    job_id = running[0].rpartition("-")[0]
    for path in ("jobs", "batches", "machines", "costs", f"jobs/{job_id}", f"jobs/{job_id}/events"):
        assert code(maker.http.get(f"/api/{path}", headers=headers)) == UNAUTHORIZED


@pytest.mark.parametrize("call", CALLS)
def test_another_machine_is_refused_with_the_right_token(maker, running, call):
    attempt_id, _ = running
    token = maker.signer.attempt_token(attempt_id)
    assert code(send(maker, attempt_id, call, "another", token=token)) == SUPERSEDED
    assert maker.show(attempt_id.rpartition("-")[0])["status"] == "running"


def test_the_machine_of_the_claim_may_repeat_its_claim_and_continues(maker, running):
    attempt_id, machine_id = running
    token = maker.signer.attempt_token(attempt_id)
    answers = [send(maker, attempt_id, call, machine_id, token=token) for call in CALLS]
    assert [answer.status_code for answer in answers] == [200] * 3


@pytest.mark.parametrize("call", CALLS)
def test_after_the_end_of_its_attempt_a_token_changes_nothing(maker, running, call):
    attempt_id, machine_id = running
    token, job_id = maker.signer.attempt_token(attempt_id), attempt_id.rpartition("-")[0]
    usage = Usage(wall_s=2, cpu_s=1, timings=Timings())
    end = Finish(seq=8, outcome="error", outputs=[], usage=usage, machine_id=machine_id)
    assert maker.call(attempt_id, "finish", end).status_code == 200
    ended = maker.show(job_id)["attempts"]
    assert code(send(maker, attempt_id, call, machine_id, token=token)) == SUPERSEDED
    assert maker.show(job_id)["attempts"] == ended


@pytest.mark.parametrize("secret", ["TOKEN_SECRET", "TOKEN_SECRET_PREVIOUS"])
def test_a_running_attempt_continues_after_the_secret_was_rotated(tmp_path: Path, s3: LocalS3, secret: str):
    """Its machine has the token of the old secret; a page too goes on with its own."""
    with making(tmp_path, s3, token_secret="the old secret") as before:
        spec = before.claim(before.submit(variations=1)["jobs"][0]["job_id"])
        bearer = before.http.headers["Authorization"]
    is_kept = secret == "TOKEN_SECRET_PREVIOUS"
    previous = "the old secret" if is_kept else None
    with making(tmp_path, s3, token_secret="the new secret", token_secret_previous=previous) as after:
        token, machine_id = before.signer.attempt_token(spec.attempt_id), f"m-{spec.attempt_id}"
        answers = [send(after, spec.attempt_id, call, machine_id, token=token) for call in CALLS]
        page = after.http.get("/api/jobs", headers={"Authorization": bearer})
    assert [answer.status_code for answer in [*answers, page]] == [200 if is_kept else 401] * 4
