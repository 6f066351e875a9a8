"""What long runs have done so far: one line of JSON for each piece, of the code as it was.

A run with a ledger can be stopped at any instant, and goes on where it was.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from subprocess import run
from typing import Any


class Ledger:
    """The lines of one state of the code. Those of others stay in the file, and do not count.

    Without a path it is kept in memory alone.
    """

    def __init__(self, path: Path | None, code: str) -> None:
        self._path, self._code = path, code
        self.lines: list[dict[str, Any]] = []
        for line in path.read_text().splitlines() if path and path.exists() else ():
            try:
                found = json.loads(line)
            except ValueError:  # the run was killed while it wrote this line
                continue
            if found["code"] == code:
                self.lines.append(found)

    @property
    def next_seed(self) -> int:
        """Return the first seed that no line has, nor one before it."""
        return max((line["seed"] for line in self.lines), default=0) + 1

    def add(self, line: dict[str, Any]) -> None:
        """Count a line, and write it down."""
        line = {"code": self._code, **line}
        self.lines.append(line)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:  # a cut line before this one is ended first
                file.write("\n" + json.dumps(line))


def code_of(*judged: str) -> str:
    """Return a digest of the code in these paths of the project, committed or not.

    So a change of anything else, such as a document, does not begin a run anew.
    """
    said = [
        run(["git", *words, *judged], capture_output=True, check=True).stdout
        for words in (("ls-tree", "-r", "HEAD"), ("diff", "HEAD", "--"))
    ]
    return sha256(b"".join(said)).hexdigest()[:12]
