"""The command line, the page and the documents speak of the same things."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from control.cli.main import app
from control.views.schemas.submit import NewBatch

ROOT = Path(__file__).parent.parent
OWN = {  # fields of a batch that `submit` sets in another way than by an option of their name
    "sources": "what it is given, and --from",
    "variations": "-n",
    "output_url": "--to gives each source its output_urls",
}
DOCUMENTS = ["README.md", "docs/api.md", "docs/operations.md", "client/README.md"]


def options(command: str) -> set[str]:
    """Return the options of a command, long and short."""
    commands = get_command(app).commands
    return {name for param in commands[command].params for name in (*param.opts, *param.secondary_opts)}


def test_a_submit_sets_every_field_of_a_batch() -> None:
    fields = {f"--{name.replace('_', '-')}" for name in set(NewBatch.model_fields) - set(OWN)}
    assert fields - options("submit") == set()


def test_what_the_page_sends_the_command_line_can_send() -> None:
    shapes = (ROOT / "control/web/src/shapes.ts").read_text()
    order = re.findall(r"export interface (?:Order|Settings)\b[^{]*\{(.*?)\n\}", shapes, re.DOTALL)
    sent = set(re.findall(r"^  (\w+)\??:", "\n".join(order), re.MULTILINE))
    assert {"sources", "variations", "without"} <= sent
    assert sent - set(NewBatch.model_fields) == set()
    assert {f"--{name.replace('_', '-')}" for name in sent - set(OWN)} - options("submit") == set()


def commands_in(document: str) -> list[list[str]]:
    """Return the words of each `refresher` command in the shell blocks of a document."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    text = "\n".join(blocks).replace("\\\n", " ")
    found = re.findall(r"(?:^|\$\(|&& |\| )refresher ([^\n|&;)]+)", text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in found]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_in_a_document_exists_with_its_options(document: str) -> None:
    for command, *words in commands_in(document):
        wanted = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert wanted - options(command) == set(), (command, words)


def test_the_documents_have_commands() -> None:
    assert len(commands_in("docs/api.md")) >= 10
    assert ["link", "BATCH_ID"] in commands_in("docs/api.md")
