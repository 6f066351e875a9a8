"""Whole jobs on a bucket that answers as the real one may: late, busy, refusing. They lose nothing."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from control.cli.local import LocalStack, local_stack
from infra.local.s3_door import DoorFaults
from tests.support.processes import until
from video_refresher import Client

Switch = Callable[..., Counter[str]]


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A stack whose every part reaches the bucket through the door."""
    with local_stack(tmp_path_factory.mktemp("door"), bucket_faults=DoorFaults()) as running:
        yield running


@pytest.fixture
def switch(behind: LocalStack) -> Iterator[Switch]:
    """Sets what goes wrong by its name, and returns what has until then; afterwards nothing does."""
    key = behind.settings.aws_secret_access_key.get_secret_value()
    headers = {"Authorization": f"Bearer {key}"}

    def put(**rates: float) -> Counter[str]:
        url = f"{behind.settings.aws_endpoint_url_s3}/admin/faults"
        return Counter(
            httpx.put(url, json={"rates": rates}, headers=headers).raise_for_status().json()["hits"]
        )

    yield put
    put()


@pytest.fixture
def client(behind: LocalStack) -> Iterator[Client]:
    with Client.signed_in(behind.url, password=behind.password) as signed_in:
        yield signed_in


def assert_whole(client: Client, batch_id: str, folder: Path, *, attempts: int | None = 1) -> None:
    """Fail unless the batch has all its outputs, which its ZIP holds."""
    batch = client.wait(batch_id)
    assert (batch.status, batch.partial, batch.progress.ready) == ("completed", False, 2), batch
    if attempts is not None:
        assert len(batch.attempts) == attempts
    client.download(batch_id, folder / "all.zip")
    with zipfile.ZipFile(folder / "all.zip") as archive:
        assert archive.testzip() is None
        assert sum(name.endswith(".mp4") for name in archive.namelist()) == 2
    assert all(output.poster for output in batch.outputs)


def test_a_job_on_a_bucket_that_is_late_and_busy_uses_one_attempt_and_loses_nothing(
    client: Client, switch: Switch, landscape: Path, tmp_path: Path
) -> None:
    before = switch(stale_read=1.0, slow_down=0.15, request_timeout=0.15, lifecycle_refused=1.0)
    source = client.upload(landscape)
    batch = client.submit([source], variations=2)
    assert_whole(client, batch.batch_id, tmp_path)
    hits = switch() - before
    assert hits["stale_read"] >= 3, "the source, and each output"
    assert hits["slow_down"] + hits["request_timeout"] > 0


def test_a_bucket_that_refuses_path_style_is_named_and_the_job_goes_on_once_it_does_not(
    behind: LocalStack, client: Client, switch: Switch, landscape: Path, tmp_path: Path
) -> None:
    source = client.upload(landscape)
    switch(path_style_refused=1.0)
    batch = client.submit([source], variations=2)

    def named() -> bool:
        answer = httpx.get(f"{behind.url}/api/ready")
        return answer.status_code == 503 and answer.json()["parts"]["storage"] != "ok"

    until(named)
    assert switch()["path_style_refused"] > 0
    assert_whole(client, batch.batch_id, tmp_path, attempts=None)
