"""Pictures of every screen, for people to check: `python -m tests.web.looks FOLDER [VIDEO...]`.

In light, dark and phone width. The README's picture is `light-readme.png` of a run with real footage.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import imageio_ffmpeg
from playwright.sync_api import Browser, sync_playwright

from control.cli.local import local_stack
from tests.web.browser import Person, launch

DESK, PHONE = {"width": 1180, "height": 800}, {"width": 390, "height": 844}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"viewport": DESK, "color_scheme": "light"},
    "dark": {"viewport": DESK, "color_scheme": "dark"},
    "phone": {"viewport": PHONE, "color_scheme": "light", "device_scale_factor": 2},
}
BAR = """(position) => { // in a picture of the whole page it is at its end
    for (const bar of document.querySelectorAll(".start")) bar.style.position = position;
}"""
CLIPS = {
    "spring-sale.mp4": "s=640x360:d=5:seed=4:n=4:c0=0x3b2fd6:c1=0xff8a5c:c2=0x12a594:c3=0xffd27a",
    "story-vertical.mp4": "s=360x640:d=4:seed=9:n=3:c0=0x0e7490:c1=0xf472b6:c2=0xfde68a",
}


def main(folder: Path, videos: list[Path]) -> None:
    """Write the pictures of each look to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        videos = videos or [_clip(Path(scratch) / name, picture) for name, picture in CLIPS.items()]
        browser = launch(playwright)
        refused = Path(scratch) / "refused"
        refused.mkdir()
        for number in range(5):
            (refused / f"damaged {number}.mp4").write_text("no video")
        with local_stack(Path(scratch) / "stack") as stack:
            for name, look in LOOKS.items():
                _walk(browser, folder / name, look, videos, refused, stack.url, stack.password)


def _clip(path: Path, picture: str) -> Path:
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        f"gradients=r=30:{picture}",
        str(path),
    ]
    subprocess.run(command, check=True)
    return path


def _walk(
    browser: Browser,
    name: Path,
    look: dict[str, Any],
    videos: list[Path],
    refused: Path,
    url: str,
    password: str,
) -> None:
    with browser.new_context(**look) as context:
        person = Person(context, url, password)

        def picture(screen: str, *, whole: bool = True) -> None:
            person.page.evaluate(BAR, "static" if whole else "")
            person.page.screenshot(path=f"{name}-{screen}.png", full_page=whole, animations="disabled")
            person.page.evaluate(BAR, "")

        person.open()
        person.sees("Password")
        picture("signin")
        person.sign_in()
        person.sees("Drop your videos")
        picture("empty")
        person.slowly(20_000)
        person.choose(*videos)
        person.page.wait_for_timeout(1500)
        picture("uploading")
        person.slowly(0)
        for video in videos:
            person.video(video.name).get_by_text("Ready").wait_for()
        person.page.wait_for_timeout(1000)
        picture("new")
        more = person.page.get_by_text("More", exact=True)
        more.click()
        picture("choices")
        more.click()
        let_go = person.drag(refused)
        picture("drop", whole=False)
        let_go()
        person.sees("5 cannot be used")
        picture("refused")
        person.press("Remove those")
        person.make(6)
        person.sees(re.compile(r"^[1-9]\d* of \d+ ready"))
        picture("running")
        person.wait_for_end()
        person.page.wait_for_timeout(1000)
        picture("done")
        picture("readme", whole=False)
        person.press("Play Variation 1")
        person.page.wait_for_timeout(1500)
        picture("player", whole=False)
        for view in ("Side by side", "Slider"):
            person.page.get_by_role("radio", name=view).check()
            person.page.wait_for_timeout(1000)
            picture(view.lower().replace(" ", "-"), whole=False)
        person.page.keyboard.press("Escape")
        person.page.get_by_label("Choose Variation 2").first.check()
        picture("chosen", whole=False)
        person.press("Delete")
        picture("delete", whole=False)
        person.page.keyboard.press("Escape")
        person.press("Share")
        person.press("Make a link")
        link = person.page.get_by_label("Share link").input_value()
        picture("share", whole=False)
        person.page.keyboard.press("Escape")
        for screen in ("Batches", "Usage"):
            person.page.get_by_role("link", name=screen).click()
            person.page.wait_for_timeout(1000)
            picture(screen.lower())
        person.page.get_by_role("link", name="Batches").click()
        person.press("Select")
        person.page.get_by_role("checkbox").nth(1).check()
        picture("select", whole=False)
        person.page.goto(link)
        person.page.wait_for_timeout(1000)
        picture("shared")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(argument) for argument in sys.argv[2:]])
