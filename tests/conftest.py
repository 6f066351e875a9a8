"""Real peers for the tests: an S3 server and FFmpeg. Nothing here may reach beyond this machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import imageio_ffmpeg
import pytest

from infra.local.s3_server import LocalS3, local_s3
from infra.s3 import TigrisStorage

ORDER = ("chaos", "e2e", "sim", "runner", "intake", "infra", "control", "web")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest first, so that workers beside each other end together, and the browser last.

    Its driver keeps an event loop in the thread of the tests: no other can be run there afterwards.
    """
    items.sort(key=lambda item: ORDER.index(item.path.parent.name) if item.path.parent.name in ORDER else 0)


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
