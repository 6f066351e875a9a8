"""One log line per thing that happened: a JSON object on stderr, with the same names as the event rows.

What libraries log becomes such a line too. Must never be given a header, a token, a signed URL or a
machine's env.
"""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from control.telemetry import counters

TRACE_CHARS_MAX = 2000

_logger = logging.getLogger("control")


def log_event(event: str, **facts: object) -> None:
    """Log `event` with its facts, and count it; ids are always batch_id, job_id, attempt_id, machine_id."""
    _logger.info(_line(event, facts))
    counters.count(event, facts)


def log_failure(event: str, error: Exception, **facts: object) -> None:
    """Log something that nobody expected, with the end of its trace."""
    trace = "".join(traceback.format_exception(error))
    text = _without_queries(f"{type(error).__name__}: {error}")
    log_event(event, error=text, trace=_without_queries(trace)[-TRACE_CHARS_MAX:], **facts)


def send_to(path: Path | None) -> None:
    """Send all log lines of this process to a file, or to stderr; of libraries' those from warnings on."""
    handler = logging.FileHandler(path) if path else logging.StreamHandler()
    handler.setFormatter(_JsonLines())
    logging.getLogger().addHandler(handler)
    _logger.setLevel(logging.INFO)


class _JsonLines(logging.Formatter):
    """Leaves our own lines as they are, and makes those of libraries alike."""

    def format(self, record: logging.LogRecord) -> str:
        if record.name == _logger.name:
            return record.getMessage()
        facts = {"logger": record.name, "message": _without_queries(record.getMessage())}
        if record.exc_info:
            facts["trace"] = _without_queries(self.formatException(record.exc_info))[-TRACE_CHARS_MAX:]
        return _line("library_log", facts)


def _line(event: str, facts: Mapping[str, object]) -> str:
    line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **facts}
    return json.dumps(line, default=str, ensure_ascii=False)


def _without_queries(text: str) -> str:
    """Return the text without URLs and paths that have a query: others' words may hold a signed one."""
    return re.sub(r"(https?:/)?/[^\s'\"?]*\?[^\s'\"]*", "URL", text)
