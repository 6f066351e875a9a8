"""Control against callers that guess, stall or flood, over real HTTP."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

import httpx
import pytest

from control.app import create_app
from control.auth.login_limit import FREE_TRIES
from control.http import middleware, server
from control.http.server import HTTP_LIMITS
from control.settings import Settings
from infra.local.serve import serving
from tests.support.hostile import connected, rest
from tests.support.settings import SETTINGS

pytestmark = pytest.mark.peer

PASSWORD = {"password": SETTINGS["auth_password"]}
WRONG = {"password": "a guess"}


@pytest.fixture
def url(settings: Settings) -> Iterator[str]:
    with serving(create_app(settings), **HTTP_LIMITS) as url:
        yield url


@pytest.fixture
def fly_url(settings: Settings) -> Iterator[str]:
    with serving(create_app(settings.model_copy(update={"fly_app_name": "control"})), **HTTP_LIMITS) as url:
        yield url


def statuses(url: str, count: int, **headers: str) -> list[int]:
    with httpx.Client(base_url=url) as http:
        return [http.post("/api/auth", json=WRONG, headers=headers).status_code for _ in range(count)]


def test_after_a_few_wrong_passwords_the_next_is_429_and_says_when_to_try_again(url):
    assert statuses(url, FREE_TRIES) == [401] * FREE_TRIES
    answer = httpx.post(f"{url}/api/auth", json=PASSWORD)
    assert answer.status_code == 429
    assert answer.json()["error"]["code"] == "too_many_tries"
    assert int(answer.headers["Retry-After"]) >= 1


def test_a_forged_forwarding_header_does_not_reset_the_count(url):
    names = ["X-Forwarded-For", "Fly-Client-IP", "X-Real-IP", "Forwarded"]
    tries = [statuses(url, 1, **dict.fromkeys(names, f"192.0.2.{n}"))[0] for n in range(FREE_TRIES + 1)]
    assert tries[-1] == 429


def test_behind_fly_each_client_has_its_own_count(fly_url):
    assert statuses(fly_url, FREE_TRIES + 1, **{"Fly-Client-IP": "192.0.2.1"})[-1] == 429
    other = httpx.post(f"{fly_url}/api/auth", json=PASSWORD, headers={"Fly-Client-IP": "192.0.2.2"})
    assert other.status_code == 200


def test_half_open_requests_are_closed_and_do_not_keep_others_waiting(settings, monkeypatch):
    monkeypatch.setattr(server, "HEAD_S_MAX", 0.5)
    with ExitStack() as stack:
        url = stack.enter_context(serving(create_app(settings), **HTTP_LIMITS))
        host, port = urlsplit(url).hostname, urlsplit(url).port
        stalled = [stack.enter_context(socket.create_connection((host, port))) for _ in range(200)]
        for each in stalled:
            each.sendall(b"GET /api/health HTTP/1.1\r\nHost: control\r\nX-Slow: ")
        assert httpx.get(f"{url}/api/health").status_code == 200
        for each in stalled:
            each.settimeout(30)
            assert each.recv(1) == b""


def test_a_second_request_that_stalls_on_the_same_connection_is_closed_too(settings, monkeypatch):
    monkeypatch.setattr(server, "HEAD_S_MAX", 0.5)
    with serving(create_app(settings), **HTTP_LIMITS) as url:
        address = (urlsplit(url).hostname, urlsplit(url).port)
        with socket.create_connection(address) as connection:
            connection.settimeout(30)
            connection.sendall(b"GET /api/health HTTP/1.1\r\nHost: control\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")
            connection.sendall(b"GET /api/hea")
            assert connection.recv(1) == b""


GET = b"GET /api/health HTTP/1.1\r\nHost: control\r\n"
POST = b"POST /api/auth HTTP/1.1\r\nHost: control\r\nTransfer-Encoding: chunked\r\n\r\n"


def answers_to(url: str, begin: bytes, endless: bytes) -> bytes:
    """Return what comes back until the connection ends, while more and more is sent."""
    with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port)) as connection:
        connection.settimeout(30)
        connection.sendall(begin)
        with suppress(ConnectionError):
            for _ in range(100):
                connection.sendall(endless)
        heard = b""
        with suppress(ConnectionError):
            while more := connection.recv(65536):
                heard += more
        return heard


@pytest.mark.parametrize(
    ("begin", "endless"),
    [
        (GET + b"X-Long: ", b"x" * 65536),
        (GET, b"X-Many: x\r\n" * 6000),
        (b"GET /api/health?", b"x" * 65536),
        (POST + b"2\r\n{}\r\n0\r\n", b"X-Late: x\r\n" * 6000),
    ],
    ids=["one header", "many headers", "address", "what follows a body"],
)
def test_a_head_without_end_is_cut_off_and_others_are_served(url, begin, endless):
    assert b"HTTP/1.1 200" not in answers_to(url, begin, endless)
    assert httpx.get(f"{url}/api/health").status_code == 200


def test_a_few_requests_may_wait_behind_another_and_a_flood_of_them_is_cut_off(url):
    few = answers_to(url, (GET + b"\r\n") * 2 + GET + b"Connection: close\r\n\r\n", b"")
    assert few.count(b"HTTP/1.1 200") == 3
    assert answers_to(url, (GET + b"\r\n") * 3000, b"").count(b"HTTP/1.1 200") < 3000
    assert httpx.get(f"{url}/api/health").status_code == 200


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 2\r\nTransfer-Encoding: chunked",
        b"Content-Length: 2\r\nContent-Length: 3",
        b"Transfer-Encoding: xchunked",
        b"Content-Length : 2",
        b"X: a\r\n b",
    ],
)
def test_a_body_of_two_lengths_or_an_odd_header_is_a_bad_request(url, head):
    request = b"POST /api/auth HTTP/1.1\r\nHost: control\r\n" + head + b"\r\n\r\n{}"
    assert answers_to(url, request, b"").startswith(b"HTTP/1.1 400")


def test_a_body_that_trickles_is_answered_408(settings, monkeypatch):
    monkeypatch.setattr(middleware, "LOGIN_S_MAX", 0.1)
    head = b"POST /api/auth HTTP/1.1\r\nHost: control\r\nContent-Type: application/json\r\n"
    begun = head + b'Content-Length: 16\r\n\r\n{"password": "'
    with serving(create_app(settings), **HTTP_LIMITS) as url, connected(url, begun) as connection:
        answer = rest(connection)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"too_slow"' in answer
