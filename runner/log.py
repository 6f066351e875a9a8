"""One JSON object per line on stderr. The last lines are kept, for the report of an attempt that failed.

Must never be given a URL, a token or a path of a user's file: the lines leave the machine. What `hide` names
is replaced all the same.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import deque
from datetime import UTC, datetime

LINES_KEPT = 100

_lines: deque[str] = deque(maxlen=LINES_KEPT)
_hidden: list[str] = []
_writing = threading.Lock()


def hide(secret: str) -> None:
    """Write `***` in place of the secret, from now on."""
    _hidden.append(secret)


def record(event: str, **facts: object) -> None:
    """Write one line. Values that JSON does not know are written as text."""
    line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **facts}
    text = json.dumps(line, default=str)
    for secret in _hidden:
        text = text.replace(secret, "***")
    with _writing:
        _lines.append(text)
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def tail() -> str:
    """Return the last lines that were written."""
    with _writing:
        return "\n".join(_lines)
