"""The state of the work: one report per output, seconds per phase. Shared by all threads of the run.

It never goes back: a percentage only rises, and an output that has ended keeps its result.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from runner.contract import (
    NOTES_MAX,
    ExtraFile,
    OutputError,
    OutputFile,
    OutputReport,
    SourceReport,
    Timings,
    Variety,
)

Phase = Literal["fetch_s", "probe_s", "render_s", "upload_s"]


class Progress:
    """The reports of all outputs, and which of them control has not received yet."""

    def __init__(self) -> None:
        self.news = threading.Event()  # set when an output has ended, which is reported at once
        self._lock = threading.Lock()
        self._reports: dict[str, OutputReport] = {}
        self._unheard: set[str] = set()
        self._notes: dict[str, list[str]] = {}  # by source
        self._timings: dict[str, float] = dict.fromkeys(Timings.model_fields, 0.0)

    def running(self, output_id: str, percent: float) -> None:
        """Note how far an output is, 0..100."""
        with self._lock:
            before = self._reports.get(output_id)
            if before is None or (before.status == "running" and percent > before.percent):
                self._note(OutputReport(output_id=output_id, status="running", percent=percent))

    def ready(
        self,
        output_id: str,
        file: OutputFile,
        *,
        playlist: ExtraFile | None = None,
        poster: ExtraFile | None = None,
        variety: Variety | None = None,
        delivery_error: str | None = None,
    ) -> None:
        """Note that an output and the files beside it are in the bucket, and why its PUT to the user's URL
        failed, if it did."""
        report = OutputReport(output_id=output_id, status="ready", percent=100, file=file)
        more = {"playlist": playlist, "poster": poster, "variety": variety, "delivery_error": delivery_error}
        self._end(report.model_copy(update=more))

    def failed(self, output_id: str, error: OutputError) -> None:
        """Note that an output failed for good."""
        self._end(OutputReport(output_id=output_id, status="failed", error=error))

    def noted(self, source_id: str, note: str) -> None:
        """Note a sentence about a source, once."""
        with self._lock:
            notes = self._notes.setdefault(source_id, [])
            if note not in notes and len(notes) < NOTES_MAX:
                notes.append(note)

    def noted_sources(self) -> list[SourceReport]:
        """Return the sources that have notes."""
        with self._lock:
            return [SourceReport(source_id=id_, notes=list(notes)) for id_, notes in self._notes.items()]

    def unheard(self) -> list[OutputReport]:
        """Return the reports that control has not confirmed yet."""
        with self._lock:
            return [self._reports[output_id] for output_id in sorted(self._unheard)]

    def heard(self, reports: list[OutputReport]) -> None:
        """Note that control has received these reports. Those that have changed since are sent again."""
        with self._lock:
            current = {report.output_id for report in reports if self._reports[report.output_id] is report}
            self._unheard -= current

    def ended(self) -> list[OutputReport]:
        """Return the reports of all outputs that are ready or failed."""
        with self._lock:
            return [report for report in self._reports.values() if report.status != "running"]

    def timings(self) -> Timings:
        """Return the seconds spent per phase, summed over parallel workers."""
        with self._lock:
            return Timings(**self._timings)

    @contextmanager
    def timed(self, phase: Phase) -> Iterator[None]:
        """Add the block's duration to the phase, also when it fails."""
        started = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._timings[phase] += time.monotonic() - started

    def _end(self, report: OutputReport) -> None:
        with self._lock:
            self._note(report)
        self.news.set()

    def _note(self, report: OutputReport) -> None:
        self._reports[report.output_id] = report
        self._unheard.add(report.output_id)
