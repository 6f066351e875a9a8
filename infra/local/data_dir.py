"""A folder that one program owns: its lock, and the secrets that a later start uses again."""

from __future__ import annotations

import fcntl
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def persistent_secret(path: Path, entropy_bytes: int) -> str:
    """Return the secret in the file, which is made on first use; only its owner can read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    if not path.read_text():
        path.write_text(secrets.token_urlsafe(entropy_bytes))
    return path.read_text()


@contextmanager
def locked_dir(folder: Path) -> Iterator[None]:
    """Lock the folder against a second program until this process ends. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(f"{folder} is in use by another refresher: stop it first") from None
        yield
