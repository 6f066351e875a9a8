"""Shared clips, and one stack for the tests that leave it whole. CHAOS_FULL=1 makes the long runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clips import make_clip
from tests.support.fixtures import tiny
from tests.support.foreign import Held, Server, served
from tests.support.jails import needs_a_jail
from tests.support.stack import Patient, Stack, running, signed_in


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "chaos" in str(item.path) and not Path("/proc/self/cwd").exists():
            item.add_marker(pytest.mark.skip(reason="needs /proc to find what a killed parent left"))


@pytest.fixture(scope="session", autouse=True)
def _runners_that_work() -> None:
    """A control that is no `serve --local` never lets runners go without a jail."""
    needs_a_jail()


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory, ffmpeg: str) -> Path:
    """A clip of which a variation takes long enough for something to happen meanwhile."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return make_clip(ffmpeg, path, "-g", "30", size="640x360", seconds=4, sound=False)


@pytest.fixture(scope="session")
def theirs() -> Iterator[Server]:
    """A server of somebody else that runners may call."""
    with served() as server:
        yield server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, theirs: Server) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("stack"), OUTBOUND_ALLOW=theirs.place) as stack:
        yield stack


@pytest.fixture
def stack(shared: Stack) -> Stack:
    """The module's stack, with every part running."""
    shared.start()
    return shared


@pytest.fixture
def user(stack: Stack) -> Iterator[Patient]:
    with signed_in(stack) as patient:
        yield patient


@pytest.fixture(scope="module")
def source(shared: Stack, tiny: Path) -> str:
    """The id of a source of which a variation takes a moment."""
    shared.start()
    with signed_in(shared) as patient:
        return patient.upload(tiny)


@pytest.fixture
def held(theirs: Server, tiny: Path) -> Iterator[Held]:
    """A video whose job is at work until the test lets go of it."""
    held = theirs.hold(tiny.read_bytes())
    yield held
    held.let_go()


__all__ = ["tiny"]
