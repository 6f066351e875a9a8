"""Where no jail can be made, all but the tests of the jail itself run without one."""

from __future__ import annotations

import pytest

from runner import jail
from tests.support.jails import trouble


@pytest.fixture(scope="session", autouse=True)
def _a_jail_if_possible() -> None:
    if trouble():
        jail.turn_off()
