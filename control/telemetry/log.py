"""Writes one log line for each event: a JSON object on stderr, with the same names as the event rows.

Log records of libraries become such lines too. Callers must never pass a header, a token, a signed URL or the
environment of a machine.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from control.telemetry import counters
from runner.contract import without_queries

TRACE_CHARS_MAX = 2000

_logger = logging.getLogger("control")


def log_event(event: str, **facts: object) -> None:
    """Log `event` with its fields and count it. Ids are always batch_id, job_id, attempt_id, machine_id."""
    if _logger.isEnabledFor(logging.INFO):
        _logger.info(_line(event, facts))
    counters.count(event, facts)


def log_failure(event: str, error: Exception, **facts: object) -> None:
    """Log an unexpected error with the end of its trace."""
    trace = "".join(traceback.format_exception(error)) if _logger.isEnabledFor(logging.INFO) else ""
    text = without_queries(f"{type(error).__name__}: {error}")
    log_event(event, error=text, trace=without_queries(trace)[-TRACE_CHARS_MAX:], **facts)


def send_to(path: Path | None) -> None:
    """Send all log lines of this process to a file or to stderr; of libraries only warnings and above."""
    handler = logging.FileHandler(path) if path else logging.StreamHandler()
    handler.setFormatter(_JsonLines())
    logging.getLogger().addHandler(handler)
    _logger.setLevel(logging.INFO)


class _JsonLines(logging.Formatter):
    """Passes our own lines through and turns records of libraries into the same form."""

    def format(self, record: logging.LogRecord) -> str:
        if record.name == _logger.name:
            return record.getMessage()
        facts = {"logger": record.name, "message": without_queries(record.getMessage())}
        if record.exc_info:
            facts["trace"] = without_queries(self.formatException(record.exc_info))[-TRACE_CHARS_MAX:]
        return _line("library_log", facts)


def _line(event: str, facts: Mapping[str, object]) -> str:
    line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **facts}
    return json.dumps(line, default=str, ensure_ascii=False)
