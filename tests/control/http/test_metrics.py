"""The metrics over real HTTP, and the alert rules, which use only these."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from control.app import PASSES, SLOW_PASSES, create_app
from control.cloud_state import Blocked
from control.http import metrics, metrics_port
from control.http.metrics_port import is_private
from control.http.server import HTTP_LIMITS
from control.http.sse import Live
from control.passes.webhooks import notify
from control.settings import Settings
from control.store import Store, queue, reports
from control.store import machines as ledger
from control.store.database import open_database
from control.store.tables import Attempt, Machine, Webhook
from control.views.event_log import Timeline
from infra import ports
from infra.local.serve import serving
from runner.contract import Finish, Timings, Usage
from tests.support.hostile import connected, is_ended_by
from tests.support.processes import until
from tests.support.rows import Rows, ready, seen
from tests.support.settings import SETTINGS
from tests.support.stack import REFRESHER, free_port
from tests.support.user import sign_in

RULES = Path(__file__).parents[3] / "infra" / "provision" / "alerts.yml"
BUDGETS = {"budget_usd_per_day": 1.0, "budget_usd_per_month": 20.0}
Samples = dict[tuple[str, ...], float]


def samples(text: str) -> Samples:
    """Return the values of a scrape by name and label values."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Control:
    """A served control without bucket and Fly, and its rows."""

    def __init__(self, url: str, http: httpx.Client, rows: Rows, app: object) -> None:
        self.url, self.http, self.rows, self.app = url, http, rows, app

    def scrape(self) -> Samples:
        answer = self.http.get("/metrics")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        return samples(answer.text)


@pytest.fixture
def control(settings: Settings, monkeypatch) -> Iterator[Control]:
    monkeypatch.setattr(metrics, "FRESH_S", 0)
    paid = settings.model_copy(update=BUDGETS | {"fly_api_url": "http://127.0.0.1:9"})
    app = create_app(paid)
    engine = open_database(paid.database_url)
    rows = Rows(engine, Store(engine, paid, lambda: datetime.now(UTC)), lambda: datetime.now(UTC))
    with serving(app, **HTTP_LIMITS) as url, httpx.Client(base_url=url) as http:
        sign_in(http, SETTINGS["auth_password"])
        yield Control(url, http, rows, app)
    engine.dispose()


def test_a_scrape_needs_a_token(control):
    assert httpx.get(f"{control.url}/metrics").status_code == 401


def test_the_life_of_a_job_is_in_the_metrics(control):
    rows, before = control.rows, control.scrape()
    job_id = rows.submit(variations=2)
    queued = control.scrape()
    assert queued["refresher_jobs", "queued"] == 1
    assert queued["refresher_outputs", "queued"] == 2
    assert queued["refresher_queue_age_seconds",] > 0
    queue.start(rows.store, ["runners"])
    [attempt] = rows.all(Attempt)
    reports.claim(rows.store, attempt.id, "m1")  # before any list has shown the machine
    facts = {"name": "m", "state": "started", "region": "iad", "created_at": datetime.now(UTC)}
    machine = ports.Machine(app="runners", id="m1", **facts, metadata={"attempt": attempt.id})
    ledger.observe(rows.store, [machine])
    ledger.observe(rows.store, [machine])  # each machine counts once
    outputs = rows.outputs(job_id)
    usage = Usage(wall_s=9, cpu_s=9, timings=Timings(render_s=6, upload_s=1.5))
    end = Finish(seq=1, outcome="ok", outputs=[ready(o.id) for o in outputs], usage=usage)
    reports.finish(rows.store, attempt.id, end, seen(*outputs))
    reports.finish(rows.store, attempt.id, end, seen(*outputs))  # a repeat counts once
    after = control.scrape()
    rise = {key: value - before.get(key, 0) for key, value in after.items()}
    assert rise["refresher_attempts_ended_total", "ok"] == 1
    assert rise["refresher_attempts_ended_total", "lease_expired"] == 0
    assert rise["refresher_launch_seconds_count",] == 1
    assert rise["refresher_machines_created_total",] == 1
    assert rise["refresher_outputs_ended_total", "ready"] == 2
    assert rise["refresher_output_bytes_total",] == 1000
    assert rise["refresher_work_seconds_total", "render"] == 6
    assert rise["refresher_work_seconds_total", "upload"] == 1.5
    assert (after["refresher_jobs", "completed"], after["refresher_outputs", "ready"]) == (1, 0)


