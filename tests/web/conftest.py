"""One embedded stack and one browser for the suite; each test is a person with a fresh profile."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from control.cli.local import LocalStack, local_stack
from control.routes.page import BUILT
from tests.support.clips import Clip, make_clip
from tests.support.foreign import Server, served
from tests.support.user import User, sign_in
from tests.web.browser import NETWORK_ERROR, Person, launch

TRACES = Path(__file__).parents[2] / "test-results"  # of failed tests, for `playwright show-trace FILE`
FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not BUILT.exists():
        pytest.skip("the page is not built here (SKIP_FRONTEND)")
    with sync_playwright() as playwright:
        running = launch(playwright)
        yield running
        running.close()


@pytest.fixture(scope="session")
def foreign() -> Iterator[Server]:
    """A server of somebody else that runners may call."""
    with served() as server:
        yield server


@pytest.fixture(scope="session")
def stack(
    browser: Browser, foreign: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalStack]:
    with ExitStack() as running:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OUTBOUND_ALLOW", foreign.place)
            stack = running.enter_context(local_stack(tmp_path_factory.mktemp("stack")))
        yield stack


@pytest.fixture
def api(stack: LocalStack) -> Iterator[User]:
    """The same API as the page speaks, to compare with."""
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        sign_in(client, stack.password)
        yield User(client)


@pytest.fixture
def context(browser: Browser, request: pytest.FixtureRequest) -> Iterator[BrowserContext]:
    """A fresh profile. A test that fails leaves the trace of it."""
    with browser.new_context(accept_downloads=True) as context:
        context.tracing.start(snapshots=True)
        yield context
        is_failed = request.node.stash[FAILED]
        context.tracing.stop(path=TRACES / f"{request.node.name}.zip" if is_failed else None)


@pytest.fixture
def newcomer(context: BrowserContext, stack: LocalStack) -> Iterator[Person]:
    """Someone who has not signed in. Whatever they do, the page must not complain."""
    person = Person(context, stack.url, stack.password)
    yield person
    assert [line for line in person.complaints if NETWORK_ERROR not in line] == []


@pytest.fixture
def person(newcomer: Person) -> Person:
    """Someone who has."""
    newcomer.enter()
    return newcomer


@pytest.fixture(scope="session")
def clip(ffmpeg: str, tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """Make a clip of this name."""
    folder = tmp_path_factory.mktemp("web clips")

    def made(name: str, *, padding_bytes: int = 0, **look: object) -> Path:
        path = make_clip(ffmpeg, folder / "clip.mp4", **{"size": "160x90", "seconds": 2, **look})
        padding = (padding_bytes + 8).to_bytes(4) + b"free" + bytes(padding_bytes) if padding_bytes else b""
        named = folder / name
        named.write_bytes(path.read_bytes() + padding)
        return named

    return made
