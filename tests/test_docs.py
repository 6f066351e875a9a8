"""Documents and comments refer only to files that are in the repository, and decisions have a status."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXTS = [".md", ".py", ".ts", ".tsx", ".toml", ".yml", ".css"]
PATH = re.compile(
    r"(?<![\w./-])((?:control|runner|infra|tests|bench|docs)/[\w./-]+\.(?:py|c|md|tsx?|txt|json|yml|png))\b"
)
FOLDER = re.compile(r"`((?:control|runner|infra|tests|bench|docs)(?:/[\w.-]+)*/)`")
MODULE = re.compile(r"`((?:control|runner|infra|tests|bench)\.[a-z_][\w.]*\w)`")
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINES_MAX, PROSE_MAX = 250, 120
DECISION = re.compile(r"docs/decisions/(\d{4})")
OUTSIDE = re.compile(r"\b(?:style|design)\.md\b|\bfacts/|\bcontract, (?:section )?\d|\.\./shared")
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
STATUS = re.compile(r"^Status: (?:accepted(?: \([^)]+\))?|superseded by \d+)(?:\.|; .+\.)$")


def files() -> list[Path]:
    """Return the texts of the repository, without what is built or installed."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    here = Path(__file__).resolve()
    found = [ROOT / name for name in names if Path(name).suffix in TEXTS]
    return [path for path in found if path.exists() and path.resolve() != here]


def test_every_file_that_is_referred_to_is_in_the_repository():
    missing = []
    for path in files():
        text = path.read_text()
        named = [*PATH.findall(text), *FOLDER.findall(text)]
        missing += [(str(path.relative_to(ROOT)), name) for name in named if not (ROOT / name).exists()]
        numbers = {decision.name[:4] for decision in DECISIONS}
        missing += [(str(path.relative_to(ROOT)), n) for n in DECISION.findall(text) if n not in numbers]
    assert missing == []


def test_no_text_refers_to_a_document_outside_of_the_repository():
    found = [
        (str(path.relative_to(ROOT)), match[0])
        for path in files()
        if (match := OUTSIDE.search(path.read_text()))
    ]
    assert found == []


def test_a_module_of_more_than_250_lines_says_why_it_is_one_file():
    code = [path for path in files() if path.suffix == ".py" and "tests" not in path.relative_to(ROOT).parts]
    long = [path for path in code if len(path.read_text().splitlines()) > LINES_MAX]
    docstrings = {
        str(path.relative_to(ROOT)): ast.get_docstring(ast.parse(path.read_text())) for path in long
    }
    assert [
        name for name, text in docstrings.items() if "one file" not in " ".join((text or "").lower().split())
    ] == []


def test_prose_is_at_most_120_wide():
    wide = []
    for path in files():
        if path.suffix == ".md":
            prose = CODE.sub("", path.read_text()).splitlines()
            wide += [(str(path.relative_to(ROOT)), line[:60]) for line in prose if is_wide(line)]
    assert wide == []


def is_wide(line: str) -> bool:
    """Return whether a line is too wide, except for a row of a table and a line with one long address."""
    return len(line) > PROSE_MAX and not line.startswith("|") and not re.search(r"\S{60}", line)


def test_every_module_that_a_document_names_is_in_the_repository():
    missing = []
    for path in files():
        if path.suffix == ".md":
            named = {*MODULE.findall(path.read_text())}
            missing += [(str(path.relative_to(ROOT)), name) for name in named if not is_there(name)]
    assert missing == []


def is_there(name: str) -> bool:
    """Return whether a dotted name is a module, a package, or a name in one of these."""
    path = ROOT.joinpath(*name.split("."))
    if path.is_dir() or path.with_suffix(".py").exists():
        return True
    module, _, last = name.rpartition(".")
    file = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    return file.exists() and re.search(rf"\b{last}\b", file.read_text()) is not None


@pytest.mark.parametrize("decision", DECISIONS, ids=lambda path: path.stem)
def test_every_decision_has_its_number_and_a_status(decision: Path):
    lines = decision.read_text().splitlines()
    assert lines[0].startswith(f"# {int(decision.name[:4])}. ")
    assert STATUS.match(lines[2]), lines[2]
    for number in re.findall(r"superseded by (\d+)", lines[2]):
        assert any(path.name.startswith(f"{int(number):04}-") for path in DECISIONS)


def test_the_newest_release_of_the_changelog_is_the_version_of_the_project():
    newest = re.search(
        r"^## (\d+\.\d+\.\d+) \(\d{4}-\d{2}-\d{2}\)$", (ROOT / "CHANGELOG.md").read_text(), re.M
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert newest
    assert newest[1] == project["version"]


def test_no_two_decisions_have_one_number():
    numbers = [decision.name[:4] for decision in DECISIONS]
    assert len(set(numbers)) == len(numbers)
