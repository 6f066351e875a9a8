"""Real peers for the tests: an S3 server and FFmpeg. Nothing here may reach beyond this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import hypothesis
import imageio_ffmpeg
import pytest

from infra.local.s3_server import LocalS3, local_s3
from infra.s3 import TigrisStorage

hypothesis.settings.register_profile("busy machines", deadline=None)
hypothesis.settings.load_profile("busy machines")

TESTS = Path(__file__).parent
ORDER = ("client", "chaos", "e2e", "images", "sim", "runner", "infra", "control", "web")

# What `make test-fast` leaves out: whole suites, tests that ask for a real peer, and those marked `peer`.
SUITES_OF_STACKS = {"chaos", "e2e", "images", "sim", "web"}
PEERS = {"ffmpeg", "s3", "postgres"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the fast tests, and run the longest first, so that workers beside each other end together.

    The browser is last: its driver keeps an event loop in the thread of the tests, where no other can be
    run afterwards.
    """
    for item in items:
        if needs_no_peer(item):
            item.add_marker("fast")
    items.sort(key=lambda item: ORDER.index(suite(item)) if suite(item) in ORDER else 0)


def needs_no_peer(item: pytest.Item) -> bool:
    """Return whether a test runs without S3 server, FFmpeg, PostgreSQL, browser or a stack of processes."""
    asked = set(getattr(item, "fixturenames", ()))
    variant = getattr(item, "callspec", None)
    is_postgres = variant is not None and variant.params.get("database_url") == "postgresql"
    has_own = suite(item) in SUITES_OF_STACKS or item.get_closest_marker("peer") is not None
    return not (has_own or is_postgres or PEERS & asked)


def suite(item: pytest.Item) -> str:
    """Return the folder below `tests` that a test is in."""
    return item.path.relative_to(TESTS).parts[0]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests recorded of themselves: how many worlds, crashes and hits."""
    for report in [r for kind in ("passed", "failed") for r in terminalreporter.getreports(kind)]:
        for name, text in report.user_properties:
            terminalreporter.write_line(f"{name}: {text}")


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    """Return the path of the pinned FFmpeg."""
    return str(imageio_ffmpeg.get_ffmpeg_exe())


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalS3]:
    with local_s3(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(scope="session")
def storage(s3: LocalS3) -> TigrisStorage:
    return TigrisStorage(**asdict(s3))
