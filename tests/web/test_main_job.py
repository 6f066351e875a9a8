"""Two videos dropped, priced, made, watched, played and downloaded, with only the screen as a guide."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Locator, expect

from tests.support.clips import Clip
from tests.support.user import User, ok, outputs
from tests.web.browser import NETWORK_ERROR, Person

SHIFT_MAX = 0.1  # what https://web.dev/articles/cls calls good (2026-11)


def test_two_dropped_videos_become_a_zip(person: Person, api: User, clip: Clip) -> None:
    person.drop(clip("first ad.mp4"), clip("second ad.mp4", size="90x160", video="testsrc"))
    expect(person.video("first ad.mp4")).to_contain_text("Ready")
    expect(person.video("second ad.mp4")).to_contain_text("Ready")
    expect(person.page.get_by_label("How many variations")).to_have_value("10")
    person.has_moved_the_page()
    price = person.page.locator(".price")
    expect(price).to_contain_text(re.compile(r"\$\d|under 1 ¢"))
    expect(price).to_contain_text("until done")
    assert person.barriers() == []

    batch_id = person.make(2)
    person.sees("of 4 ready")
    assert person.wait_for_end() == "Done"
    person.sees("4 of 4 ready")
    expect(person.page.get_by_role("region", name="Progress")).to_contain_text(re.compile(r"[kM]B · took \d"))
    assert person.barriers() == []
    shown = api.show(batch_id)
    assert [source["name"] for source in shown["sources"]] == ["first ad.mp4", "second ad.mp4"]
    assert person.page.locator(".tile.ready").count() == len(outputs(shown)) == 4
    posters = person.page.locator(".tile img")
    expect(posters).to_have_count(4)
    for poster in posters.all():
        poster.scroll_into_view_if_needed()
        expect(poster).to_have_js_property("complete", True)
        assert poster.evaluate("(img) => img.naturalWidth") > 0
    person.open_details()
    expect(person.page.get_by_role("region", name="Machines")).to_contain_text(" in iad")
    expect(person.page.get_by_role("region", name="Events")).to_contain_text("Done")

    assert person.shifted() < SHIFT_MAX

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
    person: Person, clip: Clip
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
    person.page.get_by_role("link", name="New").click()
    person.sees("Drop your videos")


def test_the_curve_chooses_how_many_machines_at_most(person: Person, api: User, clip: Clip) -> None:
    person.choose(*(clip(f"{number}.mp4", seconds=4) for number in range(3)))
    person.page.get_by_label("How many variations").fill("50")
    slider = person.page.get_by_label("Machines at once, at most")
    slider.focus()
    person.page.keyboard.press("Home")
    expect(slider).to_have_attribute("aria-valuetext", re.compile(r"^1 machine,"))
    slider.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuetext", re.compile(r"^2 machines,"))
    expect(person.page.locator(".price-figures")).to_contain_text("2machines")
    assert person.barriers() == []


def test_a_preset_is_made_once_of_each_video(person: Person, api: User, clip: Clip) -> None:
    person.choose(clip("plain.mp4"))
    person.page.get_by_label("Make of each video").select_option("Plain copy")
    person.press("Make 1 video")
    person.page.wait_for_url(re.compile("#/batches/bat_"))
    assert person.wait_for_end() == "Done"
    expect(person.page.locator(".tile")).to_contain_text("Plain copy")
    [output] = outputs(ok(api.http.get(f"/api/batches/{person.page.url.rpartition('/')[2]}"), 200))
    assert output["preset"] == "copy"


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
