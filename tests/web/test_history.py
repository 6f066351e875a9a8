"""The list of batches, a batch of 1,000, a share link. Outputs are stored by the tests, not rendered."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from playwright.sync_api import Browser, Route, expect

from infra.local.s3_server import LocalS3
from runner.contract import Heartbeat, JobSpec, OutputReport
from tests.support.clips import Clip
from tests.support.maker import Maker, making, stored
from tests.support.settings import SETTINGS
from tests.web.browser import NETWORK_ERROR, SHIFT_MAX, Person

PUBLIC_URL = SETTINGS["public_url"]
OLD = 34  # more than a page
SOURCES, EACH = 10, 100
# What takes a calm machine about 0.1 s, which is as long as people do not notice.
LOOP = "() => { let x = 0; for (let i = 0; i < 2e7; i++) x = (x * 31 + i) | 0; return x; }"
LAID_OUT = """(most) => [...document.querySelectorAll(".tile")]
    .filter((tile) => tile.checkVisibility({ contentVisibilityAuto: true })).length <= most"""
SHOW_MORE = "document.querySelectorAll('.source > button').forEach((more) => more.click())"
READY = "(ready) => document.querySelector('.standing strong').textContent.startsWith(`${ready} of`)"


@pytest.fixture(scope="module")
def maker(browser: Browser, s3: LocalS3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maker]:
    with making(tmp_path_factory.mktemp("history"), s3) as running:
        yield running


@pytest.fixture
def person(browser: Browser, maker: Maker) -> Iterator[Person]:
    """Someone who is signed in. Whatever they do, the page must not complain."""
    with browser.new_context(accept_downloads=True) as context:
        person = Person(context, str(maker.http.base_url).rstrip("/"), SETTINGS["auth_password"])
        context.route(f"{PUBLIC_URL}/**", partial(to_the_real_one, person.url))
        person.enter()
        yield person
        assert [line for line in person.complaints if NETWORK_ERROR not in line] == []


def to_the_real_one(url: str, route: Route) -> None:
    """Answer a link to PUBLIC_URL, where the tests' control does not answer."""
    route.fulfill(response=route.fetch(url=route.request.url.replace(PUBLIC_URL, url)))


def test_batches_are_found_again_by_name_and_picture_and_changed_together(
    person: Person, maker: Maker
) -> None:
    page = person.page
    lines = page.locator(".batch-item")
    for number in range(OLD):
        maker.submit(f"old-{number}.mp4", variations=1)
    done = maker.make(b"one", b"two", names=["ad.mp4"], variations=2, name="Spring sale")
    with page.expect_request(re.compile(f"outputs/{done['poster_output_id']}/poster")):
        page.get_by_role("link", name="Batches").click()
    spring = lines.filter(has_text="Spring sale")
    expect(spring).to_contain_text("2 of 2 ready")
    expect(spring).to_contain_text("6 bytes")
    assert person.barriers() == []
    assert person.shifted() < SHIFT_MAX
    with page.expect_download() as download:
        spring.get_by_role("button", name="Download Spring sale").click()
    assert download.value.suggested_filename == "Spring sale.zip"

    # the next page comes by itself, and Back leads to the same lines at the same place
    expect(lines.first).to_contain_text("Spring sale")
    lines.nth(29).scroll_into_view_if_needed()
    expect(lines).to_have_count(OLD + 1)
    line = page.get_by_role("link", name="old-2.mp4")
    line.scroll_into_view_if_needed()
    assert page.evaluate("scrollY") > 1000
    place = line.bounding_box()
    line.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("old-2.mp4")
    assert page.evaluate("scrollY") == 0
    page.go_back()
    expect(lines).to_have_count(OLD + 1)
    expect(line).to_be_in_viewport()
    again = line.bounding_box()
    assert place
    assert again
    assert abs(again["y"] - place["y"]) < 50

    # what is looked for stands in the address: Back and a reload keep it
    search = page.get_by_role("searchbox")
    search.fill("OLD-1")
    expect(lines).to_have_count(11)
    lines.first.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("old-19.mp4")
    page.go_back()
    expect(search).to_have_value("OLD-1")
    page.get_by_label("Show", exact=True).select_option("failed")
    person.sees("No batch matches.")
    page.reload()
    person.sees("No batch matches.")
    expect(search).to_have_value("OLD-1")
    page.get_by_label("Show", exact=True).select_option("")
    expect(lines).to_have_count(11)

    # some at once, with one question
    person.press("Select")
    for box in lines.get_by_role("checkbox").all()[:3]:
        box.check()
    person.sees("3 of 11 selected")
    assert person.barriers() == []
    person.press("Cancel 3")
    person.sees("Cancel 3 batches?")
    person.press("Cancel them")
    person.sees("Cancelled: 3 batches.")
    expect(lines.filter(has_text="Cancelled")).to_have_count(3)
    person.press("Select")
    page.get_by_role("checkbox", name="Select all 11 shown").check()
    person.press("Delete 11")
    person.press("Keep as is")
    expect(lines).to_have_count(11)
    person.press("Delete 11")
    person.press("Delete them")
    person.sees("Deleted: 11 batches.")
    person.press("Show all batches")
    expect(lines.first).to_contain_text("Spring sale")
    left = maker.http.get("/api/batches?limit=100").json()["items"]
    assert len(left) == OLD + 1 - 11


