"""Another control: its results expire after a second, and its page is also hosted elsewhere."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from control.cli.local import LocalStack, local_stack
from control.routes.page import BUILT
from tests.support.clips import Clip
from tests.support.processes import until
from tests.support.user import User, sign_in
from tests.web.browser import Person

RETENTION_HOURS = "0.0003"
WRONG_MAX = 50  # far more tries than anyone is allowed


class Quiet(SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class Host:
    """A static host of a folder."""

    origin: str
    folder: Path


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("static")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever).start()
        yield Host(f"http://127.0.0.1:{server.server_port}", folder)
        server.shutdown()


@pytest.fixture(scope="module")
def fleeting(browser: Browser, host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETENTION_HOURS", RETENTION_HOURS)
        patch.setenv("ALLOWED_ORIGINS", host.origin)
        with local_stack(tmp_path_factory.mktemp("fleeting")) as running:
            yield running


@pytest.fixture
def visitor(context: BrowserContext, fleeting: LocalStack) -> Person:
    return Person(context, fleeting.url, fleeting.password)


def test_the_page_of_another_origin_makes_a_batch(visitor: Person, host: Host, clip: Clip) -> None:
    shutil.copytree(BUILT, host.folder / "page")
    index = host.folder / "page/index.html"
    line = '<meta name="refresher-api" content="'
    index.write_text(index.read_text().replace(line, line + visitor.url))
    visitor.url = f"{host.origin}/page"
    visitor.enter()
    visitor.choose(clip("abroad.mp4"))
    expect(visitor.video("abroad.mp4")).to_contain_text("Ready")
    visitor.make(1)
    visitor.sees("1 of 1 ready")
    visitor.open_details()
    expect(visitor.page.get_by_role("region", name="Events")).to_contain_text("Rendering")


def test_an_expired_batch_is_shown_as_such(visitor: Person, fleeting: LocalStack, clip: Clip) -> None:
    with httpx.Client(base_url=fleeting.url, timeout=30) as client:
        sign_in(client, fleeting.password)
        api = User(client)
        batch_id = api.submit(api.upload(clip("brief.mp4")), variations=1)["batch_id"]
        until(lambda: api.show(batch_id)["status"] == "expired")
    visitor.enter(f"#/batches/{batch_id}")
    visitor.sees("1 of 1 made, removed")
    visitor.sees("have expired and were removed on")
    expect(visitor.page.get_by_role("button", name="Download")).to_have_count(0)
    assert visitor.barriers() == []
    visitor.page.get_by_role("link", name="Batches").click()
    expect(visitor.page.locator(f"a[href$='{batch_id}']")).to_contain_text("Expired")


def test_after_too_many_wrong_passwords_one_sees_how_long_to_wait(visitor: Person) -> None:
    clock, button = visitor.page.clock, visitor.page.get_by_role("button", name="Sign in")
    clock.install()
    visitor.open()
    clock.pause_at(datetime.now(UTC) + timedelta(hours=1))  # the first wait is a second: it is over soon
    for _ in range(WRONG_MAX):
        with visitor.page.expect_response("**/api/auth") as answer:
            visitor.sign_in("wrong")
        if answer.value.status == 429:
            break
    visitor.sees("You can try again in")
    expect(button).to_be_disabled()
    clock.resume()
    expect(button).to_be_enabled()
    assert visitor.barriers() == []
