"""Cancel, retry, delete, and the list of machines, over HTTP."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from control.cli.local import LocalStack
from tests.support.foreign import Held
from tests.support.processes import processes, runners, until
from tests.support.user import User, address, ok, outputs


@pytest.fixture
def _idle(stack: LocalStack) -> None:
    """Wait until no runner of an earlier test is left, so that the next one is that of this test."""
    until(lambda: not runners(os.getpid()))


@pytest.fixture
def fly(stack: LocalStack) -> Iterator[httpx.Client]:
    """Fly itself, past control."""
    headers = {"Authorization": f"Bearer {stack.fly.token}"}
    with httpx.Client(
        base_url=f"{stack.fly.url}/apps/{stack.fly.app}", headers=headers, timeout=20
    ) as client:
        yield client


# --- cancel and retry -------------------------------------------------------------------------------


@pytest.mark.usefixtures("_idle")
def test_a_cancelled_job_keeps_what_is_ready_and_a_retry_makes_only_the_rest(
    user: User, source: str, held: Held
) -> None:
    job_id = user.submit(source, held.url, variations=2, kind="jobs")["job_id"]
    until(lambda: user.show(job_id)["progress"]["ready"])
    before = runners(os.getpid())
    assert machines_of(user, job_id), "it is shown while it runs"

    cancelled = change(user, "cancel", job_id)
    assert cancelled["status"] == "cancelled"
    assert cancelled["attempts"][-1]["state"] == "cancelled"
    until(lambda: not {p.pid for p in before} & {p.pid for p in processes()})
    until(lambda: not machines_of(user, job_id))
    ready = {o["output_id"]: o["sha256"] for o in outputs(cancelled) if o["status"] == "ready"}
    assert {o["status"] for o in outputs(cancelled)} == {"ready", "cancelled"}
    made = makers(user, job_id)
    assert set(made) == set(ready), "the ZIP holds what is ready"

    shown = user.show(job_id)
    assert without_costs(change(user, "cancel", job_id)) == without_costs(shown), "again nothing happens"

    held.let_go()
    retried = change(user, "retry", job_id)
    assert retried["status"] in ("queued", "launching", "running")
    assert refused(user.http.post(f"{address(job_id)}/retry")) == (409, "conflict")
    end = user.wait(job_id)
    assert (end["status"], end["partial"], end["error"]) == ("completed", False, None)
    assert ready.items() <= {o["output_id"]: o["sha256"] for o in outputs(end)}.items()
    first, second = [attempt["attempt_id"] for attempt in end["attempts"]]
    made = makers(user, job_id)
    assert {made[output_id] for output_id in ready} == {first}
    assert {maker for output_id, maker in made.items() if output_id not in ready} == {second}
    assert refused(user.http.post(f"{address(job_id)}/retry")) == (409, "conflict"), "nothing is missing"


def test_a_batch_cancelled_before_it_started_has_nothing_and_is_whole_after_a_retry(
    user: User, source: str
) -> None:
    batch_id = user.submit(source, variations=2)["batch_id"]
    assert change(user, "cancel", batch_id)["status"] == "cancelled"
    assert {o["status"] for o in outputs(user.show(batch_id))} == {"cancelled"}
    assert refused(user.http.get(f"{address(batch_id)}/download")) == (409, "not_ready")
    change(user, "retry", batch_id)
    assert user.wait(batch_id)["status"] == "completed"


# --- delete -----------------------------------------------------------------------------------------


def test_a_deleted_job_is_gone_everywhere_and_its_files_with_it(user: User, source: str) -> None:
    order = {"sources": [{"source_id": source}], "variations": 2}
    key = {"Idempotency-Key": f"deleted-{time.time_ns()}"}
    end = user.wait(ok(user.http.post("/api/jobs", json=order, headers=key), 202)["job_id"])
    job_id, batch_id = end["job_id"], end["batch_id"]
    output_ids = [output["output_id"] for output in outputs(end)]
    urls = [signed_url(user, output_id) for output_id in output_ids]
    assert [httpx.get(url).status_code for url in urls] == [200, 200]
    assert user.http.delete(address(job_id)).status_code == 204
    addresses = [address(job_id), address(batch_id), f"{address(job_id)}/download"]
    addresses += [f"/api/outputs/{output_id}" for output_id in output_ids]
    for each in addresses:
        assert refused(user.http.get(each)) == (404, "not_found"), each
    for action in ("cancel", "retry"):
        assert refused(user.http.post(f"{address(batch_id)}/{action}")) == (404, "not_found")
    assert refused(user.http.delete(address(batch_id))) == (404, "not_found")
    listed = ok(user.http.get("/api/jobs", params={"limit": 100}), 200)["items"]
    assert job_id not in {job["job_id"] for job in listed}
    until(lambda: {httpx.get(url).status_code for url in urls} == {404})
    again = user.http.post("/api/jobs", json=order, headers=key)
    assert refused(again) == (404, "not_found"), "its key makes no other job"


@pytest.mark.usefixtures("_idle")
def test_deleting_what_runs_ends_its_machine(user: User, held: Held) -> None:
    job_id = user.submit(held.url, variations=1, kind="jobs")["job_id"]
    (runner,) = until(lambda: runners(os.getpid()))
    assert user.http.delete(address(job_id)).status_code == 204
    assert refused(user.http.get(address(job_id))) == (404, "not_found")
    until(lambda: runner.pid not in {p.pid for p in processes()})


def test_one_job_of_a_larger_batch_cannot_be_deleted_alone(user: User, source: str, vertical: Path) -> None:
    others = [user.upload(vertical, name=f"{n}.mp4") for n in range(2)]
    batch = user.submit(source, *others, variations=67)  # more than one machine's worth
    job_ids = [job["job_id"] for job in batch["jobs"]]
    assert len(job_ids) == 2
    assert refused(user.http.delete(address(job_ids[0]))) == (409, "conflict")
    assert user.http.delete(address(batch["batch_id"])).status_code == 204
    assert refused(user.http.get(address(job_ids[1]))) == (404, "not_found")


@pytest.mark.parametrize("id_", ["job_nonsense", "bat_nonsense"])
def test_an_unknown_id_cannot_be_changed(user: User, id_: str) -> None:
    for action in ("cancel", "retry"):
        assert refused(user.http.post(f"{address(id_)}/{action}")) == (404, "not_found")
    assert refused(user.http.delete(address(id_))) == (404, "not_found")


# --- machines ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_idle")
def test_a_machine_is_shown_with_its_job_and_a_reap_leaves_it_alone(user: User, held: Held) -> None:
    job_id = user.submit(held.url, variations=1, kind="jobs")["job_id"]
    (machine,) = until(lambda: machines_of(user, job_id))
    attempt = user.show(job_id)["attempts"][-1]
    assert (machine["attempt_id"], machine["orphan"]) == (attempt["attempt_id"], False)
    assert user.http.post("/api/machines/reap").json()["items"] == []
    held.let_go()
    end = user.wait(job_id)
    assert [attempt["state"] for attempt in end["attempts"]] == ["succeeded"]
    until(lambda: not machines_of(user, job_id))


def test_an_orphan_is_shown_survives_a_dry_run_and_is_reaped(
    user: User, source: str, fly: httpx.Client
) -> None:
    user.wait(user.submit(source, variations=1, kind="jobs")["job_id"])
    shown = granted(lambda: fly.get("/machines", params={"include_deleted": "true"})).json()
    owner = shown[0]["config"]["metadata"]["owner"]
    config = {"image": "i", "metadata": {"owner": owner}, "init": {"exec": ["/bin/sleep", "600"]}}
    orphan, stranger = create(fly, config), create(fly, {**config, "metadata": {}})

    dry = granted(lambda: user.http.post("/api/machines/reap", params={"dry_run": "true"})).json()["items"]
    assert {(m["machine_id"], m["orphan"], m["job_id"]) for m in dry} <= {(orphan, True, None)}
    for each in granted(lambda: user.http.get("/api/machines")).json()["items"]:
        assert each["orphan"] == (each["machine_id"] == orphan)
        assert each["machine_id"] != stranger
    reaped = granted(lambda: user.http.post("/api/machines/reap")).json()["items"]
    assert {machine["machine_id"] for machine in reaped} <= {orphan}
    until(lambda: state(fly, orphan) == "destroyed")
    assert state(fly, stranger) == "started", "what is not ours is never touched"
    granted(lambda: fly.delete(f"/machines/{stranger}", params={"force": "true"}))


# --- helpers ----------------------------------------------------------------------------------------


def granted(call: Callable[[], httpx.Response]) -> httpx.Response:
    """Return the first good answer: Fly's limits hold for us and control together."""
    return until(lambda: answer if (answer := call()).is_success else None)  # type: ignore[return-value]


