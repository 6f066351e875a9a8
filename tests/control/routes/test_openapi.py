"""Control answers thousands of generated requests as its OpenAPI document says.

Each value at its limits, and what is missing, wrong or too much; SOAK_FULL=1 adds random ones.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from control.domain.errors import Code
from infra.flysim.faults import FailPoint, Faults
from infra.local.fly_server import local_fly
from infra.local.s3_server import LocalS3
from tests.support.maker import Maker, making

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
FULL = Faults(rate_limits=False, rates={FailPoint.NO_CAPACITY: 1.0})  # so that no machine starts
PHASES = "coverage,fuzzing" if os.environ.get("SOAK_FULL") else "coverage"
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


@pytest.fixture(scope="module")
def known(served: Maker) -> Mapping[str, Sequence[str]]:
    """Ids of what is there, by the names of parameters; those to be deleted apart from those that stay."""
    done = served.make(b"one", b"two")
    live = served.submit(variations=2)
    doomed = [served.submit(variations=1) for _ in range(5)]
    upload = {"name": "a.mp4", "size_bytes": 9, "content_type": "video/mp4"}
    uploads = [served.http.post("/api/uploads", json=upload).json() for _ in range(3)]
    batches, jobs = ids_of(done, live), ids_of(*done["jobs"], *live["jobs"])
    return {
        "batch_id": batches,
        "job_id": jobs,
        "id": [*batches, *jobs],
        "output_id": ids_of(*done["sources"][0]["outputs"]),
        "upload_id": ids_of(*uploads),
        "attempt_id": [served.claim(live["jobs"][0]["job_id"]).attempt_id],
        "doomed_batch_id": ids_of(*doomed),
        "doomed_job_id": ids_of(*(batch["jobs"][0] for batch in doomed)),
    }


def test_made_up_requests_are_answered_as_the_document_says(served, known, tmp_path):
    config = [
        *configured(known),
        "[[operations]]",
        "include-method = 'DELETE'",
        "[operations.parameters]",
        *(bound(f"path.{name}", f"doomed_{name}") for name in ("batch_id", "job_id")),
    ]
    token = served.http.headers["Authorization"]
    besides = ["--exclude-tag", "runner", "--exclude-path", "/api/auth/revoke"]
    besides += [
        "--exclude-path",
        "/api/ready",
    ]  # its 503 is an answer: the bucket has another control's rules
    schemathesis(served, tmp_path, config, token, *besides)


def test_made_up_calls_of_a_runner_are_answered_as_the_document_says(served, known, tmp_path):
    (attempt_id,) = known["attempt_id"]
    token = f"Bearer {served.signer.attempt_token(attempt_id)}"  # of any other attempt the answer is 401
    config = ["[parameters]", f"'path.attempt_id' = '{attempt_id}'"]
    lenient = ["--exclude-checks", "negative_data_rejection"]  # the wire takes what it can understand
    schemathesis(served, tmp_path, config, token, "--include-tag", "runner", *lenient)


def test_the_codes_of_errors_are_published_as_a_closed_list(served):
    document = served.http.get("/openapi.json").json()
    assert document["components"]["schemas"]["Code"]["enum"] == [code.value for code in Code]


def test_work_that_is_taken_is_answered_as_the_document_says(served):
    """Made-up requests name no source that is there, so these do."""
    document = served.http.get("/openapi.json").json()
    wish = {"sources": [{"source_id": served.source()}], "variations": 2}
    upload = {"name": "a.mp4", "size_bytes": 9, "content_type": "video/mp4"}
    asked = {
        "quote": (wish, "200"),
        "batches": (wish, "202"),
        "jobs": (wish, "202"),
        "uploads": (upload, "201"),
    }
    for noun, (body, status) in asked.items():
        answer = served.http.post(f"/api/{noun}", json=body)
        described = document["paths"][f"/api/{noun}"]["post"]["responses"]
        schema = described[status]["content"]["application/json"]["schema"]
        assert str(answer.status_code) == status
        jsonschema_rs.validate({**schema, "components": document["components"]}, answer.json())


def schemathesis(served: Maker, folder: Path, config: Sequence[str], token: str, *which: str) -> None:
    """Send requests that fit the document and many that do not, the same each time; none may fail."""
    file = folder / "schemathesis.toml"
    file.write_text("\n".join(config))
    command = [str(SCHEMATHESIS), "--config-file", str(file), "run", f"{served.http.base_url}/openapi.json"]
    command += ["--header", f"Authorization: {token}", "--checks", ",".join(CHECKS), *which]
    command += ["--phases", PHASES, "--max-examples", "4", "--seed", "1"]
    command += ["--no-shrink", "--generation-database", "none"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def configured(known: Mapping[str, Sequence[str]]) -> list[str]:
    dictionaries = [f"{name} = {{ values = {json.dumps(ids)} }}" for name, ids in known.items()]
    parameters = [bound(f"path.{name}", name) for name in known if not name.startswith("doomed")]
    return ["max-stream-events = 3", "[dictionaries]", *dictionaries, "[parameters]", *parameters]


def bound(parameter: str, dictionary: str) -> str:
    return f'"{parameter}" = {{ dictionary = "{dictionary}", probability = 0.8 }}'


def ids_of(*things: Mapping[str, Any]) -> list[str]:
    """Return the id of each: of what a thing has, its own id comes first."""
    return [next(value for name, value in thing.items() if name.endswith("_id")) for thing in things]
