"""One log line per thing that happened: a JSON object on stderr, with the same names as the event rows.

Must never be given a header, a token, a signed URL or a machine's env.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

_logger = logging.getLogger("control")


def record(event: str, **facts: object) -> None:
    """Log `event` with its facts; ids are always batch_id, job_id, attempt_id, machine_id."""
    line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **facts}
    _logger.info(json.dumps(line, default=str, ensure_ascii=False))


def failure(event: str, error: Exception, **facts: object) -> None:
    """Log something that nobody expected, with its trace."""
    record(event, error=f"{type(error).__name__}: {error}", **facts)
    _logger.debug(event, exc_info=error)
