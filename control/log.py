"""One log line per thing that happened: a JSON object on stderr, with the same names as the event rows.

Must never be given a header, a token, a signed URL or a machine's env.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from datetime import UTC, datetime

TRACE_CHARS_MAX = 2000

_logger = logging.getLogger("control")


def record(event: str, **facts: object) -> None:
    """Log `event` with its facts; ids are always batch_id, job_id, attempt_id, machine_id."""
    line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **facts}
    _logger.info(json.dumps(line, default=str, ensure_ascii=False))


def failure(event: str, error: Exception, **facts: object) -> None:
    """Log something that nobody expected, with the end of its trace."""
    trace = "".join(traceback.format_exception(error))
    text = _without_queries(f"{type(error).__name__}: {error}")
    record(event, error=text, trace=_without_queries(trace)[-TRACE_CHARS_MAX:], **facts)


def _without_queries(text: str) -> str:
    """Return the text without URLs that have a query: an exception's words may hold a signed one."""
    return re.sub(r"https?://[^\s'\"]*\?[^\s'\"]*", "URL", text)
