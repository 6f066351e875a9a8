"""After kill -9 of any process at any time, acknowledged work ends well and nothing is left running."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import Process, processes, until
from tests.support.stack import PASSWORD, Patient, Stack, assert_idle, machine_processes, running, signed_in
from tests.support.switches import CHAOS_FULL
from tests.support.user import outputs, sign_in

KILLS = 200 if CHAOS_FULL else 6
ROUNDS = 40 if CHAOS_FULL else 2
AWAY_S = [0, 5, 60, 330] if CHAOS_FULL else [5]

# --- one part dies in the middle of a job -----------------------------------------------------------


@pytest.mark.skipif(not CHAOS_FULL, reason="tests/e2e/test_failures.py does the same: CHAOS_FULL=1")
def test_a_runner_that_is_killed_is_replaced_and_what_was_ready_is_not_made_again(
    stack: Stack, user: Patient, source: str
) -> None:
    job_id, ready = begun(user, source)
    for process in runners(stack):
        os.kill(process.pid, signal.SIGKILL)
    first, second = completed(stack, user, job_id)["attempts"]
    assert (first["state"], second["state"]) == ("lost", "succeeded")
    assert {maker for id_, maker in makers(user, job_id).items() if id_ in ready} == {first["attempt_id"]}


@pytest.mark.parametrize("away_s", AWAY_S)
def test_while_control_is_away_the_runner_works_on_and_the_same_attempt_ends_the_job(
    stack: Stack, user: Patient, source: str, away_s: int
) -> None:
    job_id, _ = begun(user, source, variations=12)
    stack.control.kill()
    back_at = time.monotonic() + away_s
    rendering = {process.pid for process in ffmpegs(stack)}
    if away_s:
        until(lambda: {process.pid for process in ffmpegs(stack)} - rendering)
    time.sleep(max(0.0, back_at - time.monotonic()))
    stack.start()
    (attempt,) = completed(stack, user, job_id)["attempts"]
    assert (attempt["state"], attempt["reason"]) == ("succeeded", None)


def test_control_that_is_stopped_in_the_middle_of_a_job_leaves_a_complete_database_and_a_running_job(
    stack: Stack, user: Patient, source: str
) -> None:
    job_id, _ = begun(user, source, variations=3)
    assert stack.control.stop() == 0
    assert_checkpointed(stack)
    stack.start()
    (attempt,) = completed(stack, user, job_id)["attempts"]
    assert attempt["state"] == "succeeded"


def test_a_job_outlives_a_killed_local_fly_whose_machines_are_gone_with_it(
    stack: Stack, user: Patient, source: str
) -> None:
    job_id, ready = begun(user, source)
    for process in runners(stack):
        os.kill(process.pid, signal.SIGSTOP)  # so that it does not end before its turn
    before = machine_processes(stack.folder)
    assert before
    stack.fly.kill()
    stack.start()
    until(lambda: not {process.pid for process in processes()} & set(before))
    first, *others = completed(stack, user, job_id)["attempts"]
    assert first["state"] == "lost"
    assert others[-1]["state"] == "succeeded"
    assert {maker for id_, maker in makers(user, job_id).items() if id_ in ready} == {first["attempt_id"]}


def test_a_job_outlives_a_killed_s3_server(stack: Stack, user: Patient, source: str) -> None:
    job_id, ready = begun(user, source)
    stack.s3.kill()
    stack.start()
    completed(stack, user, job_id)
    assert ready <= set(makers(user, job_id))


def test_a_job_outlives_the_death_of_everything_at_once(stack: Stack, user: Patient, source: str) -> None:
    job_id, ready = begun(user, source)
    for part in stack.parts:
        part.kill()
    for process in runners(stack):
        os.kill(process.pid, signal.SIGKILL)
    stack.start()
    completed(stack, user, job_id)
    assert ready <= set(makers(user, job_id))


# --- again and again --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_a_batch_in_which_control_or_runners_are_killed_at_random_ends_complete(
    stack: Stack, user: Patient, clip: Path, seed: int
) -> None:
    rng = random.Random(seed)
    sources = [user.upload(clip, name=f"{n}.mp4") for n in range(2)]
    batch_id = user.submit(*sources, variations=2)["batch_id"]
    until(lambda: runners(stack))
    for victims in rng.sample(["control", "runner", "both"], 2):
        time.sleep(rng.uniform(0, 1.5))
        if victims != "runner":
            stack.control.kill()
        if victims != "control":
            for process in runners(stack)[: rng.choice((1, 2))]:
                os.kill(process.pid, signal.SIGKILL)
        stack.start()
    completed(stack, user, batch_id)


def test_control_killed_again_and_again_under_submits_forgets_nothing_that_it_acknowledged(
    tmp_path: Path, tiny: Path
) -> None:
    rng = random.Random(1)
    with running(tmp_path) as stack:
        with signed_in(stack) as user:
            body = {"sources": [{"source_id": user.upload(tiny)}], "variations": 1}
        submitter = Submitter(stack.url, body)
        submitter.start()
        for _ in range(KILLS):
            heard = len(submitter.acknowledged)
            until(lambda heard=heard: len(submitter.acknowledged) > heard)  # type: ignore[misc]
            time.sleep(rng.uniform(0, 0.4))
            stack.control.kill()
            stack.start()
        submitter.end()
        assert len(submitter.acknowledged) >= KILLS
        with signed_in(stack) as user:
            assert submitter.acknowledged.items() <= stored_keys(stack).items()
            for key, batch_id in submitter.acknowledged.items():
                again = user.asked("POST", "/api/batches", json=body, headers={"Idempotency-Key": key})
                assert (again.status_code, again.json()["batch_id"]) == (202, batch_id)
            kept, *surplus = stored_keys(stack).values()
            for batch_id in surplus:
                user.asked("POST", f"/api/batches/{batch_id}/cancel")
            ended = [user.wait(batch_id)["status"] for batch_id in (kept, *surplus)]
            assert ended[0] == "completed"
            assert set(ended) <= {"completed", "cancelled"}
            assert_idle(stack, user)
        assert stack.control.stop() == 0
        assert_checkpointed(stack)
        with sqlite3.connect(stack.database) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        database.close()


class Submitter(threading.Thread):
    """Submits one batch after another, each until it is acknowledged, though control dies meanwhile."""

    def __init__(self, url: str, body: dict[str, Any]) -> None:
        super().__init__(name="submitter")
        self.acknowledged: dict[str, str] = {}  # key -> batch id
        self._url, self._body = url, body
        self._over = threading.Event()

    def end(self) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=20) as http:
            sign_in(http, PASSWORD)
            while not self._over.is_set():
                self._submit(http, f"key {len(self.acknowledged)}")

    def _submit(self, http: httpx.Client, key: str) -> None:
        while not self._over.wait(0.15):
            try:
                answer = http.post("/api/batches", json=self._body, headers={"Idempotency-Key": key})
            except httpx.TransportError:
                continue
            assert answer.status_code == 202, answer.text
            self.acknowledged[key] = answer.json()["batch_id"]
            return


# --- helpers ----------------------------------------------------------------------------------------


def begun(user: Patient, source: str, *, variations: int = 4) -> tuple[str, set[str]]:
    """Return a job in the middle of its work, and the ids of its outputs that are ready."""
    job_id = user.submit(source, variations=variations, kind="jobs")["job_id"]
    shown = until(lambda: (seen := user.show(job_id))["progress"]["ready"] and seen)
    return job_id, {output["output_id"] for output in outputs(shown) if output["status"] == "ready"}


def completed(stack: Stack, user: Patient, id_: str) -> dict[str, Any]:
    """Return a job or batch at its good end, after which nothing is left."""
    end = user.wait(id_)
    assert (end["status"], end["partial"], end["error"]) == ("completed", False, None), end
    assert {output["status"] for output in outputs(end)} == {"ready"}
    assert_idle(stack, user)
    return end


def assert_checkpointed(stack: Stack) -> None:
    wal = stack.database.with_name(f"{stack.database.name}-wal")
    assert not wal.exists() or not wal.stat().st_size


def makers(user: Patient, id_: str) -> dict[str, str]:
    """Return which attempt made each output that is in the ZIP, whose bytes are as the manifest says."""
    manifest = json.loads(user.unzip(id_)["manifest.json"])
    return {entry["output_id"]: entry["attempt_id"] for entry in manifest["outputs"]}


def stored_keys(stack: Stack) -> dict[str, str]:
    """Return the batch of every Idempotency-Key, as another process reads the database."""
    with sqlite3.connect(stack.database) as database:
        rows = database.execute("SELECT key, batch_id FROM idempotencykey").fetchall()
    database.close()
    return dict(rows)


def runners(stack: Stack) -> list[Process]:
    mine = set(machine_processes(stack.folder))
    return [p for p in processes() if p.pid in mine and p.command.endswith("-m runner")]


def ffmpegs(stack: Stack) -> list[Process]:
    mine = set(machine_processes(stack.folder))
    return [p for p in processes() if p.pid in mine and "libx264" in p.command]
