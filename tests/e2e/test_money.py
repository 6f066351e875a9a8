"""Quotes, budgets and costs over HTTP, on the local Fly."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from control.cli.local import LocalStack, local_stack
from control.cli.main import app
from infra.local import fly_host
from tests.support.processes import until
from tests.support.user import User, ok, sign_in

RUNNER = Path(__file__).parents[1].joinpath("support/scripted_runner.py")
DESCRIBED = {"size_bytes": 20_000_000, "duration_s": 15.0, "width": 1920, "height": 1080}


# --- quote ------------------------------------------------------------------------------------------


def quote(user: User, *sources: dict[str, Any], variations: int, **more: Any) -> dict[str, Any]:
    body = {"sources": list(sources), "variations": variations, **more}
    return ok(user.http.post("/api/quote", json=body), 200)


def batch_ids(user: User) -> list[str]:
    return [each["batch_id"] for each in user.http.get("/api/batches").json()["items"]]


def test_a_quote_shows_machines_time_and_cost_and_starts_nothing(user: User, source: str):
    before = batch_ids(user)
    found = quote(user, {"source_id": source}, variations=4)
    assert found["machines"] == 1
    assert found["cost_usd"] > 0
    assert found["makespan_s"] > 0
    assert found["estimated"] is False
    assert batch_ids(user) == before


def test_a_quote_of_described_videos_needs_no_upload_and_shows_what_more_machines_bring(user: User):
    found = quote(user, *[DESCRIBED] * 40, variations=10)
    machines = [point["machines"] for point in found["curve"]]
    assert machines == sorted(set(machines))
    chosen = next(point for point in found["curve"] if point["machines"] == found["machines"])
    assert chosen == {key: found[key] for key in ("machines", "makespan_s", "cost_usd")}
    cheapest = min(point["cost_usd"] for point in found["curve"])
    assert found["cost_usd"] <= 1.1 * cheapest + 2e-6


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"sources": [{"source_id": "src_none"}]}, 404),
        ({"sources": [{**DESCRIBED, "duration_s": 0}]}, 422),
        ({"sources": []}, 422),
        ({"variations": 101}, 422),
        ({"sources": [DESCRIBED] * 5, "variations": 100, "max_machines": 2}, 422),
        ({"deadline_s": -1}, 422),
    ],
)
def test_a_quote_refuses_what_a_submit_would_refuse(user: User, change: dict[str, Any], status: int):
    body = {"sources": [DESCRIBED], "variations": 2, **change}
    assert user.http.post("/api/quote", json=body).status_code == status


# --- submit -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jobs", "batches"])
def test_a_submit_that_its_cap_cannot_pay_for_is_402_with_the_numbers(user: User, source: str, kind: str):
    body = {"sources": [{"source_id": source}], "variations": 1, "max_cost_usd": 0.000001}
    answer = user.http.post(f"/api/{kind}", json=body)
    assert answer.status_code == 402
    error = answer.json()["error"]
    assert error["code"] == "budget_exceeded"
    assert "max_cost_usd of $0.000001" in error["message"]


def test_a_batch_with_money_enough_costs_no_more_than_it_may(user: User, source: str):
    batch = user.submit(source, variations=1, max_cost_usd=0.05)
    end = user.wait(batch["batch_id"])
    assert end["status"] == "completed"
    assert 0 < end["cost_usd"] <= 0.05


# --- costs ------------------------------------------------------------------------------------------


def test_costs_show_each_day_and_each_batch(user: User, source: str):
    batch = user.wait(user.submit(source, variations=2)["batch_id"])

    def settled() -> dict[str, Any] | None:
        found = ok(user.http.get("/api/costs"), 200)
        own = [each for each in found["batches"] if each["batch_id"] == batch["batch_id"]]
        return {**found, "own": own[0]} if own and own[0]["outputs"] else None

    found = until(settled)
    assert found["own"]["usd_per_output"] == pytest.approx(found["own"]["cost_usd"] / 2, abs=1e-6)
    assert found["cost_usd"] == pytest.approx(sum(day["cost_usd"] for day in found["days"]), abs=1e-5)
    assert found["days"][-1]["egress_bytes"] > 0
    assert found["budget"] == {"day": None, "month": None}
    assert user.show(batch["batch_id"])["cost_usd"] == pytest.approx(found["own"]["cost_usd"], abs=1e-6)


@pytest.mark.parametrize("query", ["from=2026-11-21&to=2026-11-20", "from=soon", "from=2020-01-01"])
def test_days_that_make_no_sense_are_refused(user: User, query: str):
    assert user.http.get(f"/api/costs?{query}").status_code == 422


def test_the_command_quotes_local_files_without_uploading_them_and_prints_costs(
    stack: LocalStack, landscape: Path, vertical: Path, tmp_path: Path
):
    env = {"REFRESHER_URL": stack.url, "REFRESHER_PASSWORD": stack.password}
    run = CliRunner().invoke(app, ["quote", str(landscape), str(vertical), "-n", "3", "--json"], env=env)
    assert run.exit_code == 0, run.output
    assert json.loads(run.output)["cost_usd"] > 0
    run = CliRunner().invoke(app, ["quote", str(landscape)], env=env)
    assert "* " in run.output
    no_video = tmp_path / "note.mp4"
    no_video.write_text("this is no video")
    assert CliRunner().invoke(app, ["quote", str(no_video)], env=env).exit_code == 2
    run = CliRunner().invoke(app, ["costs", "--json"], env=env)
    assert run.exit_code == 0, run.output
    assert "days" in json.loads(run.output)
    assert "in all" in CliRunner().invoke(app, ["costs"], env=env).output


# --- a quote and what comes of it -------------------------------------------------------------------


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A stack of two machines at once, each with a runner of a known speed, and a budget."""
    real = fly_host.LocalFly._popen
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAX_MACHINES", "2")
        patch.setenv("BUDGET_USD_PER_DAY", "1")
        patch.setattr(
            fly_host.LocalFly,
            "_popen",
            lambda self, effect: real(self, replace(effect, argv=(sys.executable, str(RUNNER)))),
        )
        with (
            local_stack(tmp_path_factory.mktemp("scripted")) as stack,
            httpx.Client(base_url=stack.url, timeout=30) as http,
        ):
            sign_in(http, stack.password)
            yield User(http)


