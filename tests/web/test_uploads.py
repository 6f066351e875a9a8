"""Choosing videos and uploading them, with interruptions of every kind."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Request, expect

from tests.support.clips import Clip
from tests.support.processes import until
from tests.support.user import User
from tests.web.browser import Person

MIB = 1024**2
LARGE = 32 * MIB  # two whole parts and a short one, which is stored long before them
SLOW = 12 * MIB  # a second


def test_a_file_that_is_no_video_is_refused_before_a_byte_is_sent(person: Person, tmp_path: Path) -> None:
    puts = sent_parts(person)
    named = {"notes.txt": b"hello", "fake.mp4": b"MZ\x90\x00 not a video at all", "empty.mp4": b""}
    for name, content in named.items():
        (tmp_path / name).write_bytes(content)
    person.choose(*(tmp_path / name for name in named))
    expect(person.video("notes.txt")).to_contain_text("Only MP4 and MOV videos are taken")
    expect(person.video("fake.mp4")).to_contain_text("This file is something else")
    expect(person.video("empty.mp4")).to_contain_text("empty")
    expect(person.page.get_by_role("button", name="Make 0 videos")).to_be_disabled()
    assert person.barriers() == []
    assert puts == []


def test_a_file_that_cannot_be_used_does_not_keep_the_others_from_a_batch(
    person: Person, api: User, clip: Clip, tmp_path: Path
) -> None:
    (tmp_path / "fake.mp4").write_text("not a video at all")
    person.choose(tmp_path / "fake.mp4", clip("good.mp4"))
    expect(person.video("good.mp4")).to_contain_text("Ready")
    person.sees("Without 1 file that cannot be used")
    shown = api.show(person.make(1))
    assert [source["name"] for source in shown["sources"]] == ["good.mp4"]


def test_what_looks_like_a_video_but_cannot_be_played_is_refused_in_words(
    person: Person, clip: Clip, tmp_path: Path
) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip("whole.mp4").read_bytes()[:4000])
    person.choose(cut)
    expect(person.video("cut.mp4").get_by_role("alert")).to_contain_text(re.compile(r"\w+\. \w+"))
    person.press("Remove cut.mp4")
    person.sees("Drop your videos")


def test_a_video_shows_its_size_length_and_first_frame(person: Person, clip: Clip) -> None:
    person.choose(clip("look.mp4", seconds=3))
    line = person.video("look.mp4")
    expect(line).to_contain_text(re.compile(r"\d+ kB · 0:03 · 160 × 90"))
    expect(line.locator("img")).to_have_js_property("naturalWidth", 160)
    expect(line).to_contain_text("Ready")


def test_an_upload_is_paused_and_continues_and_a_reload_promises_what_is_stored(
    person: Person, clip: Clip
) -> None:
    person.slowly(SLOW)
    person.choose(clip("large.mp4", padding_bytes=LARGE))
    person.press("Pause large.mp4")
    person.sees("Paused at")
    assert person.barriers() == []
    person.slowly(0)
    person.press("Resume large.mp4")
    expect(person.video("large.mp4")).to_contain_text("Ready")
    person.slowly(MIB)
    person.choose(clip("small.mp4", padding_bytes=8 * MIB))
    expect(person.video("small.mp4")).to_contain_text(re.compile(r"Uploading, [1-9]"))
    person.page.reload()
    expect(person.video("small.mp4")).to_contain_text("choose or drop this file again.")
    expect(person.page.get_by_role("progressbar", name="small.mp4")).to_have_attribute("aria-valuenow", "0")


def test_a_reload_in_the_middle_sends_only_what_is_missing(person: Person, api: User, clip: Clip) -> None:
    large = clip("large.mp4", padding_bytes=LARGE)
    person.slowly(SLOW)
    with person.page.expect_response(lambda answer: answer.request.method == "PUT"):
        with person.page.expect_response(re.compile("/api/uploads$")) as opened:
            person.choose(large)
        upload_id = opened.value.json()["upload_id"]
    until(lambda: stored(api, upload_id) == [3])
    person.page.get_by_label("How many variations").fill("4")
    person.page.reload()
    person.sees("the upload goes on where it was")
    person.slowly(0)
    puts = sent_parts(person)
    person.choose(large)
    expect(person.video("large.mp4")).to_contain_text("Ready")
    expect(person.page.get_by_label("How many variations")).to_have_value("4")
    assert len(puts) == 2
    dialogs: list[str] = []
    person.page.on("dialog", lambda dialog: dialogs.append(dialog.type))
    person.page.route("**/complete", lambda _: None)  # it never answers
    person.choose(clip("sent.mp4"))
    expect(person.video("sent.mp4")).to_contain_text("Checking")
    person.page.unroute("**/complete")
    person.page.reload()
    expect(person.video("large.mp4")).to_contain_text("Ready")
    expect(person.video("sent.mp4")).to_contain_text("Ready")  # without its file: all of it was stored
    person.page.reload()
    expect(person.video("sent.mp4")).to_contain_text("Ready")
    assert dialogs == ["beforeunload"]  # for what was not certain to be kept


def test_an_upload_waits_for_the_network_and_one_begun_without_it_begins_after_it(
    person: Person, clip: Clip
) -> None:
    person.slowly(SLOW)
    with person.page.expect_request(lambda request: request.method == "PUT"):
        person.choose(clip("large.mp4", padding_bytes=LARGE))
    with person.offline():
        person.choose(clip("begun.mp4"))
        expect(person.video("begun.mp4")).to_contain_text("Waiting for Video Refresher")
        expect(person.video("large.mp4")).to_contain_text("Waiting for")  # the storage, or control
    person.slowly(0)
    expect(person.video("begun.mp4")).to_contain_text("Ready")
    expect(person.video("large.mp4")).to_contain_text("Ready")


def test_each_tab_has_a_draft_and_that_of_a_closed_one_is_found_again(person: Person, clip: Clip) -> None:
    def open_tab() -> Person:
        tab = Person(person.context, person.url, person.password)
        tab.open()
        return tab

    def names(tab: Person) -> list[str]:
        expect(tab.page.locator(".video, .drop.large").first).to_be_visible()
        return tab.page.locator(".video-name").all_inner_texts()

    person.choose(clip("first.mp4"))
    expect(person.video("first.mp4")).to_contain_text("Ready")
    other = open_tab()
    assert names(other) == []
    other.choose(clip("second.mp4"))
    expect(other.video("second.mp4")).to_contain_text("Ready")
    for tab, name in ((person, "first.mp4"), (other, "second.mp4")):
        tab.page.reload()
        expect(tab.video(name)).to_contain_text("Ready")
        assert names(tab) == [name]
    other.page.close()
    assert names(open_tab()) == ["second.mp4"]


def test_a_file_of_a_hostile_name_is_shown_not_run(person: Person, clip: Clip) -> None:
    name = "<img src=x onerror=document.title='owned'>.mp4"
    person.drop(clip(name))
    expect(person.video(name)).to_contain_text("Ready")
    assert person.page.title() == "New batch · Video Refresher"
    person.make(1)
    expect(person.page.get_by_role("heading", level=1)).to_have_text(name)
    assert name in person.page.title()


def test_links_are_taken_one_per_line_and_what_is_wrong_with_one_stands_there(
    person: Person,
) -> None:
    person.press("or paste links")
    person.page.get_by_label("Links to MP4").fill(
        "https://example.com/ads/summer%20sale.mp4\nhttp://192.168.0.1/mine.mp4\njavascript:alert(1)"
    )
    person.press("Add these links")
    person.sees("Not a web address: javascript:alert(1)")
    expect(person.video("summer sale.mp4")).to_contain_text("Fetched when the batch runs")
    refusal = person.video("mine.mp4").get_by_role("alert")
    expect(refusal).to_have_text(
        "This address is not on the public internet. Only public addresses are called."
    )
    expect(person.page.locator(".price")).to_contain_text("until done")
    person.sees("Make 10 videos")
    assert person.barriers() == []
    person.page.get_by_label("Links to MP4").fill("")
    person.page.get_by_role("button", name="Add these links").press("Enter")
    expect(person.page.get_by_role("button", name="Add links")).to_be_focused()


def stored(api: User, upload_id: str) -> list[int]:
    """Return the numbers of the parts that the bucket has."""
    parts = api.http.get(f"/api/uploads/{upload_id}").raise_for_status().json()["parts"]
    return [part["number"] for part in parts if "etag" in part]


def sent_parts(person: Person) -> list[str]:
    """Return a list that grows by each PUT."""
    puts: list[str] = []

    def note(request: Request) -> None:
        if request.method == "PUT":
            puts.append(request.url)

    person.page.on("request", note)
    return puts
