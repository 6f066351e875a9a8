"""A client that holds connections to control does not keep others out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from control.app import create_app
from control.auth.tokens import Signer
from control.http import crowd, server, stalls
from control.http.server import HTTP_LIMITS, Waiting
from control.settings import Settings, load_settings
from infra.local.serve import serving
from tests.support.hostile import connected, is_ended_by, rest
from tests.support.processes import until
from tests.support.settings import SETTINGS

pytestmark = pytest.mark.peer

PASSWORD = {"password": SETTINGS["auth_password"]}
GET = b"GET /api/health HTTP/1.1\r\nHost: control\r\n"
DOCUMENT = b"GET /openapi.json HTTP/1.1\r\nHost: control\r\n"
LOGIN = b"POST /api/auth HTTP/1.1\r\nHost: control\r\nContent-Type: application/json\r\n"
ATTEMPT = "job_none-1"
CLAIM = f"/runner/attempts/{ATTEMPT}/claim"


HELD = {
    "unread body": GET + b"Content-Length: 9\r\n\r\n",
    "idle": GET + b"\r\n",
    "half a head": GET,
    "half a login": LOGIN + b"Content-Length: 99\r\n\r\n{",
    "silent": b"",
}


@dataclass(eq=False)
class Place:
    """A connection as far as it is waited for."""

    network: str


def login_from(url: str, address: str) -> int:
    return httpx.post(f"{url}/api/auth", json=PASSWORD, headers={"Fly-Client-IP": address}).status_code


def runner(settings: Settings) -> dict[str, str]:
    token = Signer(settings.token_secret.get_secret_value()).attempt_token(ATTEMPT)
    return {"Authorization": f"Bearer {token}"}


def test_an_app_that_reads_no_body_leaves_no_connection_behind(monkeypatch):
    monkeypatch.setattr(server, "LINGER_S", 0.5)
    monkeypatch.setattr(server, "IDLE_S_MAX", 3600.0)
    app = FastAPI()
    app.add_api_route("/api/health", lambda: "here")
    unread = GET + b"Content-Length: 1000000\r\n\r\n"
    with serving(app, **HTTP_LIMITS) as url, connected(url, unread) as connection:
        assert is_ended_by(connection, b"x")


def test_all_places_held_keep_nobody_out(settings, monkeypatch):
    monkeypatch.setattr(server, "CONNECTIONS_MAX", 40)
    monkeypatch.setattr(crowd, "REQUESTS_MAX", 30)
    with serving(create_app(settings), **HTTP_LIMITS) as url:
        for held in HELD.values():
            with ExitStack() as stack:
                for _ in range(60):
                    stack.enter_context(connected(url, held))
                until(partial(is_served, url, runner(settings)))


def is_served(url: str, headers: dict[str, str]) -> bool:
    """Return whether a claim and a health check are answered, as they must be at full load."""
    with suppress(httpx.TransportError):
        claim = httpx.post(url + CLAIM, json={"machine_id": "m"}, headers=headers)
        assert claim.json()["error"]["code"] == "not_found"
        return httpx.get(f"{url}/api/health").status_code == 200
    return False


def test_of_those_that_wait_the_oldest_of_the_largest_crowd_gives_way():
    waiting, crowd_ = Waiting(), [Place("192.0.2.1") for _ in range(3)]
    alone: Any = Place("192.0.2.2")
    assert waiting.dispensable() is None
    for each in (alone, *crowd_):
        waiting.add(each)  # type: ignore[arg-type]
    waiting.add(crowd_[0])  # type: ignore[arg-type] - which waits anew
    given: list[Any] = []
    while (one := waiting.dispensable()) is not None:
        waiting.discard(one)
        given.append(one)
    assert given[:2] == [crowd_[1], crowd_[2]]
    assert set(map(id, given)) == set(map(id, [alone, *crowd_]))


def test_requests_behind_an_unread_answer_are_not_under_way(settings, monkeypatch):
    monkeypatch.setattr(crowd, "REQUESTS_MAX", 5)
    monkeypatch.setattr(stalls, "STALL_S", 3600.0)
    with serving(create_app(settings), **HTTP_LIMITS) as url, ExitStack() as stack:
        httpx.get(f"{url}/openapi.json", timeout=60)  # made once, which takes its time
        for _ in range(10):
            stack.enter_context(connected(url, (DOCUMENT + b"\r\n") * 10, receive_bytes=4096))
        until(lambda: httpx.post(f"{url}/api/auth", json=PASSWORD).status_code == 200)


def test_when_clients_fill_all_their_places_runners_and_health_have_theirs(settings, monkeypatch):
    monkeypatch.setattr(crowd, "REQUESTS_MAX", 0)
    with serving(create_app(settings), **HTTP_LIMITS) as url:
        refused = httpx.post(f"{url}/api/auth", json=PASSWORD)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "unavailable")
        assert int(refused.headers["Retry-After"]) >= 1
        assert httpx.get(f"{url}/api/health").status_code == 200
        body = {"machine_id": "m"}
        assert httpx.post(url + CLAIM, json=body, headers=runner(settings)).status_code == 404
        forged = {"Authorization": "Bearer " + "a" * 64}
        assert httpx.post(url + CLAIM, json=body, headers=forged).status_code == 503


def test_one_client_cannot_take_all_places_and_behind_fly_clients_are_told_apart(settings, monkeypatch):
    monkeypatch.setattr(crowd, "CLIENT_REQUESTS_MAX", 2)
    behind_fly = settings.model_copy(update={"fly_app_name": "control"})
    with serving(create_app(behind_fly), **HTTP_LIMITS) as url, ExitStack() as stack:
        held = LOGIN + b"Fly-Client-IP: 2001:db8::1\r\nContent-Length: 99\r\n\r\n{"
        for _ in range(2):
            stack.enter_context(connected(url, held))
        until(lambda: login_from(url, "2001:db8::2") == 503)  # the same network
        assert login_from(url, "192.0.2.2") == 200


# --- on one control; the tests above come first, as each makes another: two at once share warning filters


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = load_settings(**SETTINGS, database_url=f"sqlite:///{tmp_path_factory.mktemp('c')}/control.db")
    with serving(create_app(settings), **HTTP_LIMITS) as url:
        yield url


@pytest.mark.parametrize(
    ("request_", "drip"),
    [
        (GET + b"Content-Length: 1000000\r\n\r\n", b"x"),
        (b"POST /nowhere HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (LOGIN + b"Content-Length: 1000000\r\n\r\n", b"x"),
        (LOGIN + b"Expect: 100-continue\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"POST /api/auth HTTP/1.0\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (GET + b"\r\n", b"\r\n"),
        (GET + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", b"x"),
        (b"no HTTP at all\r\n\r\n", b"x"),
        (b"", b"\r\n"),
        (GET, b"x"),
    ],
    ids=[
        "unread body",
        "chunks to nowhere",
        "too large a body",
        "a body that waits for 100",
        "HTTP/1.0",
        "between requests",
        "upgrade",
        "no HTTP",
        "before the first request",
        "in a head",
    ],
)
def test_no_drip_keeps_a_connection_open(url, monkeypatch, request_, drip):
    for name in ("HEAD_S_MAX", "IDLE_S_MAX", "LINGER_S"):
        monkeypatch.setattr(server, name, 0.5)
    with connected(url, request_) as connection:
        assert is_ended_by(connection, drip)


def test_who_is_refused_in_the_middle_of_sending_hears_why(url, monkeypatch):
    monkeypatch.setattr(server, "LINGER_S", 30.0)
    with connected(url, LOGIN + b"Content-Length: 20000000\r\n\r\n") as connection:
        for _ in range(20):
            connection.sendall(b"x" * 1_000_000)
        heard = rest(connection)
    assert heard.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in heard.lower()
    assert heard.endswith(b"}")


def test_an_answer_that_nobody_reads_is_given_up(url, monkeypatch):
    monkeypatch.setattr(stalls, "STALL_S", 0.3)
    events: list[str] = []
    monkeypatch.setattr(stalls, "log_event", lambda event, **_: events.append(event))
    whole = len(httpx.get(f"{url}/openapi.json", timeout=60).content)
    with connected(url, (DOCUMENT + b"\r\n") * 10, receive_bytes=4096) as connection:
        until(lambda: "stalled_client_dropped" in events)
        assert len(rest(connection)) < 10 * whole


def test_a_slow_reader_gets_all_its_answers(url, monkeypatch):
    monkeypatch.setattr(stalls, "STALL_S", 1.0)
    monkeypatch.setattr(stalls, "SLOWEST_BYTES", 1024)
    whole = len(httpx.get(f"{url}/openapi.json", timeout=60).content)
    requests = (DOCUMENT + b"\r\n") * 5 + DOCUMENT + b"Connection: close\r\n\r\n"
    with connected(url, requests, receive_bytes=4096) as connection:
        heard = rest(connection, pause_s=0.02)
    assert heard.count(b"HTTP/1.1 200") == 6
    assert len(heard) > 6 * whole
