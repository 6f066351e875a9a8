"""The page goes on: after lost answers, a restart of control, a bucket that hangs, a laptop that sleeps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import BrowserContext, Route, expect

from control.app import create_app
from control.settings import load_settings
from infra.local.s3_server import LocalS3
from infra.local.serve import listen, serving, url_of
from infra.s3 import TigrisStorage
from tests.support.clips import Clip
from tests.support.maker import settings_of
from tests.support.user import User, sign_in
from tests.web.browser import NETWORK_ERROR, Person

HOUR_S = 3600
SILENCE_S = 75  # longer than the page waits for a sign of the bucket
STEPS = {
    "POST uploads",
    "PUT part",
    "GET upload",
    "POST complete",
    "POST quote",
    "POST batches",
    "GET batch",
    "GET events",
    "GET poster",
    "POST download-link",
}


def test_whatever_is_cut_off_is_done_after_all_and_only_once(person: Person, api: User, clip: Clip) -> None:
    lost: dict[str, int] = {}
    is_back: list[bool] = []

    def lose(route: Route) -> None:
        step = step_of(route)
        lost[step] = lost.get(step, 0) + 1
        if step not in STEPS or (is_back if step == "POST complete" else lost[step] > 1):
            return route.continue_()
        if step == "PUT part":  # as after a day: the signature of its URL has expired
            return route.fulfill(status=403, headers={"Access-Control-Allow-Origin": "*"})
        if route.request.method == "POST":
            route.fetch()  # it is done, and its answer is lost
        return route.abort()

    before = len(batches(api))
    person.page.route(re.compile("/api/(?!auth)|uploadId="), lose)
    person.choose(clip("cut.mp4"))
    line = person.video("cut.mp4")
    expect(line).to_contain_text("Waiting for Video Refresher")
    person.sees("Next try in")
    assert person.barriers() == []
    is_back.append(True)
    expect(line).to_contain_text("Ready")
    expect(person.page.locator(".price")).to_contain_text("until done")
    batch_id = person.make(1)
    assert person.wait_for_end() == "Done"
    expect(person.page.locator(".tile img")).to_have_count(0)
    person.open_details()
    expect(person.page.get_by_role("region", name="Events")).to_contain_text("Done")
    with person.page.expect_download() as started:
        person.press("Download")
    assert started.value.path().stat().st_size > 0
    expect(person.page.locator(".tile img")).to_have_js_property("naturalWidth", 160)
    assert lost.keys() >= STEPS
    assert len(batches(api)) == before + 1
    assert batches(api)[0]["batch_id"] == batch_id


def test_the_page_outlives_a_restart_a_bucket_that_hangs_and_an_hour_of_sleep(
    newcomer_there: Person, theirs: Control, clip: Clip
) -> None:
    person, page = newcomer_there, newcomer_there.page
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.clock.install()
    person.enter()
    page.clock.fast_forward(1000 * SILENCE_S)  # control has time to fall asleep
    page.route("**/api/uploads", hold)
    person.choose(clip("early.mp4"))
    person.sees("Waking up")
    theirs.stop()
    held.pop().continue_()
    page.unroute_all()
    line = person.video("early.mp4")
    expect(line).to_contain_text("Waiting for Video Refresher")
    expect(line).not_to_contain_text("What was sent is kept")
    person.sees("Next try in")
    page.clock.pause_at(page.evaluate("Date.now()") + 5000)  # no try by itself
    theirs.start()
    person.press("Try now")
    expect(line).to_contain_text("Ready")
    page.clock.resume()

    page.route(re.compile("uploadId="), hold)
    with page.expect_request(re.compile("uploadId=")):
        person.choose(clip("late.mp4"))
    page.clock.fast_forward(1000 * SILENCE_S)
    expect(person.video("late.mp4")).to_contain_text("Waiting for the storage")
    page.unroute_all()
    expect(person.video("late.mp4")).to_contain_text("Ready")

    page.get_by_label("How many variations").fill("1")
    with person.offline():
        person.press("Make 2 videos")
        person.press("Wait, not yet")
        person.sees("Perhaps it has started all the same")
    person.make(1)
    person.sees("0 of 2 ready")

    with person.offline():
        person.press("Delete")
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(page.get_by_role("dialog")).to_contain_text("Next try in")
        person.press("Keep it")
    person.sees("0 of 2 ready")

    theirs.revoke()  # so that the session and its tickets are over, as after a day
    with page.expect_response(lambda answer: "/events" in answer.url and answer.status == 200):
        page.clock.fast_forward(1000 * HOUR_S)
        person.sees("Your session has ended")
        person.sign_in()
    expect(page.get_by_text("Your session has ended")).to_have_count(0)
    assert [text for text in person.complaints if NETWORK_ERROR not in text] == []


class Control:
    """A control with a real bucket whose Fly does not answer. It keeps its address over a restart."""

    def __init__(self, folder: Path, s3: LocalS3) -> None:
        with listen() as free:
            self.url, self._port = url_of(free), free.getsockname()[1]
        self._settings = load_settings(**{**settings_of(folder, s3), "public_url": self.url})
        self.password = self._settings.auth_password.get_secret_value()
        self._running = ExitStack()
        TigrisStorage(**asdict(s3)).set_rules([self.url])

    def start(self) -> None:
        self._running.enter_context(serving(create_app(self._settings), port=self._port))

    def stop(self) -> None:
        self._running.close()

    def revoke(self) -> None:
        """Make all tokens and tickets stop working."""
        with httpx.Client(base_url=self.url, timeout=30) as http:
            sign_in(http, self.password)
            http.post("/api/auth/revoke").raise_for_status()


@pytest.fixture
def theirs(s3: LocalS3, tmp_path: Path) -> Iterator[Control]:
    control = Control(tmp_path, s3)
    control.start()
    yield control
    control.stop()


@pytest.fixture
def newcomer_there(context: BrowserContext, theirs: Control) -> Person:
    return Person(context, theirs.url, theirs.password)


def step_of(route: Route) -> str:
    method, path = route.request.method, route.request.url.partition("?")[0].rpartition("/")[2]
    if method == "PUT":
        return "PUT part"
    kind = {"bat_": "batch", "upl_": "upload"}.get(path[:4], path)
    return f"{method} {kind}"


def batches(api: User) -> list[dict[str, object]]:
    found: list[dict[str, object]] = api.http.get("/api/batches?limit=100").raise_for_status().json()["items"]
    return found
