"""The budget that limits the memory of encoders."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from runner.memory import MemoryBudget, free_bytes
from runner.stop import Stop, Stopped


def test_who_does_not_fit_waits_until_another_is_done() -> None:
    budget, first_in, let_go, order = MemoryBudget(10, Stop()), threading.Event(), threading.Event(), []

    def first() -> None:
        with budget.lent(6):
            first_in.set()
            let_go.wait(10)
            order.append("first")

    def second() -> None:
        first_in.wait(10)
        let_go_soon = threading.Timer(0.05, let_go.set)
        let_go_soon.start()
        with budget.lent(6):
            order.append("second")

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(first), pool.submit(second)]:
            done.result(10)
    assert order == ["first", "second"]


def test_who_needs_more_than_there_is_gets_all_of_it() -> None:
    budget = MemoryBudget(10, Stop())
    with budget.lent(1000):
        pass
    with budget.lent(10):
        pass


@pytest.mark.parametrize("limit", [0, -5])
def test_with_no_memory_left_one_at_a_time_still_works(limit: int) -> None:
    stop = Stop()
    budget = MemoryBudget(limit, stop)
    with budget.lent(100):
        stop.set()
        with pytest.raises(Stopped), budget.lent(100):
            pass


def test_files_that_are_there_count_until_they_are_gone() -> None:
    stop = Stop()
    budget = MemoryBudget(10, stop)
    budget.hold(8)
    stop.set()
    with pytest.raises(Stopped), budget.lent(5):
        pass
    budget.hold(-8)
    with budget.lent(10):
        pass


def test_this_machine_has_some_memory() -> None:
    assert free_bytes() > 0
