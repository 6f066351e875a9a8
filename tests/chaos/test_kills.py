"""After kill -9 of any process at any time, acknowledged work ends well and nothing is left running."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from infra.s3 import connect
from tests.chaos.kills import killed
from tests.support.foreign import Held, Server
from tests.support.processes import Process, processes, until
from tests.support.stack import Patient, Stack, assert_idle, machine_processes
from tests.support.switches import CHAOS_FULL
from tests.support.user import outputs

KILLS = 5  # python -m tests.chaos kills: 2,000
ROUNDS = 40 if CHAOS_FULL else 1
AWAY_S = [0, 5, 60, 330] if CHAOS_FULL else [5]

# --- one part dies in the middle of a job -----------------------------------------------------------


@pytest.mark.skipif(not CHAOS_FULL, reason="tests/e2e/test_failures.py does the same: CHAOS_FULL=1")
def test_a_runner_that_is_killed_is_replaced_and_what_was_ready_is_not_made_again(
    stack: Stack, user: Patient, source: str, held: Held
) -> None:
    job_id, ready = begun(user, source, held)
    for process in runners(stack):
        os.kill(process.pid, signal.SIGKILL)
    held.let_go()
    first, second = completed(stack, user, job_id)["attempts"]
    assert (first["state"], second["state"]) == ("lost", "succeeded")
    assert {maker for id_, maker in makers(user, job_id).items() if id_ in ready} == {first["attempt_id"]}


@pytest.mark.parametrize("away_s", AWAY_S)
def test_while_control_is_away_the_runner_works_on_and_the_same_attempt_ends_the_job(
    stack: Stack, user: Patient, source: str, tiny: Path, theirs: Server, held: Held, away_s: int
) -> None:
    """The second video is made while control is away, the third when it is back."""
    second = theirs.hold(tiny.read_bytes())
    job_id, ready = begun(user, source, second, held)
    stored = outputs_in_the_bucket(stack)
    stack.control.kill()
    back_at = time.monotonic() + away_s
    second.let_go()
    if away_s:
        until(lambda: outputs_in_the_bucket(stack) > stored)
    time.sleep(max(0.0, back_at - time.monotonic()))
    stack.start()
    until(lambda: user.show(job_id)["progress"]["ready"] > len(ready))
    held.let_go()
    (attempt,) = completed(stack, user, job_id)["attempts"]
    assert (attempt["state"], attempt["reason"]) == ("succeeded", None)


def test_control_that_is_stopped_in_the_middle_of_a_job_leaves_a_complete_database_and_a_running_job(
    stack: Stack, user: Patient, source: str, held: Held
) -> None:
    job_id, _ = begun(user, source, held)
    assert stack.control.stop() == 0
    assert_checkpointed(stack)
    stack.start()
    held.let_go()
    (attempt,) = completed(stack, user, job_id)["attempts"]
    assert attempt["state"] == "succeeded"


def test_a_job_outlives_a_killed_local_fly_whose_machines_are_gone_with_it(
    stack: Stack, user: Patient, source: str, held: Held
) -> None:
    job_id, ready = begun(user, source, held)
    before = machine_processes(stack.folder)
    assert before
    stack.fly.kill()
    stack.start()
    until(lambda: not {process.pid for process in processes()} & set(before))
    held.let_go()
    first, *others = completed(stack, user, job_id)["attempts"]
    assert first["state"] == "lost"
    assert others[-1]["state"] == "succeeded"
    assert {maker for id_, maker in makers(user, job_id).items() if id_ in ready} == {first["attempt_id"]}


def test_a_job_outlives_a_killed_s3_server(stack: Stack, user: Patient, source: str, held: Held) -> None:
    job_id, ready = begun(user, source, held)
    stack.s3.kill()
    held.let_go()  # what it makes finds no bucket
    stack.start()
    completed(stack, user, job_id)
    assert ready <= set(makers(user, job_id))


def test_a_job_outlives_the_death_of_everything_at_once(
    stack: Stack, user: Patient, source: str, held: Held
) -> None:
    job_id, ready = begun(user, source, held)
    for part in stack.parts:
        part.kill()
    for process in runners(stack):
        os.kill(process.pid, signal.SIGKILL)
    stack.start()
    held.let_go()
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


def test_control_killed_again_and_again_forgets_nothing_that_it_acknowledged(
    tmp_path: Path, tiny: Path
) -> None:
    piece = killed(tmp_path, tiny.read_bytes(), seed=1, kills=KILLS)
    assert (piece.lost, piece.faults) == ([], [])


# --- helpers ----------------------------------------------------------------------------------------


def begun(user: Patient, source: str, *held: Held) -> tuple[str, set[str]]:
    """Return a job in the middle of its work, and the ids of its outputs that are ready.

    It goes on when what is held is let go.
    """
    job_id = user.submit(source, *(each.url for each in held), variations=2, kind="jobs")["job_id"]
    shown = until(lambda: (seen := user.show(job_id))["progress"]["ready"] == 2 and seen)
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


def runners(stack: Stack) -> list[Process]:
    mine = set(machine_processes(stack.folder))
    return [p for p in processes() if p.pid in mine and p.command.endswith("-m runner")]


def outputs_in_the_bucket(stack: Stack) -> set[str]:
    """Return the keys of all outputs that are stored."""
    facts = stack.s3.facts
    keys = {name: facts[name] for name in ("endpoint", "region", "access_key_id", "secret_access_key")}
    listed = connect(**keys).list_objects_v2(Bucket=facts["bucket"])
    return {entry["Key"] for entry in listed["Contents"] if "/outputs/" in entry["Key"]}
