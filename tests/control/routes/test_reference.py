"""`/docs`: the reference of the API as a page of our own, made from the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import httpx
import jsonschema_rs
import pytest

from control.routes import reference
from tests.support.maker import Maker

pytestmark = pytest.mark.peer  # the maker's control has a real bucket


@pytest.fixture(scope="module")
def document(maker: Maker) -> dict[str, Any]:
    found: dict[str, Any] = maker.http.get("/openapi.json").json()
    return found


@pytest.fixture(scope="module")
def answer(maker: Maker) -> httpx.Response:
    return httpx.get(f"{maker.http.base_url}/docs")  # without a token, as a browser asks


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, found in document["paths"].items():
        for method, operation in found.items():
            yield f"{method.upper()} {path}", operation


class Page(HTMLParser):
    """The tags of a page that load something or run, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "img", "iframe", "object") or any(k.startswith("on") for k, _ in attrs):
            self.loads.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_runs_nothing_and_loads_nothing(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert Page(answer.text).loads == []
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "script-src" not in policy
    assert re.findall(r'(?:href|src)="(?!#)([^"]*)"', answer.text) == ["/openapi.json"]


def test_every_operation_of_clients_has_a_sentence_an_example_and_its_errors(
    answer: httpx.Response, document: dict[str, Any]
) -> None:
    sections = {
        Page(part.partition("</h3>")[0].partition(">")[2]).text: Page(part).text
        for part in answer.text.split("<section ")[1:]
    }
    wanted = {name: op for name, op in operations(document) if op["tags"] != ["runner"]}
    assert set(sections) == set(wanted)
    for name, operation in wanted.items():
        text = sections[name]
        assert operation["summary"].endswith("."), name
        assert operation["summary"].replace("`", "") in text
        assert "curl " in text
        assert "{" not in text.partition("curl ")[2].partition(" ")[0], "an address without gaps"
        for status, each in operation["responses"].items():
            assert status in text
            if status >= "400" and name != "GET /api/ready":
                assert each["description"].startswith("Error `"), (name, status)


def test_every_body_of_clients_has_an_example_that_fits_the_document(document: dict[str, Any]) -> None:
    checked = 0
    for _, operation in operations(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            if operation["tags"] != ["runner"] and "properties" not in content["schema"]:
                schema = {**content["schema"], "components": document["components"]}
                jsonschema_rs.validate(schema, reference.example(document, content["schema"]))
                checked += 1
    assert checked >= 8


def test_what_the_document_says_is_text(document: dict[str, Any]) -> None:
    hostile = {**document, "info": {"title": "<script>x</script>", "version": "&"}}
    assert Page(reference.page(hostile)).loads == []
    assert "&lt;script&gt;" in reference.page(hostile)
