"""The deployment's commands, against a `fly` that records its calls and answers like flyctl."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from control.cli.main import app
from control.cli.provision import wait_until_healthy
from control.settings import load_settings
from infra.provision.run import StepFailed, run
from infra.provision.steps import Deployment, down, release, roll_back, rotate, up
from tests.support import flyctl
from tests.support.flyctl import DIGEST, FLY_TOKEN
from tests.support.settings import SETTINGS

pytestmark = pytest.mark.peer

BASE = f"python:3.13-slim@{DIGEST}"
LABEL = "release-20261126-120000"
D = Deployment(name="ads", org="acme", region="fra", python_image=BASE, label=LABEL)
BY_DIGEST = ("--python-image", BASE)
SECRETS = {"AUTH_PASSWORD": "the-password-itself", "TOKEN_SECRET": "the-secret-itself"}


@pytest.fixture
def fly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    flyctl.install(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return lambda: flyctl.asked(tmp_path)


ALL = {
    "up": up(D),
    "up with three apps": up(replace(D, runner_apps=3)),
    "release": release(D),
    "roll-back": roll_back(D),
    "rotate": rotate(D),
    "down": down(D),
}


@pytest.mark.parametrize("steps", ALL.values(), ids=ALL)
def test_flyctl_knows_every_command_and_flag_of_every_step(steps):
    looks = [step.unless.argv for step in steps if step.unless]
    for argv in [*(step.argv for step in steps), *looks]:
        assert argv[0] == "fly"
        assert flyctl.problem(argv[1:]) == ""


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ("deploy --no-such-flag", "unknown flag"),
        ("releases --app a extra", "takes 0 to 0 arguments"),
        ("apps list --org", "needs an argument"),
        ("machine create --app a", "takes 1 to None"),
        ("apps make a", "unknown command"),
        ("deploy --ha=false -a x --yes", ""),
        ("volumes create data -a x -r fra -s 1 --yes", ""),
    ],
)
def test_the_stand_in_is_as_strict_as_flyctl(words: str, wrong: str):
    assert wrong in flyctl.problem(words.split())
    assert bool(flyctl.problem(words.split())) == bool(wrong)


def applied(steps, values=None) -> str:
    said: list[str] = []
    run(steps, dict(SECRETS) if values is None else values, apply=True, say=said.append)
    return "\n".join(said)


def test_a_dry_run_prints_every_command_and_runs_none(fly):
    result = CliRunner().invoke(
        app, ["provision", "up", *BY_DIGEST, "--name", "ads", "--region", "fra", "--org", "acme"]
    )
    assert result.exit_code == 0
    assert fly() == []
    commands = [line for line in result.output.splitlines() if line.startswith("$ ")]
    assert len(commands) == len(up(D))
    assert "$ fly apps create ads-runner --org acme --network ads-runners" in commands
    assert any(line.startswith("$ fly deploy") and "--env PUBLIC_URL=" in line for line in commands)
    (imported,) = [line for line in commands if line.startswith("$ fly secrets import")]
    assert imported.endswith("# stdin: AUTH_PASSWORD=..., TOKEN_SECRET=..., FLY_API_TOKEN=...")


def names(notes: list[dict]) -> list[str]:
    """Return what was done, without what was only looked at."""
    asked = [" ".join(note["argv"][:2]) for note in notes]
    return [each for each in asked if not each.endswith(" list")]


def test_up_calls_fly_for_all_parts_in_order(fly):
    applied(up(D))
    assert names(fly()) == [
        "apps create",
        "apps create",
        "storage create",
        "tokens create",
        "secrets import",
        "deploy --config",
        "machine create",
        "deploy --config",
    ]


def deployed(fly) -> list[str]:
    return next(note["argv"] for note in fly() if "fly.control.toml" in note["argv"])


def test_control_is_deployed_into_its_region_with_the_runner_s_image_by_its_digest(fly):
    applied(release(D))
    deploy = deployed(fly)
    assert f"RUNNER_IMAGE=images.test/ads-runner:deployment-1@{DIGEST}" in deploy
    assert "PUBLIC_URL=https://ads-control.fly.dev" in deploy
    assert deploy[deploy.index("--primary-region") + 1] == "fra"


def test_a_builder_that_prints_no_digest_leaves_the_release_s_own_label(fly, monkeypatch):
    monkeypatch.setenv("FLY_SILENT", "1")
    applied(release(D))
    assert f"RUNNER_IMAGE=registry.fly.io/ads-runner:{LABEL}" in deployed(fly)


def machines_of(*labels: str) -> str:
    shown = [
        {"id": f"id-{label}", "name": f"image-holder-{label}", "created_at": f"2026-11-{day:02}T00:00:00Z"}
        for day, label in enumerate(labels, 1)
    ]
    return json.dumps([{"id": "run", "name": "job-1", "created_at": "2026-10-01T00:00:00Z"}, *shown])


def test_a_machine_that_never_starts_holds_each_release_s_image_and_the_one_before(fly, monkeypatch):
    monkeypatch.setenv("FLY_MACHINES", machines_of("old", "newer"))
    monkeypatch.setenv("FLY_LIVE", "newer")
    applied(release(D))
    created = next(note["argv"] for note in fly() if note["argv"][:2] == ["machine", "create"])
    assert created[2] == f"images.test/ads-runner:deployment-1@{DIGEST}"
    assert {f"image-holder-{LABEL}", "role=image-holder"} <= set(created)
    assert destroyed(fly) == ["id-old"]


def destroyed(fly) -> list[str]:
    return [note["argv"][2] for note in fly() if note["argv"][:2] == ["machine", "destroy"]]


def test_after_a_roll_back_the_next_release_keeps_the_image_of_what_is_live(fly, monkeypatch):
    monkeypatch.setenv("FLY_MACHINES", machines_of("rolled-back-to", "left"))
    monkeypatch.setenv("FLY_LIVE", "rolled-back-to")
    applied(release(D))
    assert destroyed(fly) == ["id-left"]


def test_while_it_is_unknown_what_is_live_a_release_keeps_every_held_image(fly, monkeypatch):
    monkeypatch.setenv("FLY_MACHINES", machines_of("old", "newer"))
    applied(release(D))
    assert destroyed(fly) == []


def test_a_release_that_fails_keeps_every_held_image(fly, monkeypatch):
    monkeypatch.setenv("FLY_MACHINES", machines_of("live", "failed"))
    monkeypatch.setenv("FLY_LIVE", "live")
    monkeypatch.setenv("FLY_BREAKS", "deploy --config fly.control.toml")
    with pytest.raises(StepFailed, match="start control"):
        applied(release(D))
    assert "machine destroy" not in names(fly())


def test_the_first_two_releases_destroy_no_machine(fly, monkeypatch):
    monkeypatch.setenv("FLY_MACHINES", machines_of("only"))
    monkeypatch.setenv("FLY_LIVE", "only")
    applied(release(D))
    assert "machine destroy" not in names(fly())


def test_only_with_sleep_control_ends_itself_when_idle(fly):
    for sleeps in (False, True):
        deploys = [
            step.argv for step in release(replace(D, sleeps=sleeps)) if "fly.control.toml" in step.argv
        ]
        assert [("STOP_WHEN_IDLE_S=300" in argv) for argv in deploys] == [sleeps]


def test_several_runner_apps_get_a_token_each_and_control_knows_them_all(fly):
    d = replace(D, runner_apps=3)
    applied(up(d))
    created = [note["argv"][2] for note in fly() if note["argv"][:2] == ["apps", "create"]]
    assert created == ["ads-control", "ads-runner", "ads-runner-2", "ads-runner-3"]
    assert "RUNNER_APPS=ads-runner,ads-runner-2,ads-runner-3" in deployed(fly)
    imported = next(note["stdin"] for note in fly() if note["argv"][:2] == ["secrets", "import"])
    pairs = " ".join(f"{app}={FLY_TOKEN}" for app in d.runners)
    assert f"FLY_API_TOKEN={pairs}" in imported.splitlines()
    given = {**SETTINGS, "fly_api_token": pairs, "runner_apps": ",".join(d.runners)}
    assert load_settings(**given).fly_tokens == dict.fromkeys(d.runners, FLY_TOKEN)


@pytest.mark.parametrize("steps", [up(D), rotate(D)], ids=["up", "rotate"])
def test_secrets_go_in_on_stdin_and_nowhere_else(fly, steps):
    said = applied(steps)
    secret = [*SECRETS.values(), FLY_TOKEN, flyctl.BUCKET_KEY]
    assert not [word for note in fly() for word in note["argv"] if any(s in word for s in secret)]
    assert not [s for s in secret if s in said]
    imported = next(note["stdin"] for note in fly() if note["argv"][:2] == ["secrets", "import"])
    assert imported.splitlines() == [
        f"AUTH_PASSWORD={SECRETS['AUTH_PASSWORD']}",
        f"TOKEN_SECRET={SECRETS['TOKEN_SECRET']}",
        f"FLY_API_TOKEN=ads-runner={FLY_TOKEN}",
    ]


def test_what_is_there_already_is_left_as_it_is(fly, monkeypatch):
    monkeypatch.setenv("FLY_TAKEN", "1")
    monkeypatch.setenv("FLY_MACHINES", machines_of(LABEL))
    applied(up(D))
    assert names(fly()) == ["tokens create", "secrets import", "deploy --config", "deploy --config"]


def test_a_name_that_another_organisation_has_taken_is_no_success(fly, monkeypatch):
    monkeypatch.setenv("FLY_BREAKS", "apps create ads-control")  # as "already been taken" by someone else
    with pytest.raises(StepFailed, match="it broke"):
        applied(up(D))


def test_up_again_leaves_the_password_and_the_token_secret_as_they_are(fly, monkeypatch):
    monkeypatch.setenv("FLY_TAKEN", "1")
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(app, ["provision", "up", *BY_DIGEST, "--name", "ads", "--apply"])
    assert result.exit_code == 0, result.output
    (imported,) = [note["stdin"] for note in fly() if note["argv"][:2] == ["secrets", "import"]]
    assert imported.splitlines() == [f"FLY_API_TOKEN=ads-runner={FLY_TOKEN}"]


def test_a_step_that_fails_ends_the_run_and_is_named(fly, monkeypatch):
    monkeypatch.setenv("FLY_BREAKS", "apps create ads-runner")
    with pytest.raises(StepFailed, match=r"(?s)network of their own.*it broke") as failed:
        applied(up(D))
    assert names(fly()) == ["apps create", "apps create"]
    assert not any(secret in str(failed.value) for secret in SECRETS.values())


def test_without_flyctl_the_words_say_where_it_is_to_be_had(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StepFailed, match="not installed"):
        applied(down(D))


def test_rotating_leaves_a_password_alone_that_is_not_given(fly, monkeypatch):
    monkeypatch.delenv("AUTH_PASSWORD", raising=False)
    done = CliRunner().invoke(app, ["provision", "rotate", "--name", "ads", "--apply"])
    assert done.exit_code == 0
    imported = next(note["stdin"] for note in fly() if note["argv"][:2] == ["secrets", "import"])
    assert [line.partition("=")[0] for line in imported.splitlines()] == ["TOKEN_SECRET", "FLY_API_TOKEN"]


def test_rolling_back_starts_the_earlier_image_with_the_environment_of_its_release(fly, monkeypatch):
    monkeypatch.setenv("FLY_MACHINES", machines_of(LABEL, "newer"))
    arguments = ["--name", "ads", "--region", "fra", "--image", f"registry.fly.io/ads-control:{LABEL}"]
    done = CliRunner().invoke(app, ["provision", "roll-back", *arguments, "--apply"])
    assert done.exit_code == 0, done.output
    deploy = deployed(fly)
    assert deploy[-2:] == ["--image", f"registry.fly.io/ads-control:{LABEL}"]
    assert f"RUNNER_IMAGE=registry.fly.io/ads-runner:{LABEL}" in deploy
    assert {"PUBLIC_URL=https://ads-control.fly.dev", "RUNNER_APPS=ads-runner"} <= set(deploy)


def test_a_release_whose_runner_s_image_is_no_longer_held_is_not_rolled_back_to(fly, monkeypatch):
    monkeypatch.setenv("FLY_MACHINES", machines_of("newer"))
    with pytest.raises(StepFailed, match="must still be there"):
        applied(roll_back(D))
    assert "deploy --config" not in names(fly())


@pytest.mark.parametrize("password", ["a long pass#word here", 'with-a-"quote"-inside', "with'apostrophe-in"])
def test_a_password_that_fly_would_cut_is_refused_before_anything_runs(fly, monkeypatch, password):
    monkeypatch.setenv("AUTH_PASSWORD", password)
    done = CliRunner().invoke(app, ["provision", "up", *BY_DIGEST, "--name", "ads", "--apply"])
    assert done.exit_code != 0
    assert fly() == []


def test_a_made_up_password_is_printed_before_the_first_step(fly, monkeypatch):
    monkeypatch.delenv("AUTH_PASSWORD", raising=False)
    monkeypatch.setenv("FLY_BREAKS", "apps create ads-control")
    done = CliRunner().invoke(app, ["provision", "up", *BY_DIGEST, "--name", "ads", "--apply"])
    assert done.exit_code != 0
    assert done.output.index("password: ") < done.output.index("# 1.")


def test_control_that_never_answers_is_said_after_a_while():
    with pytest.raises(StepFailed, match="does not answer"):
        wait_until_healthy("http://127.0.0.1:1", within_s=0)


def test_more_regions_are_for_runners_alone(fly):
    arguments = ["--name", "ads", "--region", "fra,ams", *BY_DIGEST]
    done = CliRunner().invoke(app, ["provision", "release", *arguments, "--apply"])
    assert done.exit_code == 0, done.output
    deploy = deployed(fly)
    assert deploy[deploy.index("--primary-region") + 1] == "fra"
    assert "RUNNER_REGIONS=fra,ams" in deploy
    created = next(note["argv"] for note in fly() if note["argv"][:2] == ["machine", "create"])
    assert created[created.index("--region") + 1] == "fra"
    refused = CliRunner().invoke(app, ["provision", "down", "--name", "ads", "--region", "fra,,", "--apply"])
    assert refused.exit_code == 2


def test_roll_back_without_an_image_is_refused_before_anything_runs(fly):
    result = CliRunner().invoke(app, ["provision", "roll-back", "--name", "ads", "--apply"])
    assert result.exit_code != 0
    assert fly() == []


@pytest.mark.parametrize(
    ("taken", "destroyed"),
    [("1", ["ads-runner", "ads-control", "ads-videos"]), ("bucket", ["ads-videos"]), ("", [])],
    ids=["at first", "again, after it broke before the bucket", "again, after all was done"],
)
def test_tearing_down_removes_the_apps_and_the_bucket_that_are_there(fly, monkeypatch, taken, destroyed):
    monkeypatch.setenv("FLY_TAKEN", taken)
    applied(down(D))
    assert [note["argv"][2] for note in fly() if note["argv"][1] == "destroy"] == destroyed


def test_an_answer_that_is_no_list_does_not_pass_for_a_part_that_is_gone(fly):
    looks = [step.unless for step in down(D) if step.unless]
    assert len(looks) == len(down(D))
    for look in looks:
        assert [look.find(text) for text in ("", "Error", "[", "{}", '["ads"]')] == [None] * 5


@pytest.mark.parametrize("what", ["up", "release"])
@pytest.mark.parametrize(
    "base", ["", "python:3.13-slim", "python@sha256:abc", f"@{DIGEST}", f"python:3 @{DIGEST}"]
)
def test_images_are_built_on_a_base_that_is_named_by_its_digest_alone(fly, what: str, base: str) -> None:
    result = CliRunner().invoke(app, ["provision", what, "--name", "ads", "--python-image", base, "--apply"])
    assert result.exit_code != 0
    assert "digest" in result.output
    assert fly() == []
