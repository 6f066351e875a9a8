"""`refresher doctor` on a deployment that is well: the local Fly, bucket and control, and a real machine."""

from __future__ import annotations

import json

import httpx
from pydantic import SecretStr
from typer.testing import CliRunner

from control.cli.local import LocalStack
from control.cli.main import app
from tests.support.jails import trouble
from tests.support.processes import until


def environment(stack: LocalStack) -> dict[str, str]:
    """Return the settings of the stack's control as its environment would have them."""

    def text(value: object) -> str:
        if isinstance(value, SecretStr):
            return value.get_secret_value()
        return ",".join(value) if isinstance(value, tuple) else str(value)

    given = {name: value for name, value in stack.settings if value is not None}
    return {name.upper(): text(value) for name, value in given.items()}


def test_the_doctor_finds_a_good_deployment_good_from_inside_and_outside_and_leaves_nothing(
    stack: LocalStack,
) -> None:
    client = {"REFRESHER_URL": stack.url, "REFRESHER_PASSWORD": stack.password}
    done = CliRunner().invoke(app, ["doctor", "--inside", "--json"], env=environment(stack))
    found = {each["check"]: each for each in json.loads(done.stdout)}
    # It was started without Litestream, and perhaps on a machine that cannot make a jail.
    expected = {"database's copy": "warn", **({"jail on a machine": "fail"} if trouble() else {})}
    assert {name: each["status"] for name, each in found.items() if each["status"] != "ok"} == expected
    assert done.exit_code == (1 if trouble() else 0), done.stderr
    assert {"machine boot", "control from a machine", "bucket: CORS", "clock: Fly"} < found.keys()
    assert "This starts one shared-cpu-1x machine" in done.stderr.splitlines()[0], "the cost comes first"

    headers = {"Authorization": f"Bearer {stack.fly.token}"}
    address = f"{stack.fly.url}/apps/{stack.fly.app}/machines"

    def listed() -> httpx.Response | None:
        answer = httpx.get(address, headers=headers)
        return answer if answer.status_code == 200 else None  # Fly allows one list a second

    machines = until(listed).json()
    assert not [machine["name"] for machine in machines if machine["name"].startswith("doctor")]

    outer = CliRunner().invoke(app, ["doctor"], env={**client, "REFRESHER_TOKEN": ""})
    assert outer.exit_code == 0, outer.output
    assert "upload as a page" in outer.output
    secrets = [value for value in dict(stack.settings).values() if isinstance(value, SecretStr)]
    for said in (done.stdout, done.stderr, outer.stdout, outer.stderr):
        assert not [secret for secret in secrets if secret.get_secret_value() in said]


def test_wrong_keys_are_findings_with_a_remedy_and_no_trace(stack: LocalStack) -> None:
    wrong = {"AWS_ACCESS_KEY_ID": "wrong-on-purpose", "FLY_API_TOKEN": "wrong-on-purpose"}
    done = CliRunner().invoke(app, ["doctor", "--inside", "--json"], env={**environment(stack), **wrong})
    assert done.exit_code == 1
    failed = {each["check"]: each for each in json.loads(done.stdout) if each["status"] == "fail"}
    assert failed.keys() == {"bucket", "database's copy", f"token of {stack.fly.app}"}
    assert all(each["remedy"] for each in failed.values())
    assert "Traceback" not in done.output
