"""The `refresher` command, run as a script runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

REFRESHER = str(Path(sys.executable).parent / "refresher")


class Cli:
    """Runs `refresher` against a stack, and nothing else of this environment."""

    def __init__(self, folder: Path, **env: str) -> None:
        self._folder = folder
        self._env = {"PATH": os.environ["PATH"], "COLUMNS": "200", "TMPDIR": str(folder), **env}

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [REFRESHER, *map(str, arguments)]
        done = subprocess.run(command, cwd=self._folder, env=self._env, capture_output=True, text=True)
        assert "Traceback" not in done.stderr
        return done

    def json(self, *arguments: object) -> Any:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
