"""No text that a client can write is our error, on either database: each field of the document is tried."""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from urllib.parse import quote

import httpx
import pytest

from control.app import create_app
from infra.local.serve import serving
from tests.support.openapi_fields import BODIES, fields, with_value
from tests.support.settings import SETTINGS

# what PostgreSQL takes in no text, what SQL and LIKE have a meaning for, what is no character, what is long
TEXTS = ("a\0b", "%' OR 1=1; DROP TABLE batch; --\\", "\ud800", "x" * 70_000)
CURSORS = [
    urlsafe_b64encode(text.encode()).decode()
    for text in ("2026-01-01T00:00:00+00:00~a\0b", "0001-01-01T00:00:00+23:59~x", "9999-12-31~x")
]
FINE = {200, 202, 204, 401, 402, 404, 409, 413, 415, 422, 429, 503, 507}
MORE_BODIES = {"/api/batches/{id}/download-link": {"output_ids": ["x"]}, "/api/auth": {"password": "x"}}


@pytest.fixture
def http(settings) -> Iterator[httpx.Client]:
    away = {"fly_api_url": "http://127.0.0.1:9", "storage_cap_bytes": 10**15}
    served = create_app(settings.model_copy(update=away))
    with serving(served) as url, httpx.Client(base_url=url, timeout=30) as http:
        token = http.post("/api/auth", json={"password": SETTINGS["auth_password"]}).json()["token"]
        http.headers.update({"Authorization": f"Bearer {token}", "Content-Type": "application/json"})
        yield http


def test_no_text_in_a_body_an_address_or_a_query_is_an_internal_error(http):
    document, tried = http.get("/openapi.json").json(), 0
    for path, body in {**BODIES, **MORE_BODIES}.items():
        content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        for field in fields(content["schema"], document["components"]["schemas"], "string"):
            base = {**body, "sources": [{}]} if field[-1] == "source_id" else body
            for text in TEXTS:
                sent = with_value(base, field, json.dumps(text))
                answer = http.post(path.format(upload_id="u", id="b"), content=sent)
                assert answer.status_code in FINE, (path, field, text[:20], answer.text)
                tried += 1
    for path, calls in document["paths"].items():
        for method in set(calls) & {"get", "head", "post", "delete"}:
            queries = [each["name"] for each in calls[method].get("parameters", ()) if each["in"] == "query"]
            for text in (*TEXTS[:2], *(CURSORS if "cursor" in queries else ())):
                address = re.sub(r"\{\w+\}", quote(text, safe=""), path)
                for asked in ({}, *({name: text} for name in queries)):
                    sent = "{}" if method == "post" else None
                    answer = http.request(method, address, params=asked, content=sent)
                    assert answer.status_code in FINE, (method, path, asked, answer.text)
                    tried += 1
    assert tried > 200, "all that there is"


def test_a_search_means_its_text_and_not_what_a_database_makes_of_it(http):
    names = ("50% off", "a_b", "a\\b", "axb", "o'clock", "ÄÖÜ")
    for name in names:
        source = {"url": f"https://example.com/{quote(name)}.mp4", "name": name}
        assert http.post("/api/batches", json={"sources": [source], "preset": "copy"}).status_code == 202

    def found(q: str) -> list[str]:
        items = http.get("/api/batches", params={"q": q}).json()["items"]
        return sorted(name for item in items for name in item["source_names"])

    assert [found(q) for q in ("%", "A_B", "\\", "'", "ÄÖ", "x")] == [
        [name] for name in ("50% off", "a_b", "a\\b", "o'clock", "ÄÖÜ", "axb")
    ]
    assert found("' OR '1'='1") == found("_%") == []
    assert found("") == sorted(names)
