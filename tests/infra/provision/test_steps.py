"""The deployment's commands, against a `fly` that notes what it was asked and answers as flyctl does."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from control.cli.main import app
from infra.provision.run import StepFailed, run
from infra.provision.steps import Deployment, down, release, roll_back, rotate, up

DIGEST = "sha256:" + "a" * 64
BASE = f"python:3.13-slim@{DIGEST}"
D = Deployment(name="ads", org="acme", region="fra", python_image=BASE)
BY_DIGEST = ("--python-image", BASE)
SECRETS = {"AUTH_PASSWORD": "the-password-itself", "TOKEN_SECRET": "the-secret-itself"}
FLY_TOKEN = "FlyV1 fm2_the-token-itself"

FLY = """#!/usr/bin/env python3
import json, os, sys
with open(os.environ["FLY_NOTES"], "a") as notes:
    notes.write(json.dumps({"argv": sys.argv[1:], "stdin": sys.stdin.read()}) + "\\n")
words = " ".join(sys.argv[1:])
if words.startswith("secrets list"):
    if not os.environ.get("FLY_TAKEN"):
        sys.exit("Error: app not found")
    print('[{"Name": "AUTH_PASSWORD", "Digest": "x"}, {"name": "TOKEN_SECRET"}]')
if words.startswith("tokens create"):
    print("FLY_TOKEN")
if words.startswith("storage create"):
    print("AWS_SECRET_ACCESS_KEY: BUCKET_KEY")
if "--build-only" in words and not os.environ.get("FLY_SILENT"):
    print("#9 pushing manifest for images.test/ads-runner:deployment-1@DIGEST 0.4s done", file=sys.stderr)
if words.startswith("apps create") and os.environ.get("FLY_TAKEN"):
    sys.exit("Error: Name has already been taken")
if words.startswith(os.environ.get("FLY_BREAKS", "-")):
    sys.exit("Error: it broke")
"""


@pytest.fixture
def fly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program = tmp_path / "fly"
    program.write_text(FLY.replace("FLY_TOKEN", FLY_TOKEN).replace("DIGEST", DIGEST))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FLY_NOTES", str(tmp_path / "notes"))
    (tmp_path / "notes").touch()

    def asked() -> list[dict]:
        return [json.loads(line) for line in (tmp_path / "notes").read_text().splitlines()]

    return asked


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


def test_up_asks_fly_for_all_parts_in_order(fly):
    applied(up(D))
    asked = [" ".join(note["argv"][:2]) for note in fly()]
    assert asked == [
        "apps create",
        "apps create",
        "storage create",
        "tokens create",
        "secrets import",
        "deploy --config",
        "deploy --config",
        "ssh console",
    ]


def test_control_is_told_the_runner_s_image_by_its_digest(fly):
    applied(release(D))
    deploy = fly()[1]["argv"]
    assert f"RUNNER_IMAGE=images.test/ads-runner:deployment-1@{DIGEST}" in deploy
    assert "PUBLIC_URL=https://ads-control.fly.dev" in deploy


@pytest.mark.parametrize("steps", [up(D), rotate(D)], ids=["up", "rotate"])
def test_secrets_go_in_on_stdin_and_nowhere_else(fly, steps):
    said = applied(steps)
    secret = [*SECRETS.values(), FLY_TOKEN, "BUCKET_KEY"]
    assert not [word for note in fly() for word in note["argv"] if any(s in word for s in secret)]
    assert not [s for s in secret if s in said]
    imported = next(note["stdin"] for note in fly() if note["argv"][0] == "secrets")
    assert imported.splitlines() == [
        f"AUTH_PASSWORD={SECRETS['AUTH_PASSWORD']}",
        f"TOKEN_SECRET={SECRETS['TOKEN_SECRET']}",
        f"FLY_API_TOKEN={FLY_TOKEN}",
    ]


def test_what_is_there_already_is_left_as_it_is(fly, monkeypatch):
    monkeypatch.setenv("FLY_TAKEN", "1")
    applied(up(D))
    assert len(fly()) == len(up(D))


def test_up_again_leaves_the_password_and_the_token_secret_as_they_are(fly, monkeypatch):
    monkeypatch.setenv("FLY_TAKEN", "1")
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    result = CliRunner().invoke(app, ["provision", "up", *BY_DIGEST, "--name", "ads", "--apply"])
    assert result.exit_code == 0, result.output
    (imported,) = [note["stdin"] for note in fly() if note["argv"][:2] == ["secrets", "import"]]
    assert imported.splitlines() == [f"FLY_API_TOKEN={FLY_TOKEN}"]


def test_a_step_that_fails_ends_the_run_and_is_named(fly, monkeypatch):
    monkeypatch.setenv("FLY_BREAKS", "apps create ads-runner")
    with pytest.raises(StepFailed, match=r"(?s)network of its own.*it broke") as failed:
        applied(up(D))
    assert len(fly()) == 2
    assert not any(secret in str(failed.value) for secret in SECRETS.values())


def test_a_build_that_names_no_digest_is_not_deployed(fly, monkeypatch):
    monkeypatch.setenv("FLY_SILENT", "1")
    with pytest.raises(StepFailed, match="RUNNER_IMAGE"):
        applied(release(D))
    assert len(fly()) == 1


def test_without_flyctl_the_words_say_where_it_is_to_be_had(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StepFailed, match="not installed"):
        applied(down(D))


def test_rotating_leaves_a_password_alone_that_is_not_given(fly, monkeypatch):
    monkeypatch.delenv("AUTH_PASSWORD", raising=False)
    done = CliRunner().invoke(app, ["provision", "rotate", "--name", "ads", "--apply"])
    assert done.exit_code == 0
    imported = next(note["stdin"] for note in fly() if note["argv"][0] == "secrets")
    assert [line.partition("=")[0] for line in imported.splitlines()] == ["TOKEN_SECRET", "FLY_API_TOKEN"]


def test_rolling_back_starts_the_earlier_image(fly):
    applied(roll_back(D, image="images.test/ads-control@sha256:0"))
    assert fly()[1]["argv"][-2:] == ["--image", "images.test/ads-control@sha256:0"]


def test_roll_back_without_an_image_is_refused_before_anything_runs(fly):
    result = CliRunner().invoke(app, ["provision", "roll-back", "--name", "ads", "--apply"])
    assert result.exit_code != 0
    assert fly() == []


def test_tearing_down_removes_apps_and_bucket(fly):
    applied(down(D))
    assert [note["argv"][:3] for note in fly()] == [
        ["apps", "destroy", "ads-runner"],
        ["apps", "destroy", "ads-control"],
        ["storage", "destroy", "ads-videos"],
    ]


@pytest.mark.parametrize("what", ["up", "release"])
@pytest.mark.parametrize(
    "base", ["", "python:3.13-slim", "python@sha256:abc", f"@{DIGEST}", f"python:3 @{DIGEST}"]
)
def test_images_are_built_on_a_base_that_is_named_by_its_digest_alone(fly, what: str, base: str) -> None:
    result = CliRunner().invoke(app, ["provision", what, "--name", "ads", "--python-image", base, "--apply"])
    assert result.exit_code != 0
    assert "digest" in result.output
    assert fly() == []