def test_machines_leaks_and_costs_are_in_the_metrics(control):
    now = datetime.now(UTC)
    row = {"app": "runners", "region": "iad", "size": "performance-1x"}
    with control.rows.store.transaction() as tx:
        for id_, state, hours in (("m1", "started", 2), ("m2", "a word that is new", 1)):
            since = now - timedelta(hours=hours)
            live = Machine(**row, id=id_, name=id_, state=state, created_at=since, started_at=since)
            tx.session.add(live)
        gone = Machine(**row, id="m3", name="m3", state="destroyed", created_at=now, gone_at=now)
        gone.cost_usd, gone.leaked_seconds = 0.25, 100.0
        tx.session.add(gone)
    found = control.scrape()
    assert (found["refresher_machines", "started"], found["refresher_machines", "other"]) == (1, 1)
    assert found["refresher_machines_leaked",] == 2
    assert found["refresher_leaked_machine_seconds",] == pytest.approx(3 * 3600 + 100, abs=60)
    assert found["refresher_machine_age_seconds",] > found["refresher_machine_age_limit_seconds",]
    day = control.http.get("/api/costs").json()
    assert found["refresher_spend_usd", "day"] == pytest.approx(day["cost_usd"], abs=0.01)
    assert found["refresher_budget_usd", "month"] == 20
    left = control.http.get("/api/costs").json()["budget"]["day"]["left_usd"]
    assert found["refresher_budget_left_usd", "day"] == pytest.approx(left, abs=0.01)


def test_an_app_that_is_blocked_while_the_metrics_are_read_does_not_end_them(context, clock):
    """The passes do that on their own thread. Here it happens between two looks at what blocks an app."""
    cloud = context.cloud

    class Seen(Blocked):
        def __getattribute__(self, name: str) -> object:
            cloud.block(f"app {len(cloud.blocked)}", ports.Refusal.INVALID, "no", 0.0)
            return super().__getattribute__(name)

    for app in ("first", "second"):
        cloud.blocked[app] = Seen(ports.Refusal.INVALID, "no", 0.0)
    live = Live(Timeline(context.views.session, clock))
    found = samples(metrics.Metrics(context, live).text().decode())
    assert found["refresher_fly_token_refused",] == 0
    assert len(cloud.blocked) > 2


def test_webhooks_storage_logins_passes_and_fly_are_in_the_metrics(control):
    batch_id = control.rows.batch_of(control.rows.submit()).id
    with control.rows.store.transaction() as tx:
        tx.session.add(Webhook(batch_id=batch_id, subject="batch", message_id="m", url=None, state="dead"))
    before = control.scrape()
    assert httpx.post(f"{control.url}/api/auth", json={"password": "a guess"}).status_code == 401
    found = control.scrape()
    refused = ("refresher_logins_refused_total", "wrong_password")
    assert found[refused] - before[refused] == 1
    assert found["refresher_webhooks", "dead"] == 1
    assert found["refresher_storage_used_bytes",] == 1000
    assert found["refresher_storage_cap_bytes",] == 10 * 1024**3
    assert found["refresher_event_streams",] == 0
    assert 0 < found["refresher_volume_free_bytes",] < found["refresher_volume_size_bytes",]
    assert found["refresher_fly_token_refused",] == 0
    until(lambda: ("refresher_pass_last_success_timestamp_seconds", "reap") in control.scrape())
    with control.http.stream("GET", f"/api/batches/{batch_id}/events") as stream:
        content = stream.iter_bytes()
        next(content)
        assert control.scrape()["refresher_event_streams",] == 1


def test_many_scrapes_in_a_moment_read_the_rows_once(control, monkeypatch):
    monkeypatch.setattr(metrics, "FRESH_S", 3600)
    first = control.http.get("/metrics").text
    control.rows.submit()
    assert control.http.get("/metrics").text == first


def test_the_second_port_needs_no_token_and_has_nothing_else(control):
    port = free_port()
    with metrics_port.serving(port, control.app.state.metrics):
        url = f"http://127.0.0.1:{port}"
        assert ("refresher_jobs", "queued") in samples(httpx.get(f"{url}/metrics").text)
        assert httpx.get(f"{url}/api/jobs").status_code == 404
        with (
            pytest.raises(OSError, match="METRICS_PORT"),
            metrics_port.serving(port, control.app.state.metrics),
        ):
            pass
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{url}/metrics")


