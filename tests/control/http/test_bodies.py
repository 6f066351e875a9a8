"""The cost of request bodies for control is limited: by sender, size, time and sum."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import httpx
import pytest
from starlette.exceptions import HTTPException

from control.app import create_app
from control.http import middleware
from control.http.middleware import (
    BRACKETS_MAX,
    CLIENT_BYTES_MAX,
    LOGIN_BYTES_MAX,
    REPORT_BYTES_MAX,
    Audience,
    Body,
    client_bytes_max,
)
from control.http.server import HTTP_LIMITS
from control.routes import forms
from control.settings import Settings, load_settings
from control.views.schemas.base import NAME_CHARS_MAX
from control.views.schemas.submit import OUTPUT_URLS_CHARS_MAX
from infra.local.serve import serving
from infra.outbound import URL_CHARS_MAX
from tests.control.http.test_connections import ATTEMPT, CLAIM, PASSWORD, runner
from tests.support.hostile import connected, needs_proc, rest, rss_bytes
from tests.support.processes import until
from tests.support.settings import SETTINGS

pytestmark = pytest.mark.peer

SUBMITS = ("/api/jobs", "/api/batches", "/api/quote")
COMPLETE = "/api/uploads/upl_none/complete"
FINISH = f"/runner/attempts/{ATTEMPT}/finish"
FORM_HEAD = b'--B\r\nContent-Disposition: form-data; name="files"; filename="a.mp4"\r\n\r\n'


def signed_in(url: str) -> dict[str, str]:
    token = httpx.post(f"{url}/api/auth", json=PASSWORD).json()["token"]
    return {"Authorization": f"Bearer {token}"}


def head(path: str, headers: dict[str, str], **more: str) -> bytes:
    """Return the head of a POST of JSON."""
    fields = {"Host": "control", "Content-Type": "application/json"} | headers | more
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def status(url: str, sent: bytes) -> int:
    """Return the status that is answered to what was sent so far."""
    with connected(url, sent) as connection:
        return int(connection.recv(65536).split()[1])


def _sender(settings: Settings, url: str, path: str) -> tuple[dict[str, str], int]:
    if path == "/api/auth":
        return {}, LOGIN_BYTES_MAX
    if path == FINISH:
        return runner(settings), REPORT_BYTES_MAX
    return signed_in(url), client_bytes_max(path)


def wish(sources: int) -> dict[str, Any]:
    return {"sources": [{"source_id": "s"}] * sources, "variations": 0}


def send(http: httpx.Client, request: httpx.Request) -> httpx.Response:
    return http.post(request.url, content=request.content, headers={"Content-Type": "application/json"})


def chunk(content: bytes) -> bytes:
    return f"{len(content):x}\r\n".encode() + content + b"\r\n"


def answered(connection: socket.socket, *, beside: list[socket.socket]) -> bytes:
    """Return the status of the answer, empty as long as there is none, while the others drip."""
    for each in beside:
        with suppress(OSError):
            each.sendall(chunk(b"x"))
    try:
        return connection.recv(65536)[9:12]
    except TimeoutError:
        return b""


def test_a_login_that_is_held_in_the_middle_gives_way_to_the_next(settings, monkeypatch):
    monkeypatch.setattr(middleware, "LOGINS_BYTES", 3 * LOGIN_BYTES_MAX)
    with serving(create_app(settings), **HTTP_LIMITS) as url, ExitStack() as stack:
        begun = head("/api/auth", {}, **{"Content-Length": str(LOGIN_BYTES_MAX)}) + b'{"password": "'
        held = [stack.enter_context(connected(url, begun)) for _ in range(10)]
        assert [rest(each)[9:12] for each in held[:7]] == [b"408"] * 7
        assert httpx.post(f"{url}/api/auth", json=PASSWORD).status_code == 200


def test_room_for_bodies_is_given_back_and_runners_have_their_own(settings, monkeypatch):
    monkeypatch.setattr(middleware, "CLIENTS_BYTES", 1000)
    with serving(create_app(settings), **HTTP_LIMITS) as url:
        headers = signed_in(url)
        small, large = [httpx.Request("POST", f"{url}/api/quote", json=wish(n)) for n in (1, 500)]
        with httpx.Client(headers=headers) as http:
            for _ in range(60):
                assert send(http, small).status_code == 422
            refused = send(http, large)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
        assert int(refused.headers["Retry-After"]) >= 1
        report = {"machine_id": "m" * 2000}
        assert httpx.post(url + CLAIM, json=report, headers=runner(settings)).status_code in (404, 422)


def test_forms_that_drip_give_their_places_up(settings, monkeypatch):
    monkeypatch.setattr(forms, "SLACK_S", 1.0)
    with serving(create_app(settings), **HTTP_LIMITS) as url, ExitStack() as stack:
        form = {"Content-Type": "multipart/form-data; boundary=B"} | signed_in(url)
        begun = head("/api/jobs", form, **{"Transfer-Encoding": "chunked"}) + chunk(FORM_HEAD)
        held = [stack.enter_context(connected(url, begun)) for _ in range(forms.AT_ONCE_MAX)]
        fifth = stack.enter_context(connected(url, begun + chunk(b"no video\r\n--B--\r\n") + b"0\r\n\r\n"))
        fifth.settimeout(0.1)
        until(lambda: answered(fifth, beside=held) == b"422")
        assert {rest(each)[9:12] for each in held} == {b"408"}


# --- on one control; the tests above come first, as each makes another: two at once share warning filters


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Settings]]:
    settings = load_settings(**SETTINGS, database_url=f"sqlite:///{tmp_path_factory.mktemp('c')}/control.db")
    with serving(create_app(settings), **HTTP_LIMITS) as url:
        yield url, settings


@pytest.fixture
def url(served: tuple[str, Settings]) -> str:
    return served[0]


@pytest.mark.parametrize("path", [*SUBMITS, COMPLETE, "/api/uploads", "/api/auth/revoke", CLAIM, FINISH])
@pytest.mark.parametrize("token", ["", "Bearer 1999999999." + "a" * 64, "Bearer " + "a" * 64, "Basic eDp4"])
def test_without_a_good_token_no_body_is_waited_for(url, path, token):
    headers = {"Authorization": token} if token else {}
    assert status(url, head(path, headers, **{"Content-Length": "100"}) + b"{") == 401


@pytest.mark.parametrize("path", ["/api/auth", *SUBMITS, COMPLETE, "/api/uploads", FINISH])
def test_too_large_a_body_is_refused_at_its_head(served, path):
    url, settings = served
    headers, most = _sender(settings, url, path)
    too_many = {"Content-Length": str(most + 1)}
    assert status(url, head(path, headers, **too_many)) == 413
    chunked = head(path, headers, **{"Transfer-Encoding": "chunked"})
    assert status(url, chunked + f"{most + 1:x}\r\n".encode() + b"x" * (most + 1) + b"\r\n") == 413


def test_all_accepted_bodies_fit(url):
    headers = signed_in(url)
    source = {"url": "https://e.example/" + "a" * (URL_CHARS_MAX - 18), "name": "\U0001f600" * NAME_CHARS_MAX}
    links = ["https://e.example/" + "a" * (URL_CHARS_MAX - 18)] * (OUTPUT_URLS_CHARS_MAX // URL_CHARS_MAX)
    batch = {
        "sources": [{**source, "output_urls": links}, *[source] * 99],
        "variations": 1,
        "webhook_url": source["url"],
        "output_url": source["url"],
    }
    for path in SUBMITS:
        assert len(json.dumps(batch)) < client_bytes_max(path)
    parts = [{"number": n + 1, "etag": '"' + "f" * 62 + '"'} for n in range(10_000)]
    answer = httpx.post(url + COMPLETE, json={"parts": parts}, headers=headers)
    assert answer.json()["error"]["code"] == "not_found"
    ids = [f"out_{n:022}" for n in range(10_000)]
    assert len(json.dumps({"output_ids": ids})) < client_bytes_max("/api/batches/bat_x/download-link")
    upload = {
        "name": "\U0001f600" * NAME_CHARS_MAX,
        "size_bytes": 2**63,
        "content_type": "video/" + "x" * 249,
    }
    assert len(json.dumps(upload)) < CLIENT_BYTES_MAX
    assert httpx.post(f"{url}/api/auth", json={"password": "x" * 1024}).status_code == 401


@needs_proc
def test_large_bodies_of_anyone_take_no_memory(url):
    body = b'{"password": "' + b"x" * 2_000_000
    for path in ("/api/auth", "/api/batches", "/nowhere"):
        with ExitStack() as stack:
            before = rss_bytes()
            for _ in range(100):
                connection = stack.enter_context(
                    connected(url, head(path, {}, **{"Content-Length": "2097000"}))
                )
                connection.sendall(body)
            assert rss_bytes() - before < 100 * 2_000_000 / 2


@pytest.mark.parametrize("bracket", [b"[]", b"{}"])
def test_a_body_of_more_lists_and_objects_than_any_valid_one_is_refused_unparsed(settings, bracket):
    sent = b'{"sources":[' + b",".join([bracket] * BRACKETS_MAX) + b"]}"
    with serving(create_app(settings), **HTTP_LIMITS) as url:
        head = {**signed_in(url), "Content-Type": "application/json"}
        assert httpx.post(f"{url}/api/quote", content=sent, headers=head).status_code == 413


def test_a_body_that_gives_way_is_told_to_be_sent_again_even_if_its_next_part_has_just_arrived():
    async def part() -> dict[str, Any]:
        return {"type": "http.request", "body": b"part", "more_body": True}

    async def second_read() -> None:
        oldest, newest, audience = Body(part), Body(part), Audience(100, 60.0)
        oldest.admit(audience, 60)
        assert (await oldest.next())["body"] == b"part"
        newest.admit(audience, 60)
        await oldest.next()

    with pytest.raises(HTTPException) as refused:
        asyncio.run(second_read())
    assert refused.value.status_code == 408
