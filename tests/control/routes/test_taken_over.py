"""Messages of a runner that was taken over: they harm no other job, and do not fill control's storage.

Over real HTTP, with a real bucket. `HOSTILE_FULL` makes the made-up messages many more.
"""

from __future__ import annotations

import copy
import io
import json
import math
import os
import zipfile
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlmodel import col, func, select

from control.passes.launch import launch
from control.routes import runner as runner_api
from control.store import reports
from control.store.tables import Attempt, Event
from control.telemetry.counters import REGISTRY
from runner.contract import FILE_BYTES_MAX, WORDS_CHARS_MAX, JobSpec, Timings, Usage, attempt_path
from tests.support.maker import Maker, code, stored
from tests.support.rows import finished, ready
from tests.support.user import ok

pytestmark = pytest.mark.peer

EXAMPLES = 3000 if os.environ.get("HOSTILE_FULL") else 25
VIEW_BYTES_MAX = 40_000
VALUES: list[Any] = [
    *(math.nan, math.inf, -math.inf, 1e308, -1e308, -1, 0.5, 101, 2**31, 2**40, 2**63, 2**70, 10**400),
    *("", "\0", "\ud800", "\x1b[31mred", "\u202e", "../../etc", "a" * 63 + "\n", "e" * 100_000, "<b>" * 9000),
    *([], {}, None, True, [[]] * 900, ["x" * 9000] * 9, {"a": {"b": "c" * 50_000}}),
]


class Runner:
    """Holds the token and URLs of one attempt. Says what it likes."""

    def __init__(self, maker: Maker) -> None:
        self.maker = maker
        self.batch = maker.submit(variations=2)
        self.spec: JobSpec = maker.claim(self.batch["jobs"][0]["job_id"])
        self.reports = [
            stored(output, f"{output.output_id} of a runner".encode()).model_dump(mode="json")
            for output in self.spec.outputs
        ]

    def messages(self) -> dict[str, dict[str, Any]]:
        """A good message of each kind."""
        me = f"m-{self.spec.attempt_id}"
        usage = Usage(wall_s=1, cpu_s=1, timings=Timings()).model_dump(mode="json")
        failed = {"output_id": self.reports[1]["output_id"], "status": "failed"}
        failed["error"] = {"code": "render_failed", "message": "no"}
        reports = {"seq": 1, "outputs": [self.reports[0], failed], "machine_id": me}
        end = {"outcome": "error", "reason": "runner_crashed", "detail": "a trace", "usage": usage}
        return {
            "claim": {"version": 1, "machine_id": me},
            "heartbeat": {**reports, "timings": usage["timings"]},
            "finish": {**reports, **end},
        }

    def say(self, call: str, body: Any) -> httpx.Response:
        """Send a body as JSON with all that JSON of Python allows."""
        attempt_id = self.spec.attempt_id
        token = self.maker.signer.attempt_token(attempt_id)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        path = attempt_path(attempt_id, call)  # type: ignore[arg-type]
        return self.maker.http.post(path, content=json.dumps(body).encode(), headers=headers)


@pytest.fixture
def runner(maker: Maker) -> Runner:
    return Runner(maker)


@pytest.fixture(scope="module")
def innocent(maker: Maker) -> Iterator[None]:
    """A batch of somebody else, which is as it was when all is over."""
    batch = maker.make(b"one", b"two")
    before = (maker.show(batch["batch_id"])["sources"], archive(maker, batch["batch_id"]))
    yield
    assert (maker.show(batch["batch_id"])["sources"], archive(maker, batch["batch_id"])) == before


def archive(maker: Maker, batch_id: str) -> bytes:
    answer = maker.http.get(f"/api/batches/{batch_id}/download")
    assert answer.status_code == 200
    return answer.content


def require_unharmed(maker: Maker, batch_id: str) -> None:
    """Fail unless what is shown of a batch is small, and its ZIP and the metrics can be read strictly."""
    shown = maker.http.get(f"/api/batches/{batch_id}")
    assert shown.status_code == 200
    assert len(shown.content) < VIEW_BYTES_MAX
    assert not [char for char in shown.text if not char.isprintable()]
    if any(output["status"] == "ready" for source in shown.json()["sources"] for output in source["outputs"]):
        with zipfile.ZipFile(io.BytesIO(archive(maker, batch_id))) as opened:
            manifest = opened.read("manifest.json")
            assert len(manifest) < VIEW_BYTES_MAX
            json.loads(manifest, parse_constant=pytest.fail)
    for family in text_string_to_metric_families(generate_latest(REGISTRY).decode()):
        assert all(math.isfinite(sample.value) for sample in family.samples), family.name


def refused() -> float:
    """How many calls of runners have been refused so far."""
    total = 0.0
    for why in ("superseded", "invalid"):
        total += REGISTRY.get_sample_value("refresher_runner_calls_refused_total", {"why": why}) or 0
    return total


# --- one field at a time ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("crc32", value) for value in (-1, 2**32, 2**40, 2**70)),
        *(("size_bytes", value) for value in (-1, FILE_BYTES_MAX + 1, 2**70)),
        *(("duration_s", value) for value in (math.nan, math.inf, -1e300)),
        *(("sha256", value) for value in ("x" * 64, "a\0", "a" * 10**6, "A" * 64)),
        *(("md5", value) for value in ("", "z" * 32)),
        *(("ffmpeg_args", value) for value in (["x" * 17_000], [""] * 501)),
    ],
    ids=lambda value: str(value)[:12],
)
def test_a_file_that_cannot_be_is_refused_counted_and_the_attempt_continues(maker, runner, field, value):
    before, message = refused(), runner.messages()["finish"]
    bad = copy.deepcopy(message)
    bad["outputs"][0]["file"][field] = value
    assert code(runner.say("finish", bad)) == (422, "invalid")
    assert refused() == before + 1
    assert runner.say("finish", message).status_code == 200
    require_unharmed(maker, runner.batch["batch_id"])