def create(fly: httpx.Client, config: dict[str, Any]) -> str:
    return str(granted(lambda: fly.post("/machines", json={"config": config})).json()["id"])


def state(fly: httpx.Client, machine_id: str) -> str:
    return str(granted(lambda: fly.get(f"/machines/{machine_id}")).json()["state"])


def change(user: User, action: str, id_: str) -> dict[str, Any]:
    return ok(user.http.post(f"{address(id_)}/{action}"), 202)


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def machines_of(user: User, job_id: str) -> list[dict[str, Any]]:
    items = ok(user.http.get("/api/machines"), 200)["items"]
    return [machine for machine in items if machine["job_id"] == job_id]


def makers(user: User, id_: str) -> dict[str, str]:
    """Return which attempt made each ready output."""
    entries = json.loads(user.unzip(id_)["manifest.json"])["outputs"]
    return {entry["output_id"]: entry["attempt_id"] for entry in entries if entry["status"] == "ready"}


def signed_url(user: User, output_id: str) -> str:
    answer = user.http.get(f"/api/outputs/{output_id}", follow_redirects=False)
    assert answer.status_code in (302, 303, 307), answer.text
    return str(answer.headers["location"])


def without_costs(shown: dict[str, Any]) -> dict[str, Any]:
    """Return what a later look shows unchanged: a ticket is new each time, a cost settles."""
    left = {key: value for key, value in shown.items() if key not in ("ticket", "cost_usd")}
    unsettled = ("machine_seconds", "cost_usd")
    left["attempts"] = [
        {key: value for key, value in attempt.items() if key not in unsettled} for attempt in left["attempts"]
    ]
    return left
