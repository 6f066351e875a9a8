"""One JSON object per line on stderr.

Must never be given a URL, a token or a path of a user's file: the lines leave the machine.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime


def record(event: str, **facts: object) -> None:
    """Write one line. Values that JSON does not know are written as text."""
    line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **facts}
    sys.stderr.write(json.dumps(line, default=str) + "\n")
    sys.stderr.flush()
