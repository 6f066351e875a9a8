"""Readiness: open to anybody, checked once for all callers, and answered quickly even if a service hangs."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace

import pytest
from fastapi import Response

from control.passes.bucket_rules import check_bucket_rules
from control.passes.observe import observe
from control.routes import health
from control.store import database
from infra.ports import Refusal, Refused, Unanswered


class Bucket:
    """Counts the looks; `answer` is raised if there is one, once `answers` is set."""

    def __init__(self) -> None:
        self.looks = 0
        self.answer: Exception | None = None
        self.answers = threading.Event()
        self.answers.set()

    def check(self) -> None:
        self.looks += 1
        assert self.answers.wait(30)
        if self.answer:
            raise self.answer


@pytest.fixture
def bucket():
    bucket = Bucket()
    yield bucket
    bucket.answers.set()


class Asked:
    """The route, as a server would call it: on one event loop, many at a time."""

    def __init__(self, context, bucket) -> None:
        routes = health.routes(replace(context, storage=bucket)).routes
        self._ready = next(route.endpoint for route in routes if route.name == "ready")
        self.response = Response()

    def __call__(self):
        return self.together(1)[0]

    def together(self, count: int):
        async def all_of_them():
            return await asyncio.gather(*(self._ready(self.response) for _ in range(count)))

        return asyncio.run(all_of_them())


@pytest.fixture
def ready(context, bucket):
    return Asked(context, bucket)


@pytest.fixture
def _no_pause(monkeypatch):
    monkeypatch.setattr(health, "LOOK_EVERY_S", 0)


def test_many_readiness_checks_call_the_bucket_once(ready, bucket, monkeypatch):
    monkeypatch.setattr(health, "LOOK_EVERY_S", 3600)
    assert [answer.ready for answer in ready.together(45)] == [True] * 45
    assert ready().ready
    assert bucket.looks == 1


@pytest.mark.usefixtures("_no_pause")
def test_a_fly_that_does_not_answer_is_named_until_it_does(context, ready, machines):
    machines.is_away = Unanswered("away")
    observe(context)
    assert ready().parts == {"database": "ok", "storage": "ok", "machines": "does not answer"}
    machines.is_away = None
    context.cloud.observed_at = None
    observe(context)
    assert ready().ready


@pytest.mark.usefixtures("_no_pause")
def test_a_part_that_fails_later_is_noticed_and_named(ready, bucket):
    assert ready().ready
    bucket.answer = Unanswered("away")
    assert ready().parts == {"database": "ok", "storage": "does not answer", "machines": "ok"}
    assert ready.response.status_code == 503


@pytest.mark.usefixtures("_no_pause")
def test_while_the_bucket_hangs_the_last_look_is_told_and_none_is_begun_beside_it(ready, bucket, monkeypatch):
    monkeypatch.setattr(health, "ANSWER_S", 0.05)
    assert ready().ready
    bucket.answers.clear()
    assert all(answer.ready for answer in ready.together(45)), "it answered a moment ago"
    assert bucket.looks == 2
    ready.together(45)
    looks = [thread for thread in threading.enumerate() if thread.name == "look at storage"]
    assert (bucket.looks, len(looks)) == (2, 1)


@pytest.mark.usefixtures("_no_pause")
def test_a_bucket_that_hangs_is_named_when_the_last_look_is_old_or_there_is_none(ready, bucket, monkeypatch):
    monkeypatch.setattr(health, "ANSWER_S", 0.05)
    monkeypatch.setattr(health, "FIRST_S", 0.05)
    bucket.answers.clear()
    assert ready().parts["storage"] == "does not answer"
    bucket.answers.set()
    while not ready().ready:
        time.sleep(0.01)
    bucket.answers.clear()
    monkeypatch.setattr(health, "KEPT_S", 0.3)
    while ready().ready:
        time.sleep(0.01)
    assert ready().parts["storage"] == "does not answer"


@pytest.mark.usefixtures("_no_pause")
def test_a_full_disk_is_reported(ready, monkeypatch):
    assert ready().ready
    monkeypatch.setattr(database, "ROOM_BYTES", 2**62)  # as much as no disk has
    assert ready().parts["database"] == "its disk cannot be written to"
    assert ready.response.status_code == 503


class RuledBucket(Bucket):
    """A bucket with rules; `refuses` is raised when it is asked to set some."""

    def __init__(self, *allowed: str, refuses: Exception | None = None) -> None:
        super().__init__()
        self.allowed, self.refuses = frozenset(allowed), refuses

    def allowed_origins(self) -> frozenset[str]:
        return self.allowed

    def set_rules(self, origins) -> str | None:
        if self.refuses:
            raise self.refuses
        self.allowed = frozenset(origins)
        return "no lifecycle"


@pytest.mark.usefixtures("_no_pause")
@pytest.mark.parametrize(
    ("bucket", "state"),
    [
        (RuledBucket(), "ok"),
        (RuledBucket("http://control.test"), "ok"),
        (RuledBucket("*"), "ok"),
        (
            RuledBucket("https://other.example"),
            "the bucket's CORS rule lacks http://control.test; run: refresher bucket-rules",
        ),
        (
            RuledBucket(refuses=Refused(Refusal.UNAUTHORIZED, "no")),
            "the bucket refuses its CORS rule; run: refresher bucket-rules",
        ),
    ],
)
def test_a_bucket_rule_that_is_missing_is_set_and_one_that_is_wrong_is_named_and_left(context, bucket, state):
    before = bucket.allowed
    context = replace(context, storage=bucket)
    check_bucket_rules(context)
    assert Asked(context, bucket)().parts["storage"] == state
    assert bucket.allowed == before or not before


@pytest.mark.usefixtures("_no_pause")
def test_an_app_that_refuses_our_token_is_named(context, ready, machines):
    machines.refused_apps = {"runners"}
    context.cloud.observed_at = None
    observe(context)
    assert ready().parts["machines"] == "Fly refuses our token for the app runners"
    assert ready.response.status_code == 503
