"""The program as a whole: its imports, and that its hard limit needs no working Python."""

from __future__ import annotations

import signal
import subprocess
import sys

HEAVY = {"httpx", "tenacity", "fastapi", "sqlmodel", "boto3", "imageio_ffmpeg", "control"}


def python(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )


def test_starting_loads_nothing_but_pydantic_and_urllib3() -> None:
    done = python("import runner.__main__, sys; print(*{name.partition('.')[0] for name in sys.modules})")
    assert done.returncode == 0
    assert not HEAVY & set(done.stdout.split())
    assert {"pydantic", "urllib3"} <= set(done.stdout.split())


def test_the_hard_limit_holds_while_every_python_thread_hangs() -> None:
    done = python(
        "import ctypes; from runner import deadline; deadline.GRACE_S = 0.3; deadline.end_after(0.2);"
        "ctypes.PyDLL(None).sleep(1000)  # PyDLL keeps the interpreter's lock"
    )
    assert done.returncode == -signal.SIGALRM
