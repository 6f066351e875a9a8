"""Failures while a job runs: only affected outputs fail, with a reason, and a lost machine is replaced."""

from __future__ import annotations

import json
import os
import signal
import struct
from pathlib import Path
from typing import Any

import pytest

from control.cli.local import LocalStack
from tests.support.foreign import Server
from tests.support.processes import Process, descendants, processes, runners, until
from tests.support.user import User, outputs


@pytest.fixture(scope="module")
def spoilt(landscape: Path) -> bytes:
    """A clip with a whole index whose every frame is garbage."""
    content = bytearray(landscape.read_bytes())
    offset = 0
    while offset < len(content):
        size, kind = struct.unpack_from(">I4s", content, offset)
        if kind == b"mdat":
            content[offset + 8 : offset + size] = b"\xa5" * (size - 8)
        offset += size
    return bytes(content)


@pytest.fixture
def _idle(stack: LocalStack) -> None:
    """Wait until no runner of an earlier test is left, so that the next one is that of this test."""
    until(lambda: not runners(os.getpid()))


def test_a_source_that_cannot_be_decoded_fails_alone(user: User, spoilt: bytes, landscape: Path) -> None:
    sources = [user.upload(spoilt, name="spoilt.mp4"), user.upload(landscape, name="good.mp4")]
    batch = user.wait(user.submit(*sources, variations=2)["batch_id"])
    assert (batch["status"], batch["partial"]) == ("completed", True)
    assert batch["progress"] == {"percent": 100.0, "ready": 2, "failed": 2, "total": 4, "eta_s": 0}
    bad, good = batch["sources"]
    assert (bad["status"], good["status"]) == ("failed", "ready")
    assert {output["status"] for output in good["outputs"]} == {"ready"}
    for output in bad["outputs"]:
        assert output["status"] == "failed"
        assert output["error"]["code"]
        assert "/tmp" not in output["error"]["message"]
        assert user.http.get(f"/api/outputs/{output['output_id']}").status_code == 404
    members = user.unzip(batch["batch_id"])
    assert set(members) == {"manifest.csv", "manifest.json", *(output["name"] for output in good["outputs"])}
    entries = json.loads(members["manifest.json"])["outputs"]
    assert [entry["error"] for entry in entries] == [output["error"] for output in outputs(batch)]


def test_a_batch_of_which_nothing_can_be_made_fails(user: User, spoilt: bytes) -> None:
    batch = user.wait(user.submit(user.upload(spoilt), variations=2)["batch_id"])
    assert (batch["status"], batch["partial"]) == ("failed", False)
    assert [job["status"] for job in batch["jobs"]] == ["failed"]
    assert len(batch["attempts"]) == 1, "what the source does wrong is not tried again"
    answer = user.http.get(f"/api/batches/{batch['batch_id']}/download")
    assert answer.status_code == 409
    assert answer.json()["error"]["code"] == "not_ready"


@pytest.mark.usefixtures("_idle")
def test_an_ffmpeg_that_is_killed_costs_no_output(user: User, slow: Path) -> None:
    job = user.submit(user.upload(slow), variations=2, kind="jobs")
    os.kill(until(_renderer).pid, signal.SIGKILL)
    end = user.wait(job["job_id"])
    assert (end["status"], end["partial"], end["error"]) == ("completed", False, None)
    assert {output["status"] for output in outputs(end)} == {"ready"}
    assert len(end["attempts"]) == 1


@pytest.mark.usefixtures("_idle")
def test_a_machine_that_dies_is_replaced_and_what_was_ready_stays(
    user: User, source: str, slow: Path, theirs: Server
) -> None:
    late = theirs.hold(slow.read_bytes())
    job = user.submit(source, late.url, variations=2, kind="jobs")

    def with_some_ready() -> dict[str, Any] | None:
        shown = user.show(job["job_id"])
        return shown if shown["progress"]["ready"] else None

    before = until(with_some_ready)
    (runner,) = runners(os.getpid())
    late.let_go()
    until(_renderer)
    ffmpegs = descendants(runner.pid)
    os.kill(runner.pid, signal.SIGKILL)
    end = user.wait(job["job_id"])
    assert (end["status"], end["partial"], end["error"]) == ("completed", False, None)
    first, second = end["attempts"]
    assert (first["state"], first["reason"]) == ("lost", "machine_ended")
    assert (second["number"], second["state"]) == (2, "succeeded")
    assert first["machine_id"] != second["machine_id"]
    assert all(attempt["cost_usd"] > 0 for attempt in (first, second))
    assert {output["status"] for output in outputs(end)} == {"ready"}
    kept = {o["output_id"]: o["sha256"] for o in outputs(before) if o["status"] == "ready"}
    assert kept.items() <= {o["output_id"]: o["sha256"] for o in outputs(end)}.items()
    made_by = {e["output_id"]: e["attempt_id"] for e in _manifest(user, job["job_id"])["outputs"]}
    assert {made_by[output_id] for output_id in kept} == {first["attempt_id"]}
    assert set(made_by.values()) == {first["attempt_id"], second["attempt_id"]}
    until(lambda: not {process.pid for process in ffmpegs} & {process.pid for process in processes()})


def _renderer() -> Process | None:
    """Return an FFmpeg that renders an output, as its arguments show."""
    rendering = (process for process in descendants(os.getpid()) if "libx264" in process.command)
    return next(rendering, None)


def _manifest(user: User, id_: str) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(user.unzip(id_)["manifest.json"])
    return manifest
