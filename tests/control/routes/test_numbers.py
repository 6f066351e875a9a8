"""No number from a client causes a 500: each numeric field of the OpenAPI document is tried."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from control.app import create_app
from infra.local.serve import serving
from tests.support.openapi_fields import BODIES, fields, with_value
from tests.support.settings import SETTINGS

WILD = (
    *("1" + "0" * 400, "-1" + "0" * 400, "1" + "0" * 5000, "1e400", "-1e400", "1e308", "1e-320"),
    *("NaN", "Infinity", "-Infinity", "-0", "-0.0", str(2**53 + 1), str(2**63), str(-(2**63) - 1), "true"),
)


@pytest.fixture
def http(settings) -> Iterator[httpx.Client]:
    away = settings.model_copy(update={"fly_api_url": "http://127.0.0.1:9"})
    with serving(create_app(away)) as url, httpx.Client(base_url=url, timeout=30) as http:
        token = http.post("/api/auth", json={"password": SETTINGS["auth_password"]}).json()["token"]
        http.headers["Authorization"] = f"Bearer {token}"
        yield http


def test_no_number_in_a_body_is_an_internal_error(http):
    document = http.get("/openapi.json").json()
    tried = 0
    for path, body in BODIES.items():
        content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        for field in fields(content["schema"], document["components"]["schemas"], "integer", "number"):
            for number in WILD:
                answer = http.post(
                    path.format(upload_id="upl_1"),
                    content=with_value(body, field, number),
                    headers={"Content-Type": "application/json"},
                )
                assert answer.status_code in (200, 202, 402, 404, 413, 422, 503, 507), (
                    path,
                    field,
                    number[:20],
                )
                assert "Infinity" not in answer.text
                tried += 1
    assert tried > 15 * len(WILD), "all that there is"


def test_no_number_in_a_query_is_an_internal_error(http):
    tried = 0
    for path, calls in http.get("/openapi.json").json()["paths"].items():
        for parameter in calls.get("get", {}).get("parameters", ()):
            is_number = "integer" in json.dumps(parameter) and parameter["in"] == "query"
            for number in (*WILD, "1_0", "\uff11", "") if is_number else ():
                answer = http.get(path.format(job_id="j", batch_id="b"), params={parameter["name"]: number})
                assert answer.status_code in (200, 401, 404, 422), (path, parameter["name"], number[:20])
                tried += 1
    assert tried > 2 * len(WILD), "all that there is"


def test_no_number_in_a_form_is_an_internal_error(http):
    for field in ("variations", "seed", "max_cost_usd"):
        for number in WILD:
            answer = http.post("/api/jobs", data={field: number}, files={"files": ("a.mp4", b"no video")})
            assert answer.status_code == 422, (field, number[:20])
