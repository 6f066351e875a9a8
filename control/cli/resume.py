"""Which uploads of this person's were begun and not ended, so that the next try of the same file goes on.

One small JSON file. Losing it costs only the time of sending a file again, so nothing here may fail.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

KEPT_MAX = 100  # the newest


class Unfinished:
    """Upload ids by server and file; a file that was changed counts as another one."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, server: str, file: Path) -> str | None:
        """Return the id of the upload of this file that was begun, if there is one."""
        return self._load().get(_key(server, file))

    def set(self, server: str, file: Path, upload_id: str | None) -> None:
        """Note that an upload was begun, or, with None, that it has ended."""
        known = self._load()
        known.pop(_key(server, file), None)
        if upload_id is not None:
            known[_key(server, file)] = upload_id
        newest = dict(list(known.items())[-KEPT_MAX:])
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(newest))

    def _load(self) -> dict[str, str]:
        try:
            known = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}


def default() -> Unfinished:
    """Return what is kept in the user's cache folder."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Unfinished(Path(cache, "refresher", "uploads.json"))


def _key(server: str, file: Path) -> str:
    facts = file.stat()
    return f"{server} {file.resolve()} {facts.st_size} {facts.st_mtime_ns}"
