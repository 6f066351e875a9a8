"""Fly's OpenAPI document, the part that we use: what requests and answers are held against."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs

SPEC = json.loads(Path(__file__).with_name("machines-openapi.json").read_text(encoding="utf-8"))


@cache
def _validator(schema_json: str) -> Any:
    schema = json.loads(schema_json)
    # OpenAPI 3.0 schemas are close to draft 4; this document uses no `nullable`
    return jsonschema_rs.Draft4Validator({**schema, "components": SPEC["components"]})


def _operation(request: httpx.Request) -> dict[str, Any]:
    path = request.url.raw_path.decode().partition("?")[0].removeprefix("/v1")
    for template, operations in SPEC["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            return operations[request.method.lower()]
    raise AssertionError(f"Fly has no route {path}")


def _check(content: dict[str, Any], body: bytes) -> None:
    schema = content.get("application/json", {}).get("schema")
    if schema is not None:
        _validator(json.dumps(schema)).validate(json.loads(body))


def check_request(request: httpx.Request) -> None:
    """Raise unless the document knows the route, its query names (but `metadata.*`) and the body."""
    operation = _operation(request)
    known = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"}
    unknown = {key for key in request.url.params if not key.startswith("metadata.")} - known - {"kill"}
    assert not unknown, f"Fly has no parameter {unknown}"
    if request.content:
        _check(operation["requestBody"]["content"], request.content)


def check_answer(answer: httpx.Response) -> None:
    """Raise unless the answer has the shape of its route's success, or of every error."""
    answer.read()
    if answer.is_success:
        _check(_operation(answer.request)["responses"]["200"]["content"], answer.content)
    else:
        error = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}}
        _check(error, answer.content)
        assert "error" in answer.json()
        assert set(answer.json()) <= {"error", "status"}


def check_machine(shown: dict[str, Any]) -> None:
    """Raise unless this is a machine as the document has it."""
    _validator(json.dumps({"$ref": "#/components/schemas/Machine"})).validate(shown)
