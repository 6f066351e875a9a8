"""The folder of sources and outputs during a run: in memory, since the disk of a Fly machine writes 8 MiB/s.

A folder in memory must not outlive the run. If TMPDIR is set, the folder is made there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.log import record
from runner.memory import free_bytes

_SHM = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it


@contextmanager
def workspace(need_bytes: int) -> Iterator[Path]:
    """Yield a private folder in memory with room for `need_bytes`, or on disk if memory cannot be used."""
    folder = Path(tempfile.mkdtemp(prefix="runner-", dir=_SHM if _may_use_shm(need_bytes) else None))
    mounted = folder.parent != _SHM and "TMPDIR" not in os.environ and _mounted(folder)
    record("workspace", in_memory=mounted or folder.parent == _SHM)
    try:
        yield folder
    finally:
        if mounted:
            subprocess.run(["/bin/umount", "-l", folder], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _may_use_shm(need_bytes: int) -> bool:
    if "TMPDIR" in os.environ or not _SHM.is_dir() or not os.access(_SHM, os.W_OK):
        return False
    return shutil.disk_usage(_SHM).free >= need_bytes


def _mounted(folder: Path) -> bool:
    """Mount a tmpfs there, if this process may. Its size is a limit, not a reservation."""
    if os.geteuid() != 0:
        return False
    options = f"size={free_bytes()},mode=0700,nosuid,nodev,noexec"
    command = ["/bin/mount", "-t", "tmpfs", "-o", options, "runner", str(folder)]
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except OSError:
        return False
