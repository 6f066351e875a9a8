"""Expiry, a full bucket, and other origins, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from control import app
from control.cli.local import LocalStack, local_stack
from control.passes.retention import expire
from tests.e2e.test_changes import refused
from tests.support.processes import until
from tests.support.user import User, address, ok, outputs, sign_in

RETENTION_S = 4.0
CAP_BYTES = 40_000_000
ORIGIN = "https://app.example"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETENTION_HOURS", str(RETENTION_S / 3600))
        patch.setenv("STORAGE_CAP_BYTES", str(CAP_BYTES))
        patch.setenv("ALLOWED_ORIGINS", f"{ORIGIN},http://localhost:5173")
        patch.setattr(app, "SLOW_PASSES", ((expire, 0.2),))
        with local_stack(tmp_path_factory.mktemp("hasty")) as running:
            yield running


@pytest.fixture(scope="module")
def user(stack: LocalStack) -> Iterator[User]:
    with httpx.Client(base_url=stack.url, timeout=30) as client:
        sign_in(client, stack.password)
        yield User(client)


@pytest.fixture(scope="module")
def source(user: User, landscape: Path) -> str:
    return user.upload(landscape)


def test_when_its_time_is_over_a_batch_shows_expired_and_its_files_are_gone(user: User, source: str) -> None:
    held = storage(user)["used_bytes"]
    end = user.wait(user.submit(source, variations=2, kind="jobs")["job_id"])
    job_id, batch_id = end["job_id"], end["batch_id"]
    shown = until(lambda: shown if (shown := user.show(batch_id))["status"] == "expired" else None)
    assert shown is not None
    assert shown["expires_at"] > shown["ended_at"]
    assert {output["status"] for output in outputs(shown)} == {"ready"}, "the rows stay"
    assert user.show(job_id)["status"] == "expired"
    for id_ in (job_id, batch_id):
        assert refused(user.http.get(f"{address(id_)}/download")) == (410, "expired")
        assert refused(user.http.post(f"{address(id_)}/retry")) == (410, "expired")
        assert user.http.post(f"{address(id_)}/cancel").status_code == 202
    output = outputs(shown)[0]["output_id"]
    assert refused(user.http.get(f"/api/outputs/{output}")) == (410, "expired")
    listed = ok(user.http.get("/api/jobs", params={"status": "expired"}), 200)["items"]
    assert job_id in {job["job_id"] for job in listed}
    stream = user.http.get(f"{address(job_id)}/events").text
    assert stream.count("event: end\n") == 1
    assert '"status":"expired"' in stream.split("event: end\n")[1]
    until(lambda: storage(user)["used_bytes"] == held)


def test_a_full_bucket_takes_neither_an_upload_nor_a_batch(user: User, vertical: Path) -> None:
    source = user.upload(vertical)
    held = storage(user)
    assert held["cap_bytes"] == CAP_BYTES
    assert held["percent"] == round(100 * held["used_bytes"] / CAP_BYTES, 1)
    body = {"name": "big.mp4", "size_bytes": CAP_BYTES + 1, "content_type": "video/mp4"}
    assert refused(user.http.post("/api/uploads", json=body)) == (507, "storage_full")
    announced = user.open_upload(CAP_BYTES - int(held["used_bytes"]))
    asked = {"sources": [{"source_id": source}], "variations": 1}
    for kind in ("batches", "jobs"):
        assert refused(user.http.post(f"/api/{kind}", json=asked)) == (507, "storage_full")
    assert user.http.delete(f"/api/uploads/{announced['upload_id']}").status_code == 204
    user.wait(user.submit(source, variations=1)["batch_id"])


def test_storage_needs_a_token(stack: LocalStack) -> None:
    assert refused(httpx.get(f"{stack.url}/api/storage")) == (401, "unauthorized")


def test_pages_of_exactly_the_named_origins_may_call_the_api(stack: LocalStack, user: User) -> None:
    def preflight(origin: str) -> httpx.Response:
        headers = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
        }
        return httpx.options(f"{stack.url}/api/batches", headers=headers)

    for origin in (ORIGIN, "http://localhost:5173"):
        answer = preflight(origin)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == origin
        called = user.http.get("/api/batches", headers={"Origin": origin})
        assert called.headers["access-control-allow-origin"] == origin
        assert "etag" in called.headers["access-control-expose-headers"].lower()
        assert "access-control-allow-credentials" not in called.headers
    for stranger in ("https://app.example.evil", "http://app.example", "null", stack.url):
        assert "access-control-allow-origin" not in preflight(stranger).headers
        called = user.http.get("/api/batches", headers={"Origin": stranger})
        assert "access-control-allow-origin" not in called.headers


def test_the_bucket_of_the_stack_takes_uploads_from_our_pages(stack: LocalStack, user: User) -> None:
    upload = user.open_upload(10)
    for origin, is_allowed in ((stack.url, True), (ORIGIN, True), ("https://other.example", False)):
        headers = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
        answer = httpx.options(upload["parts"][0]["url"], headers=headers)
        assert ("access-control-allow-origin" in answer.headers) == is_allowed


def storage(user: User) -> dict[str, float]:
    return ok(user.http.get("/api/storage"), 200)
