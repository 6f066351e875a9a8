"""Two videos dropped, priced, made, watched, played and downloaded, with only the screen as a guide."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Request, Route, expect

from tests.support.clips import Clip
from tests.support.user import User, ok, outputs
from tests.web.browser import NETWORK_ERROR, SHIFT_MAX, Person


def test_two_dropped_videos_become_a_zip(person: Person, api: User, clip: Clip) -> None:
    person.drop(clip("first ad.mp4"), clip("second ad.mp4", size="90x160", video="testsrc"))
    expect(person.video("first ad.mp4")).to_contain_text("Ready")
    expect(person.video("second ad.mp4")).to_contain_text("Ready")
    expect(person.page.get_by_label("How many variations")).to_have_value("10")
    person.has_moved_the_page()
    price = person.page.locator(".price")
    expect(price).to_contain_text(re.compile("¢|\\$\\d"))
    expect(price).to_contain_text("until done")
    expect(price).to_contain_text("kept for 24 h after the end")
    person.page.get_by_label("Name of the batch").fill("Spring sale")
    person.page.get_by_label("Strength of the changes").fill("50")
    person.page.get_by_label("Quality").select_option("High")
    assert person.barriers() == []

    batch_id = person.make(2)
    person.sees("of 4 ready")
    assert person.wait_for_end() == "Done"
    person.sees("4 of 4 ready")
    expect(person.page.get_by_role("region", name="Progress")).to_contain_text(re.compile(r"[kM]B · took \d"))
    assert person.barriers() == []
    shown = api.show(batch_id)
    assert [source["name"] for source in shown["sources"]] == ["first ad.mp4", "second ad.mp4"]
    chosen = {name: shown[name] for name in ("name", "without", "strength", "quality", "frame_rate")}
    assert chosen == {
        "name": "Spring sale",
        "without": ["mirror"],  # until someone asks for it
        "strength": 0.5,
        "quality": "high",
        "frame_rate": "29.97",
    }
    assert person.page.locator(".tile.ready").count() == len(outputs(shown)) == 4
    posters = person.page.locator(".tile img")
    expect(posters).to_have_count(4)
    for poster in posters.all():
        poster.scroll_into_view_if_needed()
        expect(poster).to_have_js_property("complete", True)
        assert poster.evaluate("(img) => img.naturalWidth") > 0
    assert person.shifted() < SHIFT_MAX
    person.open_details()
    expect(person.page.get_by_role("region", name="Machines")).to_contain_text(" in iad")
    expect(person.page.get_by_role("region", name="Events")).to_contain_text("Done")

    person.press("Play Variation 1")
    assert_plays(person.result())
    assert person.barriers() == []
    person.press("Next")
    assert_plays(person.result())
    person.page.keyboard.press("Escape")
    expect(person.page.get_by_role("dialog")).to_have_count(0)

    with person.page.expect_download() as started:
        person.press("Download all")
    file = started.value.path()
    assert file.read_bytes() == api.http.get(f"/api/batches/{batch_id}/download").content
    with person.page.expect_download() as started:
        person.page.get_by_role("link", name="Download Variation 2").first.click()
    second = outputs(shown)[1]
    assert started.value.suggested_filename == Path(second["name"]).name
    assert started.value.path().stat().st_size == second["size_bytes"]
    assert not [line for line in person.complaints if NETWORK_ERROR in line]


def test_pressed_early_the_button_starts_the_batch_when_the_videos_are_there(
    person: Person, api: User, clip: Clip
) -> None:
    person.slowly(4 * 1024**2)
    person.choose(clip("large.mp4", padding_bytes=6 * 1024**2))
    person.page.get_by_label("How many variations").fill("1")
    person.press("Make 1 video")
    person.sees("It starts by itself")
    person.press("Wait, not yet")
    person.press("Make 1 video")
    person.page.wait_for_url(re.compile("#/batches/bat_"))
    person.sees("of 1 ready")
    batch_id = person.page.url.rpartition("/")[2]
    person.page.get_by_role("link", name="New").click()
    person.sees("Drop your videos")
    api.wait(batch_id)  # its end changes what is quoted


def test_the_curve_chooses_a_pace_that_is_ordered_as_it_is_shown(
    person: Person, api: User, clip: Clip
) -> None:
    person.choose(*(clip(f"{number}.mp4", seconds=4) for number in range(3)))
    person.page.get_by_label("How many variations").fill("50")
    slider = person.page.locator(".curve").get_by_label("Machines at once, at most")
    expect(slider).to_be_visible()
    slider.focus()
    for key, machines, shown in [("Home", 1, r"^1 machine,"), ("End", 2, r"^2 machines,")]:
        with person.page.expect_request(asks_for_a_pace) as asked:
            slider.press(key)
        expect(slider).to_have_attribute("aria-valuetext", re.compile(shown))
        # The number alone would not do: machines that cost much more are only taken for a deadline.
        order, answer = asked.value.post_data_json, asked.value.response()
        assert order["max_machines"] == machines
        assert answer is not None
        assert answer.json()["makespan_s"] <= order["deadline_s"]
        expect(person.page.locator(".price-figures")).to_contain_text(str(answer.json()["machines"]))
    assert person.barriers() == []
    person.page.get_by_label("How many variations").fill("49")
    with person.page.expect_request(re.compile("/api/quote$")) as plain:
        person.page.get_by_label("How many variations").fill("48")
    assert "deadline_s" not in plain.value.post_data_json  # that pace was chosen for another batch


def asks_for_a_pace(request: Request) -> bool:
    return request.url.endswith("/api/quote") and "deadline_s" in (request.post_data or "")


def test_a_preset_is_made_once_of_each_video(person: Person, api: User, clip: Clip) -> None:
    person.choose(clip("plain.mp4"))
    person.page.get_by_label("Make of each video").select_option("Plain copy")
    person.press("Make 1 video")
    person.page.wait_for_url(re.compile("#/batches/bat_"))
    assert person.wait_for_end() == "Done"
    expect(person.page.locator(".tile")).to_contain_text("Plain copy")
    assert person.page.get_by_role("radio").count() == 2  # nothing failed or is mirrored: All, Ready
    [output] = outputs(ok(api.http.get(f"/api/batches/{person.page.url.rpartition('/')[2]}"), 200))
    assert output["preset"] == "copy"

    person.page.get_by_role("link", name="New").click()
    person.choose(clip("next.mp4"))
    expect(person.page.get_by_label("Make of each video")).to_have_value("copy")  # remembered
    person.page.go_back()
    with person.on_a_phone():
        person.press("Play Plain copy")
        person.press("Save or send")
        person.waits_until("window.handed")
        assert person.page.evaluate("window.handed") == ["plain_copy.mp4", "video/mp4", output["size_bytes"]]
        person.page.keyboard.press("Escape")
    person.press("Same again")
    person.press("Replace them")
    expect(person.video("plain.mp4")).to_contain_text("Ready")
    person.page.get_by_label("Make of each video").select_option("Variations")
    expect(person.page.get_by_label("Mirror some of them")).not_to_be_checked()  # a preset says nothing of it


def test_same_again_fills_the_draft_and_starts_nothing(person: Person, api: User, clip: Clip) -> None:
    person.choose(clip("once.mp4"))
    person.page.get_by_label("Mirror some of them").check()
    person.page.get_by_label("Name of the batch").fill("Spring sale")
    person.page.get_by_text("More", exact=True).click()
    person.page.get_by_label("Grain").uncheck()
    first = person.make(2)
    person.wait_for_end()
    before = len(ok(api.http.get("/api/batches"), 200)["items"])
    person.page.get_by_role("link", name="New").click()
    person.choose(clip("other.mp4"))
    expect(person.video("other.mp4")).to_contain_text("Ready")
    person.page.get_by_label("Mirror some of them").uncheck()
    person.open(f"#/batches/{first}")
    person.press("Same again")
    person.sees("1 video of the new batch would go")
    assert person.barriers() == []
    person.press("Replace them")
    expect(person.video("once.mp4")).to_contain_text("Ready")
    expect(person.video("other.mp4")).to_have_count(0)
    expect(person.page.get_by_label("Mirror some of them")).to_be_checked()
    expect(person.page.get_by_label("Name of the batch")).to_have_value("Spring sale")
    expect(person.page.get_by_label("How many variations")).to_have_value("2")
    expect(person.page.locator(".price")).to_contain_text("until done")
    assert len(ok(api.http.get("/api/batches"), 200)["items"]) == before
    again = api.show(person.make(2))
    assert again["without"] == ["noise"]
    assert again["seed"] != api.show(first)["seed"]

    def of_a_deleted_source(route: Route) -> None:
        batch = route.fetch().json()
        extra = {**batch["sources"][0], "source_id": "src_" + "0" * 32, "name": "gone.mp4"}
        route.fulfill(json={**batch, "sources": [*batch["sources"], extra]})

    person.page.route(f"**/api/batches/{first}", of_a_deleted_source)
    person.open(f"#/batches/{first}")
    person.press("Same again")
    expect(person.video("gone.mp4")).to_contain_text("It is not stored any more")
    person.sees("Without 1 file that cannot be used")
    expect(person.page.locator(".start")).to_contain_text("Estimate")  # of the other one


def test_a_field_that_cannot_be_used_says_so_and_keeps_the_batch_from_starting(
    person: Person, clip: Clip
) -> None:
    person.choose(clip("fields.mp4"))
    person.page.get_by_text("More", exact=True).click()
    for label, text, why in [
        ("Budget in dollars", "two", "An amount such as 2.50"),
        ("Done within", "0", "A number of minutes"),
        ("Names of the files", "{sourc}", "There is no {sourc}"),
        ("Webhook address", "javascript:alert(1)", "begins with https://"),
        ("Seed", "1.5", "A whole number"),
    ]:
        field = person.page.get_by_label(label)
        field.fill(text)
        field.blur()
        expect(field).to_have_accessible_description(re.compile(re.escape(why)))
        person.press("Make 10 videos")
        expect(field).to_be_focused()
        person.sees("Not started: see the field")
        field.fill("")
        field.blur()
    assert person.barriers() == []
    for name in ("Angle", "Zoom", "Speed", "Brightness", "Contrast", "Colour"):
        person.page.get_by_label(name, exact=True).uncheck()
    person.sees("at most 9 different variations")  # control's own words, at the button
    person.page.get_by_label("Mirror some of them").check()
    expect(person.page.locator(".start")).to_contain_text("Estimate")
    person.page.get_by_label("Budget in dollars").fill("0,000001")
    person.page.get_by_label("Budget in dollars").blur()
    person.sees("The estimate is above this budget")
    expect(person.page.locator(".start")).to_contain_text("above the budget (under 1 ¢)")
    person.press("Make 10 videos")
    person.sees(re.compile("max_cost_usd|budget of", re.IGNORECASE))


def test_the_keyboard_alone_is_enough(newcomer: Person, clip: Clip) -> None:
    keys = newcomer.page.keyboard
    newcomer.page.on("filechooser", lambda chooser: chooser.set_files(clip("keys.mp4")))
    newcomer.open()
    expect(newcomer.page.get_by_label("Password")).to_be_focused()
    keys.type(newcomer.password)
    keys.press("Enter")
    newcomer.sees("Drop your videos")
    keys.press("Tab")
    expect(newcomer.page.get_by_role("button", name="Choose videos")).to_be_focused()
    keys.press("Enter")
    variations = newcomer.page.get_by_label("How many variations")
    tab_to(newcomer, variations)
    keys.type("1")
    tab_to(newcomer, newcomer.page.get_by_role("button", name="Make 1 video"))
    keys.press("Enter")
    newcomer.sees("1 of 1 ready")
    tab_to(newcomer, newcomer.page.get_by_role("button", name="Play Variation 1"))
    keys.press("Enter")
    assert_plays(newcomer.result())
    keys.press("Escape")
    expect(newcomer.page.get_by_role("button", name="Play Variation 1")).to_be_focused()
    for label in ("Choose Variation 1", "Download Variation 1"):  # as they stand on the tile
        keys.press("Tab")
        expect(newcomer.page.get_by_label(label)).to_be_focused()
    keys.press("Shift+Tab")
    keys.press("Space")
    download = newcomer.page.get_by_role("region", name="Chosen videos").get_by_text("Download")
    tab_to(newcomer, download)
    with newcomer.page.expect_download():
        keys.press("Enter")
    expect(download).to_be_focused()
    tab_to(newcomer, newcomer.page.get_by_role("button", name="Delete"))
    keys.press("Enter")
    tab_to(newcomer, newcomer.page.get_by_role("dialog").get_by_role("button", name="Delete"))
    keys.press("Enter")
    expect(newcomer.page.get_by_role("heading", name="Batches")).to_be_visible()
    expect(newcomer.page.get_by_role("link", name="keys.mp4")).to_have_count(0)
    expect(newcomer.page.get_by_role("main")).to_be_focused()
    assert newcomer.page.evaluate("scrollY") == 0


def test_a_folder_gives_its_videos_and_the_rest_is_counted_and_put_aside(
    person: Person, api: User, clip: Clip, tmp_path: Path
) -> None:
    folder = folder_of_ads(clip, tmp_path)
    let_go = person.drag(folder)
    person.sees("Drop to add")
    let_go()
    summary = person.page.locator(".summary")
    expect(summary).to_contain_text("3 ready · 5 cannot be used · 3 other files of the folder left out")
    expect(person.page.get_by_text("Drop to add")).to_have_count(0)
    names = person.page.locator(".videos:not(details .videos) .video-name")
    assert names.all_inner_texts() == ["a.mp4", "b.mp4", "c.mov"]
    person.sees("4 files: Only MP4 and MOV videos are taken")
    assert person.barriers() == []
    person.press("Remove those")
    expect(summary).not_to_contain_text("cannot be used")

    person.page.locator("input[webkitdirectory]").set_input_files(folder)
    expect(summary).to_contain_text("3 ready · 5 cannot be used · 6 other files")  # none is taken twice
    person.press("Remove those")

    person.page.get_by_label("How many variations").fill("1")
    person.page.get_by_label("Variations of b.mp4").fill("2")
    person.page.get_by_text("More", exact=True).click()
    person.page.get_by_label("Budget in dollars").fill("1,5")
    orders = sent_orders(person)
    person.page.route(re.compile("/api/batches$"), refuse_the_second())
    person.press("Make 4 videos")
    person.sees("1 batch started, with the videos that have gone from here. The rest has not: Full.")
    person.press("Make 2 videos")
    person.page.wait_for_url(re.compile("#/batches/bat_"))
    made = ok(api.http.get("/api/batches?limit=2"), 200)["items"]
    assert [batch["source_names"] for batch in made] == [["b.mp4"], ["a.mp4", "c.mov"]]
    assert [(order["variations"], len(order["sources"])) for order in orders] == [(1, 2), (2, 1), (2, 1)]
    assert orders[1] == orders[2]  # with its share of the budget, not all of it
    assert sum(order["max_cost_usd"] for order in orders[:2]) == pytest.approx(1.5)
    person.page.get_by_role("link", name="New").click()
    person.sees("Drop your videos")


def test_after_a_removal_the_keyboard_goes_on_at_the_next_video(person: Person, clip: Clip) -> None:
    person.choose(*(clip(f"{number}.mp4") for number in range(4)))
    expect(person.page.locator(".summary")).to_contain_text("4 ready")
    person.page.get_by_role("button", name="Skip the list").press("Enter")
    expect(person.page.get_by_role("region", name="What to make")).to_be_focused()
    person.page.evaluate(_PASTE, "https://example.com/a.mp4 or something else")
    expect(person.video("a.mp4")).to_be_visible()
    person.press("Remove a.mp4")
    for number, focused in [(1, "Remove 2.mp4"), (3, "Remove 2.mp4"), (2, "Remove 0.mp4")]:
        person.page.get_by_role("button", name=f"Remove {number}.mp4").press("Enter")
        expect(person.page.get_by_role("button", name=focused)).to_be_focused()
    person.press("Clear all")
    person.press("Keep them")
    expect(person.page.get_by_role("button", name="Clear all")).to_be_focused()
    person.press("Clear all")
    person.page.get_by_role("dialog").get_by_role("button", name="Clear all").click()
    person.sees("Drop your videos")
    expect(person.page.get_by_role("main")).to_be_focused()


def test_the_button_stays_in_view_and_covers_nothing_that_has_the_focus(person: Person, clip: Clip) -> None:
    person.choose(*(clip(f"{number}.mp4") for number in range(12)))
    expect(person.page.locator(".summary")).to_contain_text("12 ready")
    expect(person.page.locator(".start")).to_contain_text("Estimate")
    button = person.page.get_by_role("button", name="Make 120 videos")
    for width, height in [(1366, 640), (390, 844), (320, 640)]:
        person.page.set_viewport_size({"width": width, "height": height})
        person.page.evaluate("scrollTo(0, 0)")
        expect(button).to_be_in_viewport(ratio=1)
        person.page.locator("#choose-videos").focus()
        for _ in range(40):
            person.page.keyboard.press("Tab")
            assert person.page.evaluate(_COVERED) == ""
        person.page.evaluate("scrollTo(0, 1e6)")
        expect(button).to_be_in_viewport(ratio=1)
        person.page.get_by_label("Language").focus()
        assert person.page.evaluate(_COVERED) == ""
        assert person.page.evaluate("document.documentElement.scrollWidth") <= width
    person.page.evaluate("scrollTo(0, 0)")
    person.press("Change what is made")  # on a phone the choices are far below
    expect(person.page.get_by_label("How many variations")).to_be_in_viewport(ratio=1)
    expect(person.page.get_by_role("region", name="What to make")).to_be_focused()


_PASTE = """(text) => {
    const clipboardData = new DataTransfer();
    clipboardData.setData("text/plain", text);
    document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
}"""

# What has the focus, if the bar with the button lies over the middle of it.
_COVERED = """() => {
    const bar = document.querySelector(".start"), focused = document.activeElement;
    const box = focused.getBoundingClientRect();
    const at = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
    return bar.contains(at) && !bar.contains(focused) ? focused.outerHTML : "";
}"""


def folder_of_ads(clip: Clip, tmp_path: Path) -> Path:
    """Return a folder with three videos, five files that are none, and three of other kinds."""
    folder = tmp_path / "ads"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / ".trash").mkdir()
    for name in ("a.mp4", "deep/b.mp4", "deep/er/c.mov"):
        (folder / name).write_bytes(clip(Path(name).name).read_bytes())
    for number in range(4):
        (folder / f"fake {number}.mp4").write_text("not a video at all")
    for name in ("empty.mp4", "notes.txt", ".DS_Store", ".trash/old.mp4"):
        (folder / name).touch()
    return folder


def refuse_the_second() -> Callable[[Route], None]:
    """Return a route that answers the second request as control does when its storage is full."""
    number = count(1)

    def answer(route: Route) -> None:
        if next(number) == 2:
            route.fulfill(status=507, json={"error": {"code": "storage_full", "message": "Full."}})
        else:
            route.continue_()

    return answer


def sent_orders(person: Person) -> list[dict[str, Any]]:
    """Return a list that grows by each batch that is ordered."""
    orders: list[dict[str, Any]] = []

    def note(request: Request) -> None:
        if request.method == "POST" and request.url.endswith("/api/batches"):
            orders.append(request.post_data_json)

    person.page.on("request", note)
    return orders


def tab_to(person: Person, target: Locator) -> None:
    """Press Tab until the target has the focus."""
    for _ in range(40):
        if target.evaluate("(element) => element === document.activeElement"):
            return
        person.page.keyboard.press("Tab")
    raise AssertionError("no way there by Tab")


def assert_plays(video: Locator) -> None:
    """Wait until a video has shown something of itself."""
    expect(video).to_have_js_property("paused", False)
    video.evaluate("(video) => new Promise((seen) => video.addEventListener('timeupdate', () => seen()))")
    assert video.evaluate("(video) => [video.videoWidth > 0, video.error]") == [True, None]
