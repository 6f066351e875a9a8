"""Programs in a jail: Python plays FFmpeg, so that it does what FFmpeg is not to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from runner import jail
from runner.ffmpeg import find_ffmpeg

PYTHON = os.path.realpath(sys.executable)


def library(python: str) -> list[Path]:
    """Return what a Python needs beside its program: the modules, and what `ctypes` loads."""
    ask = "import _ctypes, sysconfig; print(sysconfig.get_path('stdlib'), _ctypes.__file__)"
    stdlib, extension = subprocess.run(
        [python, "-I", "-c", ask], capture_output=True, text=True, check=True
    ).stdout.split()
    done = subprocess.run(["ldd", extension], capture_output=True, text=True, check=False)
    return [Path(path) for path in (stdlib, *re.findall(r"=> (/\S+libffi\S+)", done.stdout))]


LIBRARY = library(PYTHON)


@cache
def trouble() -> str:
    """Return why no jail can be made on this machine; empty if it can."""
    try:
        jail.check(find_ffmpeg())
    except jail.JailUnavailable as error:
        return str(error)
    return ""


def needs_a_jail() -> None:
    """Skip, and say why, where no jail can be made; CI is to be a machine that can."""
    if why := trouble():
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail(f"no jail can be made here: {why}")
        pytest.skip(f"no jail can be made here: {why}")


def without_namespaces() -> list[str]:
    """Return what to put before a command so that it cannot make a jail; skip where it could not anyway."""
    needs_a_jail()
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv, to take a right away from a process")
    return ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]


def with_library(command: list[str], library: list[Path]) -> list[str]:
    """Return a confined command that gets a Python's library too, as a program's own: it may be links."""
    at = command.index("--")
    return [*command[:at], *(word for path in library for word in ("--need", str(path))), *command[at:]]


def python_in_jail(
    *arguments: str,
    reads: list[Path] | None = None,
    writes: list[Path] | None = None,
    limits: jail.Limits | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run Python in a jail with its library and what else is given."""
    assert not jail.is_off()  # what is run here is not to be run outside
    command = jail.confined(
        [PYTHON, "-I", "-S", *arguments],
        reads=reads or [],
        writes=writes or [],
        limits=limits or jail.Limits.of_this_machine(wall_s=60),
    )
    return subprocess.run(
        with_library(command, LIBRARY),
        env={"SECRET": "canary"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
