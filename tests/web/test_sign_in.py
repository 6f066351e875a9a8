"""Signing in, and the messages of the page when that fails."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.support.clips import Clip
from tests.support.user import User
from tests.web.browser import Person


def test_a_wrong_password_is_reported_and_the_right_one_opens_the_page(newcomer: Person) -> None:
    newcomer.open()
    newcomer.sign_in("not the password")
    newcomer.sees("The password is wrong")
    assert newcomer.barriers() == []
    newcomer.sign_in()
    newcomer.sees("Drop your videos")
    newcomer.page.reload()
    newcomer.sees("Drop your videos")
    newcomer.press("Sign out")
    expect(newcomer.page.get_by_label("Password")).to_be_focused()


def test_without_a_connection_the_sign_in_says_so_and_works_once_it_is_back(newcomer: Person) -> None:
    newcomer.open()
    with newcomer.offline():
        newcomer.sign_in()
        newcomer.sees("Video Refresher does not answer")
    newcomer.sees("Drop your videos")


def test_when_the_token_ends_one_signs_in_again_and_nothing_is_lost(
    person: Person, api: User, clip: Clip
) -> None:
    person.page.get_by_role("link", name="New").click()
    person.choose(clip("before.mp4"))
    person.sees("Ready")
    person.page.get_by_label("How many variations").fill("7")
    api.http.post("/api/auth/revoke").raise_for_status()
    person.choose(clip("after.mp4"))
    person.sees("Your session has ended")
    assert person.barriers() == []
    person.sign_in("wrong")
    person.sees("The password is wrong")
    person.sign_in()
    expect(person.video("after.mp4")).to_contain_text("Ready")
    expect(person.video("before.mp4")).to_contain_text("Ready")
    expect(person.page.get_by_label("How many variations")).to_have_value("7")


def test_signing_out_on_all_devices_is_asked_for_and_ends_every_session(person: Person, api: User) -> None:
    person.page.get_by_role("link", name="Usage").click()
    person.press("Sign out on all devices")
    person.sees("this one too")
    assert person.barriers() == []
    person.press("Stay signed in")
    assert api.http.get("/api/batches").status_code == 200
    person.press("Sign out on all devices")
    person.page.get_by_role("dialog").get_by_role("button", name="Sign out on all devices").click()
    expect(person.page.get_by_label("Password")).to_be_visible()
    assert api.http.get("/api/batches").status_code == 401


def test_the_page_speaks_the_language_that_is_chosen_and_keeps_it(newcomer: Person) -> None:
    newcomer.open("#/usage")
    newcomer.page.get_by_label("Language").select_option("Deutsch")
    newcomer.page.get_by_label("Passwort").fill(newcomer.password)
    newcomer.page.get_by_role("button", name="Anmelden").click()
    newcomer.sees("Kosten der letzten 14 Tage")
    assert newcomer.page.locator("html").get_attribute("lang") == "de"
    assert newcomer.barriers() == []
    newcomer.page.reload()
    newcomer.sees("Kosten der letzten 14 Tage")
    newcomer.open("#/batches/bat_00000000000000000000000000000000")
    newcomer.sees("Das gibt es nicht oder nicht mehr. Vielleicht wurde der Auftrag gelöscht.")
    newcomer.open("#/usage")
    newcomer.page.get_by_label("Sprache").select_option("English")
    newcomer.sees("Cost of the last 14 days")


def test_a_link_to_a_batch_that_is_gone_says_so(newcomer: Person) -> None:
    newcomer.enter("#/batches/bat_00000000000000000000000000000000")
    newcomer.sees("It may have been deleted")
    assert newcomer.barriers() == []
