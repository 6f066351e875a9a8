"""Readiness: the parts are asked once for many who look at the same time."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fastapi import Response

from control.api import health
from control.observe import observe
from infra.ports import Unanswered


class Bucket:
    """Counts the looks; `answer` is raised if there is one."""

    looks = 0
    answer: Exception | None = None

    def check(self) -> None:
        self.looks += 1
        if self.answer:
            raise self.answer


@pytest.fixture
def bucket():
    return Bucket()


def ready_route(parts, bucket):
    routes = health.routes(replace(parts, storage=bucket)).routes
    return next(route.endpoint for route in routes if route.name == "ready")


def test_many_looks_in_a_moment_ask_the_bucket_once(parts, bucket, monkeypatch):
    monkeypatch.setattr(health, "LOOK_EVERY_S", 3600)
    ready = ready_route(parts, bucket)
    assert [ready(Response()).ready for _ in range(5)] == [True] * 5
    assert bucket.looks == 1


def test_a_fly_that_does_not_answer_is_named_until_it_does(parts, bucket, machines, monkeypatch):
    monkeypatch.setattr(health, "LOOK_EVERY_S", 0)
    ready, response = ready_route(parts, bucket), Response()
    machines.is_away = Unanswered("away")
    observe(parts)
    assert ready(response).parts == {"database": "ok", "storage": "ok", "machines": "does not answer"}
    machines.is_away = None
    parts.cloud.observed_at = None
    observe(parts)
    assert ready(response).ready


def test_a_part_that_fails_later_is_noticed_and_named(parts, bucket, monkeypatch):
    monkeypatch.setattr(health, "LOOK_EVERY_S", 0)
    ready, response = ready_route(parts, bucket), Response()
    assert ready(response).ready
    bucket.answer = Unanswered("away")
    assert ready(response).parts == {"database": "ok", "storage": "does not answer", "machines": "ok"}
    assert response.status_code == 503