@pytest.mark.parametrize("value", [math.nan, math.inf, -5, 1e308])
def test_seconds_that_cannot_be_never_reach_the_metrics(maker, runner, value):
    message = runner.messages()["finish"]
    message["usage"]["timings"]["render_s"] = value
    assert code(runner.say("finish", message)) == (422, "invalid")
    require_unharmed(maker, runner.batch["batch_id"])


def test_words_are_made_plain_and_cut(maker, runner):
    message = runner.messages()["finish"]
    message["outputs"][1]["error"]["message"] = "\x1b[31m\ud800\0" + "e" * 1_900_000
    message["detail"] = "\u202e" + "d" * 10_000
    message["outputs"][0]["file"]["ffmpeg_args"] = ["\ud800", "\n\x07"]
    assert runner.say("finish", message).status_code == 200
    require_unharmed(maker, runner.batch["batch_id"])
    with maker.store.transaction() as tx:
        attempt = tx.session.get_one(Attempt, runner.spec.attempt_id)
    assert (len(attempt.detail), attempt.detail[:2]) == (WORDS_CHARS_MAX, "\ufffdd")


@pytest.mark.parametrize("machine_id", ["", "m" * 65, "m m", "m\n", "\ud800", "<b>"])
def test_a_machine_is_named_by_an_id_or_claims_nothing(maker, machine_id):
    runner = Runner(maker)
    assert code(runner.say("claim", {"machine_id": machine_id})) == (422, "invalid")


def test_of_two_reports_of_one_output_only_what_was_seen_in_the_bucket_is_stored(maker, runner):
    """The last one is looked at; the first may not lend its numbers to what is stored."""
    message = runner.messages()["finish"]
    lie = copy.deepcopy(message["outputs"][0])
    lie["file"] |= {"size_bytes": 7, "crc32": 7, "sha256": "7" * 64}
    message["outputs"] = [lie, message["outputs"][0]]
    assert runner.say("finish", message).status_code == 200
    with zipfile.ZipFile(io.BytesIO(archive(maker, runner.batch["batch_id"]))) as opened:
        assert opened.testzip() is None


# --- after the end ------------------------------------------------------------------------------------


def test_the_token_of_an_ended_attempt_leaves_no_trace_but_a_count(maker, runner, caplog):
    messages = runner.messages()
    assert runner.say("finish", messages["finish"]).status_code == 200
    late = {**messages["finish"], "seq": 7}
    with maker.store.transaction() as tx:
        events = tx.session.exec(select(func.max(col(Event.id)))).one()
    caplog.clear()
    before = refused()
    for call, message in [*messages.items(), ("finish", late)] * 20:
        if message is not messages["finish"]:
            assert code(runner.say(call, message)) == (409, "superseded")
    with maker.store.transaction() as tx:
        assert tx.session.exec(select(func.max(col(Event.id)))).one() == events
    assert refused() == before + 60
    assert [line for line in caplog.records if line.name == "control"] == []


def test_an_ended_attempt_causes_no_call_to_the_bucket(context, rows, machines, monkeypatch):
    job_id = rows.submit()
    launch(context)
    reports.claim(context.store, f"{job_id}-1", "m1")
    reports.finish(context.store, f"{job_id}-1", finished(outcome="error"), {})
    monkeypatch.setattr(runner_api, "_look", lambda *_: pytest.fail("it was looked at"))
    late = [ready(output.id) for output in rows.outputs(job_id)]
    assert runner_api.seen_as_reported(context, f"{job_id}-1", finished(*late)) == {}


# --- anything -----------------------------------------------------------------------------------------


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all that a message holds, itself left out."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, each in inside for place in [(*path, key), *places(each, (*path, key))]]


@given(data=st.data())
@settings(max_examples=EXAMPLES, deadline=None, derandomize=not os.environ.get("HOSTILE_FULL"))
def test_any_message_of_a_runner_harms_no_other_job(maker, innocent, data):
    runner = Runner(maker)
    messages = runner.messages()
    for _ in range(data.draw(st.integers(1, 4))):
        call = data.draw(st.sampled_from(sorted(messages)))
        message = copy.deepcopy(messages[call])
        for place in data.draw(st.lists(st.sampled_from(places(message)), min_size=1, max_size=2)):
            value = data.draw(st.sampled_from(VALUES))
            _put(message, place, value)
        body = data.draw(st.sampled_from([message, message, message, [message], value]))
        assert runner.say(call, body).status_code in (200, 409, 413, 422), (call, place, str(value)[:80])
    require_unharmed(maker, runner.batch["batch_id"])


def _put(message: Any, place: tuple[Any, ...], value: Any) -> None:
    """Put a value there, unless an earlier one has taken the place away."""
    *path, last = place
    for key in path:
        try:
            message = message[key]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(message, dict | list):
        try:
            message[last] = value
        except IndexError:
            return


def test_what_an_honest_runner_says_is_within_the_bounds(maker, runner):
    before = refused()
    message = runner.messages()["finish"]
    message["outputs"] = runner.reports
    assert ok(runner.say("heartbeat", runner.messages()["heartbeat"]), 200)["continue"]
    assert runner.say("finish", {**message, "seq": 2, "outcome": "ok", "reason": None}).status_code == 200
    assert refused() == before
