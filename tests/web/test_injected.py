"""What an attacker would put into a page, or into a file that the page plays: nothing of it is run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Browser, BrowserContext, Route, expect

from control.store.tables import Source
from infra.local.s3_server import LocalS3
from infra.s3 import TigrisStorage
from runner.contract import ExtraFile, OutputFile, OutputReport, OutputSpec
from tests.support.maker import Maker, add_source, facts, lay, making, put
from tests.support.settings import SETTINGS
from tests.web.browser import Person

HIT = "window.top.hits = [...(window.top.hits || []), '{}']"
HTML = b"<!doctype html><title>hit</title><script>document.title = 'hit'</script>"
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>document.title = 'hit'</script></svg>"


@contextmanager
def foreign_host() -> Iterator[tuple[str, list[str]]]:
    """Yield the origin of a host that answers with a script, and the paths that it is asked for."""
    asked: list[str] = []

    class Foreign(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("Content-Type", "text/javascript")
            self.end_headers()
            self.wfile.write(HIT.format("foreign").encode())

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Foreign) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def injected(evil: str) -> str:
    """Return markup in which each way to run or fetch something appears once."""
    return f"""<base href="{evil}/base/"><script>{HIT.format("inline")}</script>
        <script src="{evil}/script"></script><script type="module" src="{evil}/module"></script>
        <img src="x" onerror="{HIT.format("handler")}"><img src="{evil}/img">
        <svg onload="{HIT.format("svg")}"><script>{HIT.format("script in svg")}</script></svg>
        <iframe src="{evil}/frame"></iframe><iframe srcdoc="<script>{HIT.format("srcdoc")}</script>"></iframe>
        <object data="{evil}/object"></object><embed src="{evil}/embed"><video src="{evil}/video"></video>
        <link rel="stylesheet" href="{evil}/style"><style>@import "{evil}/import";</style>
        <a id="link" href="javascript:{HIT.format("link")}">x</a>
        <form id="form" method="post" action="{evil}/form"><input name="password" value="x"></form>"""


@pytest.fixture(scope="module")
def maker(browser: Browser, s3: LocalS3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maker]:
    with making(tmp_path_factory.mktemp("injected"), s3) as running:
        yield running


@pytest.fixture
def tab(context: BrowserContext) -> BrowserContext:
    context.set_default_timeout(20_000)
    return context


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_markup_in_a_page_runs_nothing_and_asks_nobody(tab: BrowserContext, maker: Maker, path: str) -> None:
    with foreign_host() as (evil, asked):

        def inject(route: Route) -> None:
            answer = route.fetch()
            route.fulfill(response=answer, body=answer.text().replace("<head>", f"<head>{injected(evil)}", 1))

        address = f"{maker.http.base_url}{path}"
        tab.route(address, inject)
        page = tab.new_page()
        page.goto(address)
        expect(page.locator("#form")).to_have_count(1)
        page.eval_on_selector("#link", "link => link.click()")
        page.eval_on_selector("#form", "form => form.submit()")
        page.wait_for_timeout(200)
        assert page.evaluate("window.hits") is None
        assert page.evaluate("document.baseURI") == address
        assert page.url == address
        assert asked == []


def test_names_are_text_in_the_list_and_for_whom_a_link_is_shared_with(
    tab: BrowserContext, maker: Maker
) -> None:
    evil = f'<img src=x onerror="{HIT.format("name")}"><b>bold</b>'
    batch = maker.make(b"one", names=[f"{evil}.mp4"], variations=1, name=evil)
    link = maker.http.post(f"/api/batches/{batch['batch_id']}/share-link").json()["url"]
    url = str(maker.http.base_url).rstrip("/")
    person = Person(tab, url, SETTINGS["auth_password"])
    person.enter("#/batches")
    expect(person.page.locator(".batch-name").first).to_have_text(evil)
    person.open(f"#{link.partition('#')[2]}")
    expect(person.page.get_by_role("heading", level=1)).to_have_text(evil)
    person.press("Play Variation 1")
    expect(person.page.get_by_role("dialog")).to_be_visible()
    assert person.page.evaluate("window.hits") is None


def test_a_file_that_is_a_page_is_played_and_never_run(
    tab: BrowserContext, maker: Maker, storage: TigrisStorage
) -> None:
    """Whatever the bucket was told of its kind: the signed URLs say what it is answered as."""
    spec = maker.claim(maker.submit("x.html", variations=2)["jobs"][0]["job_id"])
    reports = [_as_page(output, content) for output, content in zip(spec.outputs, (HTML, SVG), strict=True)]
    assert maker.finish(spec, reports).status_code == 200
    sources = [add_source(maker.store, name) for name in ("x.html", "x.svg")]
    with maker.store.transaction() as tx:
        for source_id in sources:
            file = lay(storage, f"sources/{source_id}", HTML)
            tx.session.get_one(Source, source_id).key = file.key
    kinds = set()
    for address in (
        *(f"outputs/{output.output_id}?disposition=inline" for output in spec.outputs),
        *(f"outputs/{output.output_id}/poster" for output in spec.outputs),
        *(f"sources/{source_id}" for source_id in sources),
    ):
        page = tab.new_page()
        answer = page.goto(maker.http.get(f"/api/{address}").headers["Location"])
        assert answer is not None
        kinds.add(answer.headers["content-type"])
        assert page.title() != "hit", address
        page.close()
    assert kinds == {"video/mp4", "image/jpeg"}


def _as_page(output: OutputSpec, content: bytes) -> OutputReport:
    """Store a page as an output and as its poster, and return the report."""
    assert output.poster
    put(output.put_url, {**output.put_headers, "Content-Type": "text/html"}, content)
    put(output.poster.url, {**output.poster.headers, "Content-Type": "image/svg+xml"}, content)
    file = OutputFile(**facts(content), duration_s=2.0, ffmpeg_args=["-i"])
    poster = ExtraFile(**facts(content))
    return OutputReport(output_id=output.output_id, status="ready", percent=100, file=file, poster=poster)
