"""One embedded stack for this folder: real control, real S3 server, real local Fly, real runners and FFmpeg.

It ends with the folder: at rest it would take CPU from all later tests.
These tests use the public API alone and know nothing of control's insides.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from control.cli.local import LocalStack, local_stack
from tests.support.clips import make_clip
from tests.support.foreign import Held, Server, served
from tests.support.user import User, sign_in


@pytest.fixture(scope="session")
def theirs() -> Iterator[Server]:
    """A server of somebody else that runners may call."""
    with served() as server:
        yield server


@pytest.fixture(scope="package")
def stack(theirs: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    with ExitStack() as running:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OUTBOUND_ALLOW", theirs.place)
            stack = running.enter_context(local_stack(tmp_path_factory.mktemp("stack")))
        yield stack


@pytest.fixture(scope="package")
def http(stack: LocalStack) -> Iterator[httpx.Client]:
    """A client that is not signed in."""
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        yield client


@pytest.fixture(scope="package")
def user(stack: LocalStack) -> Iterator[User]:
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        sign_in(client, stack.password)
        yield User(client)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="session")
def vertical(clips: Path, ffmpeg: str) -> Path:
    """A vertical clip with sound, whose metadata says more than a result may."""
    tags = ["-metadata", "title=SECRET-TITLE", "-metadata", "comment=SECRET-COMMENT"]
    return make_clip(ffmpeg, clips / "tall one.mp4", *tags, size="90x160", seconds=3)


@pytest.fixture(scope="session")
def landscape(clips: Path, ffmpeg: str) -> Path:
    """A silent landscape clip with odd dimensions."""
    look = {"size": "161x91", "video": "testsrc", "sound": False}
    return make_clip(ffmpeg, clips / "wide.mp4", "-pix_fmt", "yuv444p", **look, seconds=3, rate=25)


@pytest.fixture(scope="session")
def slow(clips: Path, ffmpeg: str) -> Path:
    """A clip that takes a few seconds for each variation, so that something can happen meanwhile."""
    return make_clip(ffmpeg, clips / "slow.mp4", "-g", "30", size="640x480", seconds=4, sound=False)


@pytest.fixture
def held(theirs: Server, landscape: Path) -> Iterator[Held]:
    """A video whose job is at work until the test lets go of it."""
    held = theirs.hold(landscape.read_bytes())
    yield held
    held.let_go()


@pytest.fixture(scope="package")
def source(user: User, landscape: Path) -> str:
    """The id of a tiny uploaded source."""
    return user.upload(landscape)