def settled(user: User, id_: str) -> dict[str, Any]:
    """Return a batch or job whose machines are gone."""
    user.wait(id_)
    until(lambda: not user.http.get("/api/machines").json()["items"])
    until(lambda: ok(user.http.get("/api/costs"), 200)["budget"]["day"]["reserved_usd"] == 0)
    return user.show(id_)


def test_a_batch_costs_what_its_quote_said_once_jobs_have_taught_the_speed(scripted: User, landscape: Path):
    clips = [scripted.upload(landscape, name=f"ad{n}.mp4") for n in range(6)]
    taught = [scripted.submit(clips[0], variations=count, kind="jobs") for count in (8, 16)]
    for job in taught:
        settled(scripted, job["job_id"])
    asked = {"variations": 6, "deadline_s": 1}  # as fast as can be: on all machines, however long they boot
    said = quote(scripted, *[{"source_id": clip} for clip in clips], **asked)
    end = settled(scripted, scripted.submit(*clips, **asked)["batch_id"])
    assert end["status"] == "completed"
    assert len(end["jobs"]) == said["machines"] == 2
    assert end["cost_usd"] == pytest.approx(said["cost_usd"], rel=0.15)
    assert len({attempt["machine_id"] for attempt in end["attempts"]}) == said["machines"]


def test_the_budget_left_falls_by_what_was_spent(scripted: User, landscape: Path):
    before = ok(scripted.http.get("/api/costs"), 200)["budget"]["day"]
    job = scripted.submit(scripted.upload(landscape), variations=2, kind="jobs")
    end = settled(scripted, job["job_id"])
    after = ok(scripted.http.get("/api/costs"), 200)["budget"]["day"]
    assert before["left_usd"] - after["left_usd"] == pytest.approx(end["cost_usd"], abs=3e-6)
    assert after["cap_usd"] == 1
