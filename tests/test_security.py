"""SECURITY.md names a test for each defence, and each of these tests exists."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "SECURITY.md").read_text()


def test_every_test_that_is_named_exists():
    files = re.findall(r"`(tests/[\w/]+\.py)`", TEXT)
    assert [file for file in files if not (ROOT / file).exists()] == []
    code = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    names = re.findall(r"`(test_\w+)`", TEXT)
    assert [name for name in names if f"def {name}(" not in code] == []
    assert len(files) + len(names) > 20


def test_every_defence_has_one():
    rows = TEXT.partition("## Defences")[2].partition("\n\n`")[0].splitlines()
    defences = [row for row in rows if row.startswith("| ") and not row.startswith("| Defence")]
    assert [row for row in defences if "`test" not in row.rsplit("|", 2)[1]] == []
    assert len(defences) > 10
