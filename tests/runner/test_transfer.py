"""Bytes by signed URLs through a real connection, with a bucket that fails on demand."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner import retry
from runner.contract import OutputFault
from runner.probe import OutputFailure
from runner.stop import Stop, Stopped
from runner.transfer import StorageUnavailable, fetch, fingerprint, upload
from tests.fake_control import SIGNATURE, FakeControl, fake_control
from tests.runner.clips import PLAIN

BYTES = random.Random(1).randbytes(3_000_000)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeControl]:
    monkeypatch.setattr(retry, "PAUSE_S_MAX", 0.01)
    with fake_control() as control:
        control.sources = {"s1": BYTES}
        control.outputs = [("o1", "s1", PLAIN)]
        yield control


def fetched(bucket: FakeControl, tmp_path: Path, stop: Stop | None = None) -> bytes:
    path = tmp_path / "source"
    fetch(bucket.spec().sources[0], path, stop=stop or Stop())
    return path.read_bytes()


def put(bucket: FakeControl, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "output"
    path.write_bytes(content)
    upload(bucket.spec().outputs[0], path, len(content), stop=Stop())


def test_a_cut_download_goes_on_where_it_ended(bucket: FakeControl, tmp_path: Path) -> None:
    bucket.cut_gets = 3
    assert fetched(bucket, tmp_path) == BYTES


def test_a_source_that_is_gone_is_the_outputs_fault(bucket: FakeControl, tmp_path: Path) -> None:
    bucket.failing["GET"] = [500, 410]
    with pytest.raises(OutputFailure) as caught:
        fetched(bucket, tmp_path)
    assert caught.value.code is OutputFault.SOURCE_GONE


def test_a_bucket_that_never_answers_well_is_unavailable(bucket: FakeControl, tmp_path: Path) -> None:
    bucket.failing["GET"] = [503] * 8
    with pytest.raises(StorageUnavailable, match="8 tries failed, the last one with 503"):
        fetched(bucket, tmp_path)
    assert bucket.failing["GET"] == []


def test_a_refused_signature_is_not_tried_again(bucket: FakeControl, tmp_path: Path) -> None:
    bucket.failing["PUT"] = [403, 403]
    with pytest.raises(StorageUnavailable) as caught:
        put(bucket, tmp_path, b"video")
    assert bucket.failing["PUT"] == [403]
    assert SIGNATURE not in str(caught.value)


def test_a_larger_source_than_promised_is_refused(bucket: FakeControl, tmp_path: Path) -> None:
    source = bucket.spec().sources[0].model_copy(update={"size_bytes": 10})
    with pytest.raises(StorageUnavailable, match="larger"):
        fetch(source, tmp_path / "source", stop=Stop())


def test_nothing_is_fetched_after_a_stop(bucket: FakeControl, tmp_path: Path) -> None:
    stop = Stop()
    stop.set()
    with pytest.raises(Stopped):
        fetched(bucket, tmp_path, stop)


def test_an_object_that_is_there_already_is_left_as_it_is(bucket: FakeControl, tmp_path: Path) -> None:
    put(bucket, tmp_path, b"first")
    put(bucket, tmp_path, b"second")
    assert bucket.objects == {"output/o1": b"first"}


def test_a_large_upload_arrives_whole_after_failures(bucket: FakeControl, tmp_path: Path) -> None:
    bucket.failing["PUT"] = [503, 429]
    put(bucket, tmp_path, BYTES)
    assert bucket.objects == {"output/o1": BYTES}


def test_the_fingerprint_of_known_bytes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"123456789")
    facts = fingerprint(tmp_path / "file")
    assert (facts.size_bytes, facts.crc32) == (9, 0xCBF43926)
    assert facts.md5 == "25f9e794323b453885f5181f1b624d0b"
    assert facts.sha256.startswith("15e2b0d3c33891eb")
