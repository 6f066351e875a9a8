"""Real peers for the tests: an S3 server and FFmpeg. Nothing here may reach beyond this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

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


def need(program: str, *, first: Sequence[Path] = ()) -> str:
    """Return the path of a system program, from the folders `first` or from PATH.

    Without it the test is skipped, or fails when REQUIRE_ALL=1.
    """
    path = shutil.which(program, path=os.pathsep.join([*map(str, first), os.environ.get("PATH", "")]))
    if path:
        return path
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"{program} is not installed, and REQUIRE_ALL=1")
    pytest.skip(f"{program} is not installed")


def unpacker(name: str) -> tuple[str, list[str]]:
    """Return the path of `unzip` or `7z` and its options to test a ZIP; 7-Zip's own name is `7zz`."""
    if name == "unzip":
        return need(name), ["-tqq"]
    return need("7zz" if shutil.which("7zz") else "7z"), ["t", "-bd"]


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
