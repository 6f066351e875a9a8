"""The unfinished uploads of this user. The next upload of the same file resumes.

One small JSON file. If it is lost, a file is only sent again. So no error here may reach the caller.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

KEPT_MAX = 100  # the newest


class Unfinished:
    """Upload ids by server and file. A file that has changed counts as another file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, server: str, file: Path) -> str | None:
        """Return the id of the unfinished upload of this file, if there is one."""
        return self._load().get(_key(server, file))

    def set(self, server: str, file: Path, upload_id: str | None) -> None:
        """Store the id of an upload that has begun; None removes it at the end."""
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
    """Return the file in the cache folder of the user."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Unfinished(Path(cache, "refresher", "uploads.json"))


def _key(server: str, file: Path) -> str:
    facts = file.stat()
    return f"{server} {file.resolve()} {facts.st_size} {facts.st_mtime_ns}"
