"""What a machine of the doctor finds of itself, by its exit code."""

from __future__ import annotations

import pytest

from infra.local.serve import serving
from runner import jail, self_test
from runner.contract import SELF_TEST_FAILED, SelfTest

NOBODY = "http://127.0.0.1:1"


async def refusing(scope, receive, send):
    """Answer everything as a bucket answers what nobody signed for."""
    if scope["type"] == "lifespan":
        return
    await send({"type": "http.response.start", "status": 403, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture(autouse=True)
def _no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test, "end_after", lambda _: None)
    monkeypatch.setattr(self_test, "REACH_WITHIN_S", 0.0)
    monkeypatch.setattr(jail, "check", lambda _: None)


def test_a_bucket_may_refuse_what_nobody_signed_for_and_control_must_say_that_it_is_well(capfd):
    with serving(refusing) as url:
        assert self_test.main([url, url]) == SELF_TEST_FAILED + SelfTest.CONTROL
    assert "it answered 403" in capfd.readouterr().err
    assert self_test.main([NOBODY, NOBODY]) == SELF_TEST_FAILED + SelfTest.CONTROL + SelfTest.BUCKET


def test_a_machine_without_a_jail_says_so_and_looks_at_the_rest(monkeypatch):
    def no_jail(_: str) -> None:
        raise jail.JailUnavailable("no namespaces")

    monkeypatch.setattr(jail, "check", no_jail)
    assert self_test.main([NOBODY, NOBODY]) == SELF_TEST_FAILED + sum(SelfTest)
