"""The doctor's judgements, and what it asks a cloud that does as it is told. The good case is an e2e test."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
import respx
from typer.testing import CliRunner

from control.cli.doctor import cloud, findings, inside, outside
from control.cli.doctor.findings import Finding, Status
from control.cli.main import app
from control.settings import load_settings
from infra.fly import client
from infra.ports import Machine, MachineExit, MachineSpec, Refusal, Refused, Unanswered
from runner.contract import SELF_TEST_FAILED, SelfTest
from tests.support.fakes import Clock, FakeMachines
from tests.support.settings import SETTINGS

URL = "https://control.test"
SIZES = "performance-1x,performance-2x"
PLACES = {SelfTest.CONTROL: "https://control.test", SelfTest.BUCKET: "https://bucket.test"}


class Cloud(FakeMachines):
    """A cloud whose machines end with `code` at the second look, or never with None."""

    def __init__(self, *, code: int | None = 0) -> None:
        super().__init__(Clock())
        self.code = code
        self.refused: dict[str, Refused] = {}  # by size
        self.lists_over_the_rate = 0

    def list(self, app: str, metadata: dict[str, str]) -> list[Machine]:
        if self.lists_over_the_rate:
            self.lists_over_the_rate -= 1
            raise Refused(Refusal.RATE_LIMITED, "429")
        return super().list(app, metadata)

    def create(self, spec: MachineSpec) -> Machine:
        if spec.size in self.refused:
            raise self.refused[spec.size]
        return replace(super().create(spec), state="created", started_at=None)

    def get(self, app: str, machine_id: str) -> Machine | None:
        machine = super().get(app, machine_id)
        if machine is None or self.code is None:
            return machine and replace(machine, state="created", started_at=None)
        how = MachineExit(
            exit_code=self.code, signal=0, oom_killed=False, requested_stop=False, at=self.clock()
        )
        return replace(machine, state="destroyed", exit=how, started_at=self.clock() + timedelta(seconds=3))


def looked(machines: Cloud, **settings: object) -> dict[str, Finding]:
    """Return what the doctor finds in the cloud, by check; it may wait as long as it likes."""
    chosen = load_settings(**{**SETTINGS, "runner_sizes": SIZES, "boot_timeout_s": 0.01, **settings})
    return {each.check: each for each in cloud.check(machines, chosen, pause=lambda _: None)}


def status(found: dict[str, Finding]) -> dict[str, str]:
    return {check: str(finding.status) for check, finding in found.items()}


def test_all_that_was_made_is_destroyed_and_only_one_machine_is_started_the_smallest():
    machines = Cloud()
    found = looked(machines, boot_timeout_s=180)
    assert set(status(found).values()) == {"ok"}, found
    assert [(spec.size, spec.is_started) for spec in machines.specs] == [
        ("performance-1x", False),
        ("performance-2x", False),
        ("shared-cpu-1x", True),
    ]
    assert len(machines.destroyed) == 3
    assert {frozenset(spec.metadata.items()) for spec in machines.specs} == {frozenset({("role", "doctor")})}
    assert not any(spec.env for spec in machines.specs), "no secret goes to a machine"
    assert "3.0 s" in found["machine boot"].seen


def test_a_token_that_reaches_one_app_alone_is_named_by_app_and_the_other_is_used():
    machines = Cloud()
    machines.refused_apps = {"runners"}
    found = looked(machines, runner_apps="runners,spare", boot_timeout_s=180)
    assert (found["token of runners"].status, found["token of spare"].status) == (Status.FAIL, Status.OK)
    assert "provision rotate" in found["token of runners"].remedy
    assert {spec.app for spec in machines.specs} == {"spare"}
    machines.refused_apps = {"runners", "spare"}
    assert len(looked(machines, runner_apps="runners,spare")) == 2, "nothing is made without a token"


def test_a_size_that_the_organisation_may_not_use_is_named_and_the_rest_is_looked_at():
    machines = Cloud()
    machines.refused["performance-2x"] = Refused(Refusal.INVALID, "performance CPUs are not available")
    found = looked(machines, boot_timeout_s=180)
    assert found["size performance-2x"].status is Status.FAIL
    assert "RUNNER_SIZES" in found["size performance-2x"].remedy
    assert "free-trial" in found["size performance-2x"].remedy
    assert found["size performance-1x"].status is found["machine boot"].status is Status.OK


def test_a_lost_image_ends_the_look_at_machines_with_the_remedy():
    machines = Cloud()
    machines.answers = [Refused(Refusal.IMAGE_NOT_FOUND, "MANIFEST_UNKNOWN")]
    found = looked(machines)
    assert status(found) == {"token of runners": "ok", "image": "fail"}
    assert "provision release" in found["image"].remedy


def test_what_is_over_the_rate_is_asked_again_and_a_lost_answer_is_told():
    machines = Cloud()
    machines.lists_over_the_rate = 3
    machines.answers = [Refused(Refusal.RATE_LIMITED, "429")] * 3
    found = looked(machines, boot_timeout_s=180)
    assert {each.status for check, each in found.items() if check.startswith(("token", "size"))} == {
        Status.OK
    }
    machines.answers = [None, None, Unanswered("no answer")]
    found = looked(machines)
    assert (found["machine boot"].status, found["machine boot"].remedy) == (Status.FAIL, findings.NO_ANSWER)


def test_a_machine_that_stays_created_is_destroyed_and_told(monkeypatch):
    monkeypatch.setattr(cloud, "SELF_TEST_S", 0.01)
    machines = Cloud(code=None)
    found = looked(machines)
    assert found["machine boot"].status is Status.FAIL
    assert "'created'" in found["machine boot"].seen
    assert len(machines.destroyed) == 3


def test_a_slow_boot_says_what_is_allowed():
    found = looked(Cloud(), boot_timeout_s=2.0)
    assert found["machine boot"].status is Status.FAIL
    assert "Raise BOOT_TIMEOUT_S, which is 2" in found["machine boot"].remedy


@pytest.mark.parametrize(
    "wrong", [SelfTest(bits) for bits in range(8)], ids=lambda wrong: f"{int(wrong):03b}"
)
def test_an_exit_code_tells_exactly_what_failed_on_the_machine(wrong: SelfTest):
    code = SELF_TEST_FAILED + wrong if wrong else 0
    found = looked(Cloud(code=code), boot_timeout_s=180)
    reported = [found[findings.SELF_TESTS[test][0]].status is Status.FAIL for test in SelfTest]
    assert reported == [test in wrong for test in SelfTest]


@pytest.mark.parametrize("code", [1, 2, 4, 137])
def test_a_machine_that_ends_otherwise_is_not_taken_for_a_good_one(code: int):
    found = looked(Cloud(code=code), boot_timeout_s=180)
    assert found["self-test on a machine"].status is Status.FAIL
    assert f"exit code {code}" in found["self-test on a machine"].seen


GONE = Machine(app="a", id="m", name="m", state="destroyed", region="iad", created_at=Clock()())
JUDGED = [
    (findings.boot(None, 1, allowed_s=1), "warn"),
    (findings.self_test(GONE, places=PLACES)[0], "fail"),
    (findings.conditional_put(200, 412), "ok"),
    (findings.conditional_put(403, 403), "fail"),
    (findings.conditional_put(200, 200), "fail"),
    (findings.consistency(is_seen=True, is_late=False), "ok"),
    (findings.consistency(is_seen=True, is_late=True), "warn"),
    (findings.consistency(is_seen=False, is_late=True), "fail"),
    (findings.cors(["https://a", "https://b"], {"https://a", "https://b"}), "ok"),
    (findings.cors(["https://a"], {"*"}), "ok"),
    (findings.cors(["https://a", "https://b"], {"https://a"}), "fail"),
    (findings.lifecycle(is_set=True), "ok"),
    (findings.lifecycle(is_set=False), "warn"),
    (findings.clock("bucket", -5), "ok"),
    (findings.clock("bucket", -31), "warn"),
    (findings.clock("bucket", 301), "fail"),
    (findings.mount("DATABASE_MOUNT: no volume", mount="/data", is_on_fly=True), "fail"),
    (findings.mount("", mount="/data", is_on_fly=True), "ok"),
    (findings.mount("", mount=None, is_on_fly=True), "warn"),
    (findings.mount("", mount=None, is_on_fly=False), "ok"),
    (findings.room(10**9, 10**9), "ok"),
    (findings.room(100 * 10**6, 10**9), "warn"),
    (findings.room(10**6, 10**9), "fail"),
    (findings.copied(newest_at=1000, written_at=900, is_on_fly=True), "ok"),
    (findings.copied(newest_at=1000, written_at=1100, is_on_fly=True), "ok"),
    (findings.copied(newest_at=1000, written_at=1121, is_on_fly=True), "fail"),
    (findings.copied(newest_at=None, written_at=1000, is_on_fly=True), "fail"),
    (findings.copied(newest_at=None, written_at=1000, is_on_fly=False), "warn"),
    (findings.ready({"storage": "ok"})[0], "ok"),
    (findings.ready({"storage": "does not answer"})[0], "fail"),
    *((findings.size_refused("performance-1x", Refused(refusal, "words")), "fail") for refusal in Refusal),
]


@pytest.mark.parametrize(("finding", "expected"), JUDGED, ids=lambda each: getattr(each, "check", each))
def test_each_judgement_is_as_bad_as_it_should_be_and_what_is_not_ok_says_what_to_do(
    finding: Finding, expected: str
):
    assert finding.status == expected
    assert bool(finding.remedy) == (expected != "ok")
    assert all(text[0].isupper() and text.endswith(".") for text in (finding.remedy,) if text)


# --- inside: what cannot be reached is a finding, and the rest is looked at -------------------------


def test_a_bucket_and_a_fly_that_do_not_answer_are_findings_among_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "READS_MAX", 1)
    place = {"database_url": f"sqlite:///{tmp_path}/control.db", "fly_api_url": "http://127.0.0.1:1/v1"}
    settings = load_settings(**{**SETTINGS, **place, "public_url": "http://127.0.0.1:1"})
    found = {each.check: each for each in inside.check(settings)}
    assert found["volume"].status is Status.OK
    wrong = {check for check, finding in found.items() if finding.status is Status.FAIL}
    assert wrong == {
        *("bucket", "database's copy", "clock: bucket", "clock: Fly", "token of runners", "control"),
    }
    assert all(found[check].remedy for check in wrong)
    reported = json.dumps([finding.as_data for finding in found.values()])
    assert not [secret for secret in ("secret for tests", "a password long") if secret in reported]


def test_settings_that_are_missing_are_a_finding_too(monkeypatch):
    monkeypatch.delenv("BUCKET_NAME", raising=False)
    env = {name.upper(): value for name, value in SETTINGS.items() if name != "bucket_name"}
    done = CliRunner().invoke(app, ["doctor", "--inside", "--json"], env=env)
    assert done.exit_code == 1
    (reported,) = json.loads(done.stdout)
    assert (reported["check"], reported["status"]) == ("settings", "fail")
    assert "BUCKET_NAME" in reported["seen"]
    assert "fly ssh console" in reported["remedy"]


# --- outside ----------------------------------------------------------------------------------------

PARTS = {"ready": True, "parts": {"storage": "ok"}}
UPLOAD = {"upload_id": "upl_1", "parts": [{"number": 1, "url": "https://bucket.test/b/k?X-Amz-Signature=s"}]}


@pytest.fixture
def web():
    """A control and a bucket that are well, by name; a test replaces one answer."""
    with respx.mock(assert_all_called=False) as mock:
        date = {"Date": "Thu, 26 Nov 2026 12:00:00 GMT"}
        mock.get(f"{URL}/api/health", name="health").respond(
            json={"version": outside.version("video-refresher"), "active_jobs": 0}, headers=date
        )
        mock.get(f"{URL}/api/ready", name="ready").respond(json=PARTS)
        mock.post(f"{URL}/api/auth", name="auth").respond(json={"token": "t"})
        mock.get(f"{URL}/api/machines", name="machines").respond(json={"items": []})
        mock.post(f"{URL}/api/uploads", name="uploads").respond(201, json=UPLOAD)
        mock.delete(f"{URL}/api/uploads/upl_1", name="abort").respond(204)
        mock.options(url__startswith="https://bucket.test/", name="preflight").respond(
            headers={"Access-Control-Allow-Origin": URL}
        )
        mock.put(url__startswith="https://bucket.test/", name="put").respond(headers={"ETag": '"e"'})
        yield mock


def outer(web: Any, **replaced: httpx.Response | Exception) -> dict[str, Finding]:
    for name, answer in replaced.items():
        web[name].side_effect = [answer] * 9 if isinstance(answer, httpx.Response) else answer
    found = outside.check(URL, password="correct horse battery")
    return {each.check: each for each in found if not each.check.startswith("clock")}


def test_from_outside_a_deployment_that_is_well_has_no_remedy_and_the_upload_is_aborted(web):
    found = outer(web)
    assert set(status(found).values()) == {"ok"}, found
    assert web["abort"].called
    assert web["preflight"].calls.last.request.headers["Origin"] == URL


@pytest.mark.parametrize(
    ("name", "answer", "check", "expected", "words"),
    [
        ("health", httpx.ConnectError("no"), "control", "fail", "REFRESHER_URL"),
        ("health", httpx.Response(502), "control", "fail", "PUBLIC_URL"),
        (
            "ready",
            httpx.Response(503, json={"parts": {"storage": "bad"}}),
            "ready: storage",
            "fail",
            "Control is",
        ),
        ("auth", httpx.Response(401, json={"error": {"message": "Wrong."}}), "sign-in", "fail", "PASSWORD"),
        ("machines", httpx.Response(503), "machines", "fail", "inside"),
        ("machines", httpx.Response(200, json={"items": [{"orphan": True}]}), "machines", "warn", "reap"),
        (
            "uploads",
            httpx.Response(507, json={"error": {"message": "Full."}}),
            "upload as a page",
            "fail",
            "message",
        ),
        ("preflight", httpx.Response(403), "upload as a page", "fail", "bucket-rules"),
        ("put", httpx.Response(403), "upload as a page", "fail", "keys"),
        ("put", httpx.ConnectError("no"), "upload as a page", "fail", "S3_PUBLIC_ENDPOINT_URL"),
    ],
)
def test_from_outside_each_thing_that_is_wrong_is_named_with_its_remedy(
    web, name: str, answer: Any, check: str, expected: str, words: str
):
    found = outer(web, **{name: answer})
    assert found[check].status == expected, found
    assert words in found[check].remedy
    assert "Signature" not in found[check].seen, "a signed URL is a key"


def test_the_command_prints_data_and_fails_when_something_is_wrong(web, monkeypatch):
    for name in ("REFRESHER_TOKEN", "REFRESHER_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    runner = CliRunner()
    asked = runner.invoke(app, ["doctor"], env={"REFRESHER_URL": ""})
    assert asked.exit_code == 2
    assert "REFRESHER_URL" in asked.output
    env = {"REFRESHER_URL": URL, "REFRESHER_PASSWORD": "correct horse battery"}
    web["preflight"].side_effect = [httpx.Response(403)]
    done = runner.invoke(app, ["doctor", "--json"], env=env)
    assert done.exit_code == 1
    reported = json.loads(done.stdout)
    assert {"check", "status", "seen", "remedy"} == set(reported[0])
    failed = [each["check"] for each in reported if each["status"] == "fail"]
    assert [check for check in failed if not check.startswith("clock")] == ["upload as a page"]
