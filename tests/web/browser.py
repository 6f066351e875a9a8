"""Real Chromium, and a person in front of it who uses the page by what is visible."""

from __future__ import annotations

import base64
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

from playwright.sync_api import (
    Browser,
    BrowserContext,
    CDPSession,
    ConsoleMessage,
    Locator,
    Playwright,
    expect,
)

from tests.support.programs import need

AXE = Path(__file__).parents[2] / "control/web/node_modules/axe-core/axe.min.js"
WAIT_MS = 60_000
expect.set_options(timeout=WAIT_MS)
SHIFT_MAX = 0.02  # a fifth of what https://web.dev/articles/cls calls good (2026-11)
NETWORK_ERROR = "Failed to load resource"  # Chromium's own line for any answer of 400 and above

# Files as a drop from a folder brings them.
_DROP = """async ([files]) => {
    const transfer = new DataTransfer();
    for (const { name, content } of files) {
        const bytes = Uint8Array.from(atob(content), (char) => char.charCodeAt(0));
        transfer.items.add(new File([bytes], name, { type: "video/mp4", lastModified: 1 }));
    }
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
}"""
_NOTE = """addEventListener("securitypolicyviolation", (event) =>
    console.error("CSP", event.violatedDirective, event.blockedURI, event.sample));
window.shifted = 0;
new PerformanceObserver((list) => {
    for (const { value, hadRecentInput } of list.getEntries()) if (!hadRecentInput) window.shifted += value;
}).observe({ type: "layout-shift", buffered: true });"""


_SHARE = """navigator.canShare = () => true;
navigator.share = async ({ files: [{ name, type, size }] }) => { window.handed = [name, type, size]; };"""


