"""docs/operations.md as a new operator reads it: the programs take each command of it as it is written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from control.cli.main import app
from tests.support import flyctl

ROOT = Path(__file__).parents[3]
PAGES = ("docs/operations.md", "README.md", "SECURITY.md", "CONTRIBUTING.md", "docs/inputs.md")
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:[A-Z_]+=\S+ )*(?:fly|refresher) [^`]+)`")
NOT_WHOLE = ("fly ...", "fly logs", "fly status", "fly storage create", "fly ssh console", "fly secrets set")


def commands(page: str, program: str) -> list[str]:
    """Return each command of a program in a page's code, without comments, pipes and settings before it."""
    text = (ROOT / page).read_text()
    lines = [line for block in BLOCK.findall(text) for line in block.splitlines()]
    code = [re.sub(r"\s+#.*$", "", line) for line in [*lines, *INLINE.findall(text)]]
    pieces = [piece.strip() for line in code for piece in re.split(r"[;|]|&&", line)]
    found = [re.sub(r"^(?:[A-Z_]+=(?:'[^']*'|\S+) )+", "", piece) for piece in pieces]
    return [each for each in dict.fromkeys(found) if each.startswith(f"{program} ") and each not in NOT_WHOLE]


FLY = [each for page in PAGES for each in commands(page, "fly")]
REFRESHER = [each for page in PAGES for each in commands(page, "refresher")]


@pytest.mark.parametrize("command", list(dict.fromkeys(FLY)))
def test_flyctl_takes_the_command_as_it_is_written(command: str):
    assert flyctl.problem(shlex.split(command)[1:]) == ""


@pytest.mark.parametrize("command", list(dict.fromkeys(REFRESHER)))
def test_refresher_takes_the_command_as_it_is_written(command: str):
    name, *words = shlex.split(command)[1:]
    found = typer.main.get_command(app).commands[name]
    found.make_parser(found.context_class(found, info_name=name)).parse_args(words)


def test_the_pages_hold_as_many_commands_as_a_person_sees():
    assert len(FLY) > 10
    assert len(REFRESHER) > 30
