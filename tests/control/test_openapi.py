"""The published OpenAPI document is the truth: thousands of made-up requests are answered as it says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from control.errors import Code
from infra.flyfaults import Faults, Site
from infra.flylocal import local_fly
from infra.s3local import LocalS3
from tests.control.maker import Maker, making

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
FULL = Faults(rate_limits=False, rates={Site.NO_CAPACITY: 1.0})  # so that no machine starts
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, s3: LocalS3) -> Iterator[Maker]:
    """A control with things in it, whose Fly answers and never has room."""
    folder = tmp_path_factory.mktemp("openapi")
    with (
        local_fly(folder / "fly", faults=FULL) as fly,
        making(folder, s3, fly_api_url=fly.url, fly_api_token=fly.token, runner_apps=fly.app) as maker,
    ):
        yield maker


@pytest.fixture
def document(served: Maker) -> dict[str, Any]:
    return dict(served.http.get("/openapi.json").json())


def test_made_up_requests_are_answered_as_the_document_says(served: Maker, tmp_path: Path) -> None:
    config = tmp_path / "schemathesis.toml"
    config.write_text(_config(served))
    url = str(served.http.base_url)
    command = [str(SCHEMATHESIS), "--config-file", str(config), "run", f"{url}/openapi.json"]
    command += ["--phases", "examples,coverage,fuzzing", "--checks", ",".join(CHECKS)]
    command += ["--max-examples", "8", "--seed", "1", "--no-shrink", "--generation-database", "none"]
    command += ["--exclude-path", "/api/auth/revoke", "--continue-on-failure"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def _config(served: Maker) -> str:
    """Return what schemathesis is to know: our tokens, and ids of what is there, for most of its requests."""
    done = served.make(b"one", b"two")
    live = served.submit(variations=2)
    attempt_id = served.claim(live["jobs"][0]["job_id"]).attempt_id
    doomed = [served.submit(variations=1) for _ in range(5)]
    upload = {"name": "a.mp4", "size_bytes": 9, "content_type": "video/mp4"}
    uploads = [served.http.post("/api/uploads", json=upload).json() for _ in range(3)]
    values = {
        "kept batches": _batch_ids(done, live),
        "kept jobs": _job_ids(done, live),
        "doomed batches": _batch_ids(*doomed),
        "doomed jobs": _job_ids(*doomed),
        "outputs": [output["output_id"] for output in done["sources"][0]["outputs"]],
        "uploads": [each["upload_id"] for each in uploads],
        "attempts": [attempt_id],
        "tickets": [done["ticket"]],
    }
    lines = ["max-stream-events = 3", "[dictionaries]"]
    lines += [f"{json.dumps(name)} = {{ values = {json.dumps(known)} }}" for name, known in values.items()]
    lines += ["[headers]", f"Authorization = {json.dumps(served.http.headers['Authorization'])}"]
    lines += ["[parameters]", *_known("output_id", "outputs"), *_known("upload_id", "uploads")]
    lines += ['"query.ticket" = { dictionary = "tickets", probability = 0.5 }']
    for noun, id_ in (("batches", "batch_id"), ("jobs", "job_id")):
        for method, kind in (("DELETE", "doomed"), ("GET", "kept"), ("HEAD", "kept"), ("POST", "kept")):
            lines += ["[[operations]]", f"include-path-regex = '^/api/{noun}/'", f"include-method = '{method}'"]
            lines += ["[operations.parameters]", *_known(id_, f"{kind} {noun}"), *_known("id", f"{kind} {noun}")]
    lines += ["[[operations]]", "include-tag = 'runner'"]
    lines += ["[operations.parameters]", *_known("attempt_id", "attempts")]
    lines += ["[operations.headers]", f"Authorization = 'Bearer {served.signer.attempt_token(attempt_id)}'"]
    return "\n".join(lines)


def _known(parameter: str, dictionary: str) -> list[str]:
    return [f'"path.{parameter}" = {{ dictionary = {json.dumps(dictionary)}, probability = 0.8 }}']


def _batch_ids(*batches: Mapping[str, Any]) -> list[str]:
    return [batch["batch_id"] for batch in batches]


def _job_ids(*batches: Mapping[str, Any]) -> list[str]:
    return [batch["jobs"][0]["job_id"] for batch in batches]
