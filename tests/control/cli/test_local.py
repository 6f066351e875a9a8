"""The embedded stack's setting of the jail for its machines."""

from __future__ import annotations

import subprocess
import sys

import pytest

from runner.contract import ENV_JAIL
from tests.support.jails import needs_a_jail, without_namespaces

pytestmark = pytest.mark.peer

ASK = [sys.executable, "-c", "from control.cli.local import _machine_env; print(_machine_env())"]


def ask(*before: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*before, *ASK], capture_output=True, text=True, check=True, timeout=60)


def test_where_a_jail_can_be_made_it_is_used():
    needs_a_jail()
    answer = ask()
    assert (answer.stdout, answer.stderr) == ("{}\n", "")


def test_where_none_can_be_made_machines_run_without_one_and_a_warning_is_printed():
    answer = ask(*without_namespaces())
    assert answer.stdout == f"{{'{ENV_JAIL}': 'off'}}\n"
    assert "unconfined" in answer.stderr
    assert "unshare: Operation not permitted" in answer.stderr
