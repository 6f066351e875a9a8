"""What long runs have done so far: one line of JSON for each piece, of the code of control as it was."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from subprocess import run
from typing import Any

JUDGED = ("control", "runner", "infra")  # a change of the tests or of a document does not begin anew


class Ledger:
    """The lines that count: those of the code as it is now. Other lines stay in the file."""

    def __init__(self, path: Path) -> None:
        self._path, self._code = path, _code_of_now()
        self.lines: list[dict[str, Any]] = []
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                found = json.loads(line)
            except ValueError:  # the run was killed while it wrote this line
                continue
            if found["code"] == self._code:
                self.lines.append(found)

    @property
    def next_seed(self) -> int:
        return max((line["seed"] for line in self.lines), default=0) + 1

    def add(self, line: dict[str, Any]) -> None:
        """Count a line, and write it down."""
        line = {"code": self._code, **line}
        self.lines.append(line)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:  # a cut line before this one is ended first
            file.write("\n" + json.dumps(line))


def _code_of_now() -> str:
    """Return a digest of the code that is judged, committed or not."""
    said = [
        run(["git", *words, *JUDGED], capture_output=True, check=True).stdout
        for words in (("ls-tree", "-r", "HEAD"), ("diff", "HEAD", "--"))
    ]
    return sha256(b"".join(said)).hexdigest()[:12]