def test_news_of_a_thousand_live_outputs_and_clicks_among_them_take_a_moment(
    person: Person, maker: Maker, browser: Browser
) -> None:
    page = person.page
    batch = maker.submit(*(f"ad {n}.mp4" for n in range(SOURCES)), variations=EACH)
    specs = [maker.claim(job["job_id"]) for job in batch["jobs"]]
    with page.expect_request(re.compile("/events")):
        person.open(f"#/batches/{batch['batch_id']}")
    expect(page.locator(".source")).to_have_count(SOURCES)
    while page.locator(".tile").count() < SOURCES * EACH:
        page.evaluate(SHOW_MORE)
    person.waits_until(LAID_OUT, 2 * EACH)
    with tasks_ms(browser, person) as a_moment:
        page.evaluate(LOOP)
        page.evaluate("1")  # the task that runs at the end of the block is not in the list
    page.mouse.move(300, 400)
    person.has_moved_the_page()  # by showing more
    with tasks_ms(browser, person) as taken:
        for number in range(4):
            report(maker, specs[number], number)
            person.waits_until(READY, 5 * (number + 1))
        assert person.shifted() < SHIFT_MAX  # before the click: on a busy machine what it moves comes late
        page.get_by_label("Choose Variation").first.check()
        for name in ("Ready", "All"):
            page.get_by_role("radio", name=name).check()
    assert max(taken) < max(a_moment)  # a fifth of it on a calm machine, half of it on a busy one


@contextmanager
def tasks_ms(browser: Browser, person: Person) -> Iterator[list[float]]:
    """Yield a list that gets the CPU of each task of the page in the block: a busy machine does not count."""
    found: list[float] = []
    browser.start_tracing(page=person.page, categories=["disabled-by-default-devtools.timeline"])
    yield found
    events = json.loads(browser.stop_tracing())["traceEvents"]
    named = [event for event in events if event["name"] == "thread_name"]
    pages = [(e["pid"], e["tid"]) for e in named if e["args"]["name"] == "CrRendererMain"]
    tasks = [e for e in events if e["name"] == "RunTask" and (e["pid"], e["tid"]) in pages]
    found += [task["tdur"] / 1000 for task in tasks if "tdur" in task]


def report(maker: Maker, spec: JobSpec, number: int) -> None:
    """Report that some outputs of an attempt are ready, and that others are further on."""
    running = [
        OutputReport(output_id=output.output_id, status="running", percent=10.0 + number)
        for output in spec.outputs[20:60]
    ]
    ready = [stored(output, b"x") for output in spec.outputs[:5]]
    beat = Heartbeat(seq=number + 1, outputs=ready + running, machine_id=f"m-{spec.attempt_id}")
    assert maker.call(spec.attempt_id, "heartbeat", beat).status_code == 200


def test_a_share_link_opens_in_a_fresh_browser_until_it_is_ended(
    person: Person, maker: Maker, browser: Browser, clip: Clip
) -> None:
    video = clip("shared.mp4").read_bytes()
    batch = maker.make(video, video, names=["ad.mp4"], variations=2, name="For you")
    person.context.grant_permissions(["clipboard-read", "clipboard-write"])
    person.open(f"#/batches/{batch['batch_id']}")
    person.press("Share")
    person.press("Make a link")
    expect(person.page.get_by_label("Share link")).to_be_focused()
    link = person.page.get_by_label("Share link").input_value()
    person.press("Copy")
    person.sees("The share link is copied.")
    assert person.page.evaluate("navigator.clipboard.readText()") == link
    assert person.barriers() == []

    with browser.new_context(accept_downloads=True) as context:
        stranger = Person(context, person.url, "unknown")
        asked: list[str] = []
        stranger.page.on("request", lambda request: asked.append(request.url))
        stranger.page.goto(link)
        expect(stranger.page.get_by_role("heading", level=1)).to_have_text("For you")
        assert stranger.barriers() == []
        assert stranger.shifted() < SHIFT_MAX
        stranger.press("Play Variation 1")
        expect(stranger.page.locator("dialog video")).to_have_js_property("videoWidth", 160)
        stranger.press("Next")
        expect(stranger.page.get_by_role("dialog")).to_contain_text("Variation 2")
        stranger.page.keyboard.press("ArrowLeft")
        expect(stranger.page.get_by_role("dialog")).to_contain_text("Variation 1")
        with stranger.page.expect_download() as single:
            stranger.page.get_by_role("dialog").get_by_role("link", name="Download").click()
        assert single.value.path().read_bytes() == video
        stranger.page.go_back()
        expect(stranger.page.get_by_role("dialog")).to_have_count(0)
        with stranger.page.expect_download() as download:
            stranger.page.get_by_role("link", name=re.compile("Download all")).click()
        archive = zipfile.ZipFile(io.BytesIO(download.value.path().read_bytes()))
        assert archive.read(batch["sources"][0]["outputs"][0]["name"]) == video
        assert not [url for url in asked if link.rpartition("/")[2] in url.partition("#")[0]]
        ours = {url.partition("?")[0] for url in asked if "/api/" in url}
        assert {re.sub(r"(out|bat)_\w+", "ID", url.partition("/api/")[2]) for url in ours} == {
            "shared",
            "outputs/ID",
            "outputs/ID/poster",
        }

        person.press("End the link")
        person.sees("The link is ended.")
        expect(person.page.get_by_role("button", name="Share")).to_be_focused()
        stranger.page.reload()
        stranger.sees("This link has ended")
        assert stranger.barriers() == []
        assert [line for line in stranger.complaints if NETWORK_ERROR not in line] == []
