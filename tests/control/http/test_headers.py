"""The headers of every answer, also to foreign pages and forged hosts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest

from control.app import create_app
from control.http.server import HTTP_LIMITS
from control.settings import load_settings
from infra.local.serve import serving
from tests.support.settings import SETTINGS

OURS, FOREIGN = "https://app.example.com", "https://evil.example.com"
PATHS = ("/api/health", "/api/jobs", "/api/nothing", "/openapi.json", "/runner/attempts/job_1-1/claim", "/")
HOSTS = ("evil.example.com", "evil.example.com/api/health?", "127.0.0.1:1", "[::1]", "a b", "x" * 5000)


PAGE = {("GET", "/"), ("HEAD", "/")}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    more = {"public_url": "https://control.test", "allowed_origins": (OURS,)}
    with serving_control(tmp_path_factory.mktemp("headers"), **more) as client:
        yield client


@contextmanager
def serving_control(folder: Path, **more: Any) -> Iterator[httpx.Client]:
    settings = load_settings(**{**SETTINGS, "database_url": f"sqlite:///{folder}/control.db", **more})
    with (
        serving(create_app(settings), **HTTP_LIMITS) as url,
        httpx.Client(base_url=url, timeout=20) as client,
    ):
        yield client


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS"])
def test_every_answer_has_the_closed_headers_and_names_no_server(client, method):
    for path in PATHS:
        headers = client.request(method, path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["strict-transport-security"] == "max-age=31536000"
        assert headers["cache-control"] == ("no-cache" if (method, path) in PAGE else "no-store")
        assert "server" not in headers


def test_the_answer_to_an_unexpected_error_has_the_closed_headers_too(client, monkeypatch):
    monkeypatch.setattr("control.views.batches.Views.active_jobs", lambda _: 1 / 0)
    answer = client.get("/api/health")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "ZeroDivision" not in answer.text


def test_plain_http_gets_no_header_that_demands_https(tmp_path):
    with serving_control(tmp_path) as client:
        assert "strict-transport-security" not in client.get("/api/health").headers


def test_the_answer_to_a_refused_method_names_all_methods_of_the_address(client):
    allowed = {path: client.put(path).headers["allow"] for path in ("/api/jobs", "/api/jobs/job_1", "/")}
    assert allowed == {"/api/jobs": "GET, POST", "/api/jobs/job_1": "DELETE, GET", "/": "GET, HEAD"}


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_only_allowed_origins_may_call(client, method):
    def origin_let_in(origin: str) -> str | None:
        headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        answer = client.request(method, "/api/jobs", headers=headers)
        assert "access-control-allow-credentials" not in answer.headers
        return answer.headers.get("access-control-allow-origin")

    near = [FOREIGN, "null", "http://app.example.com", f"{OURS}:444", f"{OURS}.evil.com", OURS.upper(), "*"]
    assert {origin: origin_let_in(origin) for origin in near} == dict.fromkeys(near)
    assert origin_let_in(OURS) == OURS


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host[:30])
def test_a_forged_host_opens_nothing_leads_nowhere_and_is_not_repeated(client, host):
    for path in ("/api/jobs", "/api/jobs/", "//evil.example.com/api/jobs", "/assets"):
        answer = client.get(path, headers={"Host": host})
        assert answer.status_code in (400, 401, 404)
        assert "location" not in answer.headers
        assert host not in answer.text + str(answer.headers)


def test_the_version_is_shown_only_by_health_and_the_openapi_document(client):
    named = [path for path in PATHS if version("video-refresher") in client.get(path).text]
    assert named == ["/api/health", "/openapi.json"]
