"""One database for all worlds of a test run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sim.database import Database


@pytest.fixture(scope="session")
def database() -> Iterator[Database]:
    database = Database()
    yield database
    database.close()
