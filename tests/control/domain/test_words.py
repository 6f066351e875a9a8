"""The page has a word for every state of the API and expects nothing that the API does not send."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from control.domain.errors import Code
from control.domain.reasons import REASONS
from control.domain.states import AttemptState, JobStatus, OutputState
from control.store.queue import MACHINE_CAP
from runner.contract import Preset, Reason

OF_THE_PAGE = {"away", "storage"}  # nothing answered: control, or the bucket
SRC = Path(__file__).parents[3] / "control/web/src"


def words(language: str, part: str, table: str) -> set[str]:
    """Return what a table of a part of the texts has words for."""
    texts = (SRC / "texts" / f"{language}.ts").read_text()
    found = re.search(rf"\n    {part}: {{.*?\n      {table}: {{(.*?)}}", texts, re.S)
    assert found, f"the part {part} has no table {table}"
    return set(re.findall(r'(?:^|[{,])\s*"?([a-z][a-z_-]*)"?: "', found[1], re.M))


def union(name: str) -> set[str]:
    """Return the strings that a type of `shapes.ts` is made of."""
    found = re.search(rf"export type {name} = ([^;]+);", (SRC / "shapes.ts").read_text())
    assert found, f"shapes.ts has no type {name}"
    return set(re.findall(r'"([^"]+)"', found[1]))


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize(
    ("part", "table", "said"),
    [
        ("words", "statuses", JobStatus),
        ("machines", "states", AttemptState),
        ("words", "presets", Preset),
    ],
)
def test_the_page_has_words_for_all_that_the_api_may_say(
    language: str, part: str, table: str, said: Iterable[str]
) -> None:
    assert words(language, part, table) == set(said)


@pytest.mark.parametrize(
    ("name", "said"), [("Status", JobStatus), ("OutputStatus", OutputState), ("Preset", Preset)]
)
def test_the_pages_types_are_those_of_the_api(name: str, said: Iterable[str]) -> None:
    assert union(name) == set(said)


def test_the_page_keeps_no_copy_of_a_text_that_the_api_sends() -> None:
    text = "".join(path.read_text() for path in SRC.rglob("*.ts*"))
    assert not [meaning.text for meaning in REASONS.values() if meaning.text in text]
    assert "reason_text" in text  # which is shown instead


def test_the_page_looks_only_for_codes_that_the_api_gives() -> None:
    text = "".join(path.read_text() for path in SRC.rglob("*.ts*"))
    asked = set(re.findall(r"\bcode === \"([^\"]+)\"", text))
    assert asked
    assert asked <= {*Code, *Reason, MACHINE_CAP, *OF_THE_PAGE}
