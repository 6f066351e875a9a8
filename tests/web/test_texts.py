"""Every text of the page lies in `texts/`, in each language. That each has all of them, TypeScript holds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import control.routes.page

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
