"""Managing batches: cancel, retry, delete, the list of all, and the usage."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.support.clips import Clip
from tests.support.foreign import Held, Server
from tests.support.processes import until
from tests.support.user import User
from tests.web.browser import NETWORK_ERROR, SHIFT_MAX, Person

NOTIFICATIONS = """() => {
    window.told = [];
    window.Notification = class {
        static requestPermission = async () => "granted";
        constructor(title, { body }) { window.told.push(`${title}: ${body}`); }
    };
}"""
# Whether the result stands at this second, and the source at the one that belongs to it.
IN_STEP = """([at, speed]) => {
    const [source, result] = document.querySelectorAll(".stage video");
    return Math.abs(result.currentTime - at) < 0.01 && Math.abs(source.currentTime - at * speed) < 0.01;
}"""


@pytest.fixture
def held(foreign: Server, clip: Clip) -> Iterator[Held]:
    """A video whose job is at work until the test lets go of it."""
    held = foreign.hold(clip("held.mp4").read_bytes())
    yield held
    held.let_go()


@pytest.fixture
def quick(api: User, clip: Clip) -> str:
    """The id of a source that is made in no time."""
    return api.upload(clip("quick.mp4"))


def show(person: Person, batch_id: str) -> None:
    person.open(f"#/batches/{batch_id}")
    expect(person.page.get_by_role("heading", level=1)).to_be_visible()


def test_a_cancelled_batch_keeps_what_is_ready_and_is_whole_after_a_retry(
    person: Person, api: User, quick: str, held: Held
) -> None:
    batch_id = api.submit(quick, held.url, variations=2, name="Spring")["batch_id"]
    show(person, batch_id)
    person.sees("2 of 4 ready")
    expect(person.page).to_have_title(re.compile(r"^\d+ % · Spring"))
    person.press("Cancel")
    dialog = person.page.get_by_role("dialog", name="Cancel this batch?")
    expect(dialog).to_contain_text("The other")
    dialog.get_by_role("button", name="Cancel the batch").click()
    assert person.wait_for_end() == "Cancelled"
    expect(person.page.get_by_role("button", name=re.compile(r"Download 2 · "))).to_be_visible()
    assert person.barriers() == []
    person.page.evaluate(NOTIFICATIONS)
    person.press("Retry 2 missing")
    person.press("Tell me when it is done")
    held.let_go()
    person.sees("4 of 4 ready")
    assert person.wait_for_end() == "Done"
    expect(person.page).to_have_title("Done · Spring")
    assert person.page.evaluate("window.told") == ["Spring: Done · 4 of 4 ready"]
    person.open_details()
    expect(person.page.get_by_role("region", name="Machines")).to_contain_text("try 2")


def test_source_and_result_play_in_step_and_back_closes_the_player(
    person: Person, api: User, quick: str
) -> None:
    batch_id = api.submit(quick, variations=2, without=["noise"])["batch_id"]
    speed = api.wait(batch_id)["sources"][0]["outputs"][0]["effects"]["speed"]
    show(person, batch_id)
    keys, page = person.page.keyboard, person.page
    person.press("Play Variation 1")
    expect(page.locator(".stage-result video")).to_have_js_property("paused", False)
    expect(page.locator(".stage-source video")).to_have_js_property("paused", False)
    keys.press("Space")
    expect(page.locator(".stage-source video")).to_have_js_property("paused", True)
    keys.press("Home")
    for _ in range(30):
        keys.press(".")
    person.waits_until(IN_STEP, [1.0, speed])
    keys.press(",")
    person.waits_until(IN_STEP, [29 / 30, speed])
    page.get_by_role("radio", name="Slider").check()
    wipe = page.get_by_role("slider", name="How much of the source is shown")
    wipe.press("ArrowRight")
    expect(page.locator(".stage")).to_have_attribute("style", re.compile("--wipe: 51%"))
    assert person.barriers() == []
    page.get_by_role("button", name="Pause").or_(page.get_by_role("button", name="Play", exact=True)).focus()
    keys.press("ArrowRight")
    expect(page.get_by_role("dialog")).to_contain_text("_var02_")
    expect(page.locator(".stage-source")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("heading", level=1)).to_have_text("quick.mp4")
    page.go_forward()
    expect(page.get_by_role("dialog")).to_contain_text("_var02_")
    choose = page.get_by_role("button", name="Choose", exact=True)
    choose.click()
    expect(choose).to_have_attribute("aria-pressed", "true")
    keys.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_label("Choose Variation 2")).to_be_checked()
    expect(page.get_by_label("Choose Variation 1")).not_to_be_checked()
    assert page.url.endswith(f"#/batches/{batch_id}")


def test_of_many_outputs_the_ready_ones_come_first_and_some_are_downloaded(
    person: Person, api: User, quick: str
) -> None:
    """The answer is made up: 2 of 60 are ready, the last ones, and one has failed."""
    batch_id = api.submit(quick, variations=2)["batch_id"]
    batch = api.wait(batch_id)
    [source] = batch["sources"]
    reason = "It cannot be decoded. " * 12
    others: list[dict[str, Any]] = [
        source["outputs"][0] | {"output_id": f"out_{n}", "variation": n, "status": "cancelled", "effects": {}}
        for n in range(58)
    ]
    others[0] |= {"status": "failed", "error": {"code": "undecodable", "message": reason}}
    source["outputs"] = others + source["outputs"]
    batch |= {"status": "cancelled", "progress": batch["progress"] | {"failed": 1, "total": 60}}
    in_use = {"code": "machine_cap", "message": "All machines are in use."}
    at_work = [batch["attempts"][0] | {"state": "running"}]
    answers = [batch | {"status": "running", "waiting": in_use, "attempts": at_work}, batch]
    person.page.route(f"**/api/batches/{batch_id}", lambda route: route.fulfill(json=answers[0]))
    person.page.route("**/events?*", lambda route: route.abort())
    show(person, batch_id)
    person.sees("Waiting: Its machine is at work.")
    del answers[0]
    assert person.wait_for_end() == "Cancelled"
    tiles = person.page.locator(".tile")
    expect(tiles).to_have_count(24)
    expect(tiles.nth(1)).to_contain_text("Variation 2")
    expect(tiles.nth(1)).to_have_class(re.compile("ready"))
    assert person.page.locator(".tile.ready").count() == 2
    expect(person.page.get_by_role("list", name="What failed")).to_contain_text(
        f"Variation 0: {reason.strip()}"
    )
    person.press("Show 36 more")
    expect(tiles).to_have_count(60)
    tiles.nth(0).get_by_role("button", name="Play").hover()
    expect(tiles.nth(0).locator("video")).to_have_js_property("muted", True)
    person.page.get_by_role("radio", name="Failed 1").check()
    expect(tiles).to_have_count(1)
    person.page.get_by_role("radio", name="Ready 2").check()
    expect(tiles).to_have_count(2)
    person.open_details()
    expect(person.page.get_by_role("region", name="Events")).to_contain_text("does not come through")
    expect(person.page.get_by_role("region", name="Events")).to_contain_text("Cancelled")
    person.press("Select all 2 shown")
    person.page.get_by_label("Choose Variation 1").uncheck()
    assert person.barriers() == []
    with person.page.expect_download() as started:
        person.page.get_by_role("region", name="Chosen videos").get_by_role("button", name="Download").click()
    with zipfile.ZipFile(started.value.path()) as archive:
        assert [name for name in archive.namelist() if name.endswith(".mp4")] == [
            source["outputs"][-1]["name"]
        ]


def test_same_again_fills_a_draft_with_the_same_videos_and_settings_and_its_price(
    person: Person, api: User, quick: str
) -> None:
    settings = {"name": "Spring", "name_template": "{n} of {source}", "without": ["mirror"], "strength": 0.5}
    settings |= {"quality": "high", "frame_rate": "source"}
    batch_id = api.submit(quick, variations=2, **settings)["batch_id"]
    api.wait(batch_id)
    show(person, batch_id)
    person.press("Same again")
    expect(person.page.locator(".price")).to_contain_text("¢")
    assert api.http.get("/api/batches").json()["items"][0]["batch_id"] == batch_id
    person.press("Make 2 videos")
    person.page.wait_for_url(lambda url: "#/batches/bat_" in url and batch_id not in url)
    other = api.show(person.page.url.rpartition("/")[2])
    assert other["progress"]["total"] == 2
    assert other["seed"] != api.show(batch_id)["seed"]
    assert {name: other[name] for name in settings} == settings
    assert [output["name"] for output in other["sources"][0]["outputs"]] == [
        f"quick/{n} of quick.mp4" for n in ("01", "02")
    ]


def test_a_batch_is_deleted_only_after_a_yes(person: Person, api: User, quick: str) -> None:
    batch_id = api.submit(quick, variations=1)["batch_id"]
    api.wait(batch_id)
    show(person, batch_id)
    person.press("Delete")
    person.sees("Delete this batch?")
    assert person.barriers() == []
    person.press("Keep it")
    expect(person.page.get_by_role("dialog")).to_have_count(0)
    assert api.show(batch_id)
    person.press("Delete")
    person.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    person.page.wait_for_url(re.compile("#/batches$"))
    assert api.http.get(f"/api/batches/{batch_id}").status_code == 404


def test_the_link_of_a_batch_is_copied_and_opens_it(person: Person, api: User, quick: str) -> None:
    batch_id = api.submit(quick, variations=1)["batch_id"]
    person.context.grant_permissions(["clipboard-read", "clipboard-write"])
    show(person, batch_id)
    person.press("Copy link")
    person.sees("The link is copied")
    link = person.page.evaluate("navigator.clipboard.readText()")
    person.page.goto("about:blank")
    person.page.goto(link)
    expect(person.page.get_by_role("heading", level=1)).to_have_text("quick.mp4")
    api.wait(batch_id)


def test_a_batch_on_the_screen_says_when_the_network_is_away_and_continues_after(
    person: Person, api: User, held: Held
) -> None:
    batch_id = api.submit(held.url, variations=2)["batch_id"]
    show(person, batch_id)
    with person.offline():
        person.sees("No connection. Last updated")
        held.let_go()
    person.sees("2 of 2 ready")
    expect(person.page.get_by_text("No connection")).to_have_count(0)


def test_all_batches_are_listed_and_filtered(person: Person, api: User, quick: str) -> None:
    done = api.submit(quick, variations=1)["batch_id"]
    api.wait(done)
    cancelled = api.submit(quick, variations=3)["batch_id"]
    api.http.post(f"/api/batches/{cancelled}/cancel").raise_for_status()
    person.page.get_by_role("link", name="Batches").click()
    expect(person.page.locator(f"a[href$='{done}']")).to_contain_text("1 of 1 ready")
    expect(person.page.locator(f"a[href$='{cancelled}']")).to_contain_text("Cancelled")
    assert person.barriers() == []
    person.page.get_by_label("Show").select_option("cancelled")
    expect(person.page.locator(f"a[href$='{done}']")).to_have_count(0)
    person.page.locator(f"a[href$='{cancelled}']").click()
    expect(person.page.get_by_role("heading", level=1)).to_have_text("quick.mp4")


def test_usage_shows_storage_costs_and_machines(person: Person, api: User, quick: str, held: Held) -> None:
    batch_id = api.submit(quick, held.url, variations=2)["batch_id"]
    until(lambda: api.show(batch_id)["progress"]["ready"])
    person.page.get_by_role("link", name="Usage").click()
    region = person.page.get_by_role
    expect(region("region", name="Storage")).to_contain_text(re.compile(r"[1-9][\d.]* [kM]B.*of [\d.]+ GB"))
    expect(region("region", name="Machines now")).to_contain_text("in iad")
    expect(region("region", name="Cost of the last")).to_contain_text("under 1 ¢")
    assert person.shifted() < SHIFT_MAX
    assert person.barriers() == []
    assert not [line for line in person.complaints if NETWORK_ERROR in line]
    api.http.post(f"/api/batches/{batch_id}/cancel").raise_for_status()
