"""The planner's constants are those that the bench measured last (`python -m bench.work`)."""

from __future__ import annotations

import json

import pytest

from bench.work import FIGURES
from control.planning.workload import LEADER_S, SIBLING_S


def test_a_leader_and_a_sibling_cost_what_the_bench_measured_last() -> None:
    """How they compare travels between machines; how long they take is learned from finished jobs."""
    measured = json.loads(FIGURES.read_text())
    leader_to_sibling = LEADER_S / SIBLING_S
    assert leader_to_sibling == pytest.approx(measured["leader_s"] / measured["sibling_s"], rel=0.15)
    assert 0.5 < LEADER_S / measured["leader_s"] < 1.5  # a busy machine's seconds are longer
