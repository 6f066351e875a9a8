"""Rules that control, adapters and runner share."""

from __future__ import annotations

from infra import ports
from runner import retry


def test_the_runner_retries_the_same_statuses_as_control() -> None:
    statuses = range(100, 600)
    assert [*map(retry.is_transient, statuses)] == [*map(ports.is_transient, statuses)]
    assert [*filter(ports.is_transient, statuses)] == [408, 429, *range(500, 600)]
