"""Whether a process makes progress, with a clock and CPU time from the test."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from runner.pulse import HANG_S, Pulse, cpu_s_of


class World:
    """A process: its clock and its CPU seconds."""

    def __init__(self, cpu_s: float | None = 3.0) -> None:
        self.now_s, self.cpu_s = 100.0, cpu_s
        self.pulse = Pulse(1, cpu_s=lambda _: self.cpu_s, clock=lambda: self.now_s)

    def gone_after_s(self, *, most_s: float, cpu_share: float = 0.0, step_s: float = 0.1) -> float | None:
        """Return after how long it is given up, or None."""
        begun_s = self.now_s
        while self.now_s - begun_s < most_s:
            if self.pulse.is_gone():
                return self.now_s - begun_s
            self.now_s += step_s
            if self.cpu_s is not None:
                self.cpu_s += step_s * cpu_share
        return None


def test_what_neither_moves_nor_works_is_ended_after_a_minute() -> None:
    after_s = World().gone_after_s(most_s=300)
    assert after_s
    assert HANG_S <= after_s < HANG_S + 1


def test_the_little_that_a_waiting_ffmpeg_takes_is_no_work() -> None:
    assert World().gone_after_s(most_s=300, cpu_share=1 / 3000)


def test_a_slow_process_that_works_a_hundredth_of_the_time_is_waited_for() -> None:
    assert World().gone_after_s(most_s=3600, cpu_share=0.01) is None


def test_what_moves_just_in_time_is_waited_for() -> None:
    world = World()
    for _ in range(10):
        assert world.gone_after_s(most_s=HANG_S - 1) is None
        world.pulse.moved()


def test_a_machine_that_slept_for_an_hour_has_not_hung_its_process() -> None:
    world = World()
    for _ in range(20):
        assert world.gone_after_s(most_s=1) is None
        world.now_s += 3600


def test_where_cpu_time_cannot_be_known_nothing_fails() -> None:
    assert World(cpu_s=None).gone_after_s(most_s=600) is None


def test_the_cpu_time_of_a_real_group_rises_as_it_works_and_is_unknown_when_it_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) as busy:
        try:
            deadline = time.monotonic() + 30
            while not cpu_s_of(busy.pid):
                assert time.monotonic() < deadline
                time.sleep(0.05)
        finally:
            os.killpg(busy.pid, 9)
    assert cpu_s_of(busy.pid) is None