def test_a_slow_scraper_is_disconnected_and_scrapes_at_once_are_limited(control, monkeypatch):
    monkeypatch.setattr(metrics_port, "PATIENCE_S", 1.0)
    monkeypatch.setattr(metrics_port, "SCRAPES_MAX", 2)
    port = free_port()
    with metrics_port.serving(port, control.app.state.metrics), ExitStack() as stack:
        dripping = [stack.enter_context(connected(f"http://127.0.0.1:{port}")) for _ in range(3)]
        for each in dripping:
            assert is_ended_by(each, b"G")
        assert httpx.get(f"http://127.0.0.1:{port}/metrics").status_code == 200


@pytest.mark.parametrize(
    ("address", "answered"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:172.19.0.2", True),
        ("fdaa:0:18:a7b:7d:1:2:2", True),
        ("::ffff:8.8.8.8", False),
        ("2606:4700::1111", False),
        ("8.8.8.8", False),
    ],
)
def test_the_second_port_answers_only_private_addresses(address, answered):
    assert is_private(address) is answered


@pytest.mark.peer
def test_serve_has_the_second_port_when_it_is_named(tmp_path):
    port, env = free_port(), {name.upper(): value for name, value in SETTINGS.items()}
    env |= {"DATABASE_URL": f"sqlite:///{tmp_path / 'control.db'}", "METRICS_PORT": str(port)}
    env |= {"PATH": os.environ["PATH"], "FLY_API_URL": "http://127.0.0.1:9"}
    command = [REFRESHER, "serve", "--host", "127.0.0.1", "--port", "0", "--json"]
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            facts = json.loads(process.stdout.readline())
            assert httpx.get(f"{facts['url']}/metrics", timeout=60).status_code == 401
            assert "refresher_jobs" in httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
        finally:
            process.terminate()
            lines = process.stderr.read().splitlines()
    assert {"at", "event"} <= json.loads(lines[0]).keys()
    assert all(line.startswith('{"at": ') for line in lines)


def test_a_library_s_log_line_is_json_without_a_signed_url():
    code = (
        "import logging; from control.telemetry.log import send_to; send_to(None)\n"
        "logging.getLogger('urllib3').warning('cut: /bucket/key?X-Amz-Signature=canary')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    line = json.loads(done.stderr)
    assert (line["event"], line["logger"], line["message"]) == ("library_log", "urllib3", "cut: URL")


# --- alert rules ------------------------------------------------------------------------------------

WORDS = {
    "absent",
    "and",
    "increase",
    "on",
    "predict_linear",
    "sum",
    "time",
    "up",
}  # of PromQL and Prometheus itself


def names(expression: str) -> set[str]:
    """Return the metrics that an expression reads."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", "", expression)
    return set(re.findall(r"[a-zA-Z_:][\w:]*", bare)) - WORDS


def rules() -> list[dict[str, str]]:
    [group] = yaml.safe_load(RULES.read_text())["groups"]
    return list(group["rules"])


def test_alert_rules_read_only_metrics_and_labels_that_exist(control):
    found = control.scrape()
    known = {key[0] for key in found}
    for rule in rules():
        read = names(rule["expr"])
        assert read <= known, f"{rule['alert']} reads {read - known}"
        assert read or "up" in rule["expr"]
    shown = {key[1] for key in found if key[0].startswith("refresher_pass_")}
    [watched] = [
        set(re.findall(r"[a-z_]+(?=[|\"])", rule["expr"])) for rule in rules() if "forget" in rule["expr"]
    ]
    assert watched <= shown


def test_a_pass_that_may_take_long_pages_nobody():
    [slow] = [rule["expr"] for rule in rules() if rule["alert"] == "SlowPassStopped"]
    assert {each.__name__ for each, _ in SLOW_PASSES} == set(re.findall(r"[a-z_]+(?=[|\"])", slow))


def test_the_alerts_watch_every_pass():
    watched = [
        re.findall(r"[a-z_]+(?=[|\"])", rule["expr"]) for rule in rules() if "pass_last" in rule["expr"]
    ]
    passes = [*PASSES, *(each for each, _ in SLOW_PASSES), notify]
    assert sorted(name for names in watched for name in names) == sorted(each.__name__ for each in passes)


def test_every_alert_says_what_is_wrong_and_names_a_chapter_that_exists():
    chapters = (RULES.parents[2] / "docs" / "operations.md").read_text()
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]
        chapter = re.search(r'"(.+)"', rule["annotations"].get("action", ""))
        assert chapter is None or f"## {chapter[1]}\n" in chapters
    assert len({rule["alert"] for rule in rules()}) == len(rules())
