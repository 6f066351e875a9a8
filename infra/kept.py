"""Secrets that a restart on the same folder finds again."""

from __future__ import annotations

import secrets
from pathlib import Path


def kept_secret(path: Path, entropy_bytes: int) -> str:
    """Return the secret in the file, made up on first use; only its owner can read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    if not path.read_text():
        path.write_text(secrets.token_urlsafe(entropy_bytes))
    return path.read_text()
