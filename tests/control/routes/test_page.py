"""The page's files: their headers, caching and size, and that they load nothing from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from control.context import AppContext
from control.domain.errors import ControlError
from control.http.errors import STATUS, body
from control.http.middleware import ClosedHeaders
from control.routes import page
from infra.local.serve import serving

GZIPPED_BYTES_MAX = 60_000
LOADED = re.compile(r"""import\([`"']\./([\w.-]+)[`"']\)""")
TEXTS = ("assets/de-", "assets/en-")  # of each language; a visit loads one
FOREIGN = re.compile(rb"""https?://(?!www\.w3\.org/)[\w.-]+""")

if not page.BUILT.exists():
    pytest.skip("the page is not built here (SKIP_FRONTEND)", allow_module_level=True)


@pytest.fixture
def client(context: AppContext) -> Iterator[httpx.Client]:
    with served(context) as client:
        yield client


@contextmanager
def served(context: AppContext) -> Iterator[httpx.Client]:
    app = FastAPI()
    app.add_middleware(ClosedHeaders, is_https=False)
    app.include_router(page.routes(context))

    @app.exception_handler(ControlError)
    def refused(_: object, error: ControlError) -> JSONResponse:
        return JSONResponse(body(error.code, error.message), STATUS[error.code])

    with serving(app) as url, httpx.Client(base_url=url) as client:
        yield client


def assets(client: httpx.Client) -> list[str]:
    """Return the paths of all assets: those that the page names, and those that its scripts load later."""
    named = set(re.findall(r"assets/[\w.-]+", client.get("/").text))
    scripts = [client.get(path).text for path in named if path.endswith(".js")]
    return sorted(named | {f"assets/{name}" for text in scripts for name in re.findall(LOADED, text)})


def test_the_page_may_load_nothing_but_its_own_files_and_the_bucket(client: httpx.Client) -> None:
    policy = client.get("/").headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "style-src 'self'" in policy
    assert "connect-src 'self' http://127.0.0.1:1" in policy
    assert "frame-ancestors 'none'" in policy
    assert not [rule for rule in policy if "unsafe" in rule or "*" in rule]


def test_every_file_says_what_it_is_and_sends_no_referrer(client: httpx.Client) -> None:
    for path in ("/", *assets(client)):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["content-type"] != "application/octet-stream"


def test_assets_are_kept_for_ever_and_the_page_is_requested_each_time(client: httpx.Client) -> None:
    first = client.get("/")
    assert first.headers["cache-control"] == "no-cache"
    again = client.get("/", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert len(assets(client)) >= 3
    for path in assets(client):
        assert "immutable" in client.get(path).headers["cache-control"]


def test_the_gzipped_page_is_small_and_the_same_as_the_plain_one(client: httpx.Client) -> None:
    sizes = {}
    for path in ("/", *assets(client)):
        zipped = client.get(path)
        plain = client.get(path, headers={"Accept-Encoding": "identity"})
        assert zipped.headers["content-encoding"] == "gzip"
        assert zipped.content == plain.content
        sizes[path] = int(zipped.headers["content-length"])
    texts = [size for path, size in sizes.items() if path.startswith(TEXTS)]
    assert len(texts) == len(TEXTS)
    assert sum(sizes.values()) - sum(texts) + max(texts) <= GZIPPED_BYTES_MAX


def test_no_address_of_anyone_else_is_in_the_page(client: httpx.Client) -> None:
    for path in ("/", *assets(client)):
        found = set(FOREIGN.findall(client.get(path).content))
        assert found == set()


@pytest.mark.parametrize("name", ["index.html", "..%2findex.html", "%2e%2e%2f%2e%2e%2fpage.py", "none.js"])
def test_an_unknown_asset_is_not_found(client: httpx.Client, name: str) -> None:
    assert client.get(f"/assets/{name}").status_code == 404


def test_without_a_build_the_page_says_what_to_do(
    context: AppContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "BUILT", tmp_path)
    with served(context) as client:
        answer = client.get("/")
    assert answer.status_code == 404
    assert "make setup" in answer.json()["error"]["message"]