def launch(playwright: Playwright) -> Browser:
    """Return Debian's Chromium; skips without it."""
    options = ["--disable-background-networking", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    return playwright.chromium.launch(executable_path=need("chromium"), args=options)


class Person:
    """Someone at one tab. What the page logs as an error is in `complaints`."""

    def __init__(self, context: BrowserContext, url: str, password: str) -> None:
        self.context, self.url, self.password = context, url, password
        self.complaints: list[str] = []
        context.add_init_script(_NOTE)
        context.set_default_timeout(WAIT_MS)
        self.page = context.new_page()
        self._network: CDPSession | None = None
        self._upload_rate = -1
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: dialog.accept())  # "leave this page?"

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def open(self, where: str = "") -> None:
        self.page.goto(f"{self.url}/{where}")

    def sign_in(self, password: str | None = None) -> None:
        self.page.get_by_label("Password").fill(self.password if password is None else password)
        self.page.get_by_role("button", name="Sign in").click()

    def enter(self, where: str = "") -> None:
        """Open the page and sign in."""
        self.open(where)
        self.sign_in()
        expect(self.page.get_by_role("navigation", name="Main")).to_be_visible()

    def choose(self, *files: Path) -> None:
        """Pick files with the file dialog."""
        self.page.get_by_label("Videos", exact=True).and_(self.page.locator("input")).set_input_files(
            list(files)
        )

    def drop(self, *files: Path) -> None:
        """Drop files on the page."""
        contents = [{"name": f.name, "content": base64.b64encode(f.read_bytes()).decode()} for f in files]
        self.page.evaluate(_DROP, [contents])

    def drag(self, *paths: Path) -> Callable[[], None]:
        """Drag files and folders over the page, as from a file manager. Return what lets them go."""
        session = self.context.new_cdp_session(self.page)
        what = {
            "x": 200,
            "y": 200,
            "data": {"items": [], "files": [*map(str, paths)], "dragOperationsMask": 1},
        }

        def send(kind: str) -> None:
            session.send("Input.dispatchDragEvent", {"type": kind, **what})

        send("dragEnter")
        send("dragOver")
        return partial(send, "drop")

    def sees(self, text: str | re.Pattern[str]) -> Locator:
        """Wait until a text is on the page, and return it."""
        found = self.page.get_by_text(text).first
        expect(found).to_be_visible(timeout=2 * WAIT_MS)
        return found

    def waits_until(self, script: str, arg: object = None) -> None:
        """Wait until a script gives what is true, by polls from outside: the page's CSP forbids `eval`."""
        until_s = time.monotonic() + WAIT_MS / 1000
        while not self.page.evaluate(script, arg):
            assert time.monotonic() < until_s, script
            self.page.wait_for_timeout(50)

    def press(self, name: str | re.Pattern[str]) -> None:
        self.page.get_by_role("button", name=name).first.click()

    def video(self, name: str) -> Locator:
        """Return the line of a video of the new batch."""
        return self.page.locator(".video").filter(has_text=name)

    def make(self, variations: int) -> str:
        """Order so many variations of what is there, and return the batch's id."""
        self.page.get_by_label("How many variations").fill(str(variations))
        self.press(re.compile(r"Make \d+ video"))
        self.page.wait_for_url(re.compile("#/batches/bat_"))
        return self.page.url.rpartition("/")[2]

    def result(self) -> Locator:
        """Return the result in the player, which also shows its source."""
        return self.page.locator(".stage-result video")

    def open_details(self) -> None:
        """Unfold the machines and events of the batch on the screen."""
        self.page.locator("summary", has_text="Details").click()

    def wait_for_end(self) -> str:
        """Wait until the batch on the screen has ended, and return how."""
        ended = self.page.locator(".batch-head .pill").filter(
            has_text=re.compile("Done|Failed|Cancelled|Partly done|Expired")
        )
        expect(ended).to_be_visible(timeout=2 * WAIT_MS)
        return ended.inner_text()

    def barriers(self) -> list[str]:
        """Return what axe finds that keeps people out."""
        self.page.evaluate(_axe())
        rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
        found: dict[str, Any] = self.page.evaluate("(rules) => axe.run(document, rules)", rules)
        return [f"{v['id']}: {[n['html'] for n in v['nodes']]}" for v in found["violations"]]

    def shifted(self) -> float:
        """Return how much of the page has moved by itself since it was loaded, as Chromium scores it."""
        score: float = self.page.evaluate("window.shifted")
        return score

    def has_moved_the_page(self) -> None:
        """Forget what moved so far: the person did that, though Chromium does not take a script for one."""
        self.page.evaluate("window.shifted = 0")

    @contextmanager
    def on_a_phone(self) -> Iterator[None]:
        """Reload the tab on a phone. `window.handed` is the name, type and size of a file that it shares."""
        phone = self.context.new_cdp_session(self.page)
        size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
        phone.send("Page.enable")
        phone.send("Emulation.setDeviceMetricsOverride", size)
        phone.send("Emulation.setTouchEmulationEnabled", {"enabled": True})
        script = phone.send("Page.addScriptToEvaluateOnNewDocument", {"source": _SHARE})["identifier"]
        self.page.reload()
        yield
        phone.send("Page.removeScriptToEvaluateOnNewDocument", {"identifier": script})
        phone.detach()  # which ends what it emulates
        self.page.reload()

    @contextmanager
    def offline(self) -> Iterator[None]:
        """Without a network while the block runs."""
        self._set_network(is_offline=True)
        yield
        self._set_network()

    def slowly(self, bytes_per_s: int) -> None:
        """Have what is sent from now on take its time; 0 is no limit."""
        self._upload_rate = bytes_per_s or -1
        self._set_network()

    def _set_network(self, *, is_offline: bool = False) -> None:
        # By one session: of several, each undoes what another has said.
        self._network = self._network or self.context.new_cdp_session(self.page)
        rates = {"downloadThroughput": -1, "uploadThroughput": self._upload_rate}
        self._network.send("Network.emulateNetworkConditions", {"offline": is_offline, "latency": 0, **rates})


@cache
def _axe() -> str:
    return AXE.read_text()
