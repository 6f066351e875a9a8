"""Programs of the system that tests call."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest


def need(program: str, *, first: Sequence[Path] = ()) -> str:
    """Return the path of a system program, from the folders `first` or from PATH.

    Without it the test is skipped, or fails when REQUIRE_ALL=1.
    """
    path = shutil.which(program, path=os.pathsep.join([*map(str, first), os.environ.get("PATH", "")]))
    if path:
        return path
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"{program} is not installed, and REQUIRE_ALL=1")
    pytest.skip(f"{program} is not installed")


def unpacker(name: str) -> tuple[str, list[str]]:
    """Return the path of `unzip` or `7z` and its options to test a ZIP; 7-Zip's own name is `7zz`."""
    if name == "unzip":
        return need(name), ["-tqq"]
    return need("7zz" if shutil.which("7zz") else "7z"), ["t", "-bd"]


def unpacks(path: Path, name: str, *more: str) -> None:
    """Assert that an unpacker takes the archive without a word of complaint."""
    program, options = unpacker(name)
    command = [program, *options, path, *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search("warning|error", done.stdout + done.stderr, re.IGNORECASE), done.stdout
