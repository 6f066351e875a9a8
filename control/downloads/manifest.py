"""The documents in a ZIP that describe its outputs: `manifest.json` and a table for spreadsheets. PURE."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from control.store.files import files_of
from control.store.recipe import variety_of
from control.store.tables import Attempt, Batch, Output
from runner.contract import Effects

_COLUMNS = (
    *(
        "file",
        "status",
        "output_id",
        "source_id",
        "variation",
        "preset",
        "size_bytes",
        "sha256",
        "duration_s",
    ),
    *Effects.model_fields,
    *("variety_source", "variety_sibling"),
    *("image", "attempt_id", "machine_id", "error_code", "error_message"),
)


class Manifest:
    """Takes outputs one by one and keeps their text, not their rows: 10,000 rows would take 100 MB."""

    def __init__(self, attempts: Mapping[str, Attempt]) -> None:
        self._attempts = attempts
        self._entries: list[str] = []
        self._rows = io.StringIO()
        self._table = csv.writer(self._rows, lineterminator="\r\n")  # RFC 4180
        self._table.writerow(_COLUMNS)

    def add(self, output: Output, ffmpeg_args: Sequence[str] | None) -> None:
        """Add an output to both documents."""
        entry = _entry(output, ffmpeg_args, self._attempts.get(output.attempt_id or ""))
        self._entries.append(json.dumps(entry, ensure_ascii=False))
        self._table.writerow(_row(entry))

    def table(self) -> bytes:
        """Return the table as CSV."""
        return self._rows.getvalue().encode()

    def document(self, batch: Batch, sources: Sequence[Mapping[str, Any]]) -> bytes:
        """Return `manifest.json`."""
        head = {
            "batch_id": batch.id,
            "name": batch.name,
            "seed": batch.seed,
            "variations": batch.variations,
            "preset": batch.preset,
            "without": batch.without,
            "strength": batch.strength,
            "quality": batch.quality,
            "frame_rate": batch.frame_rate,
            "name_template": batch.name_template,
            # of the newest attempt; each output names its own
            "image": list(self._attempts.values())[-1].image,
            "created_at": _rfc3339(batch.created_at),
            "sources": sources,
        }
        opened = json.dumps(head, ensure_ascii=False).removesuffix("}")
        return (opened + ', "outputs": [\n' + ",\n".join(self._entries) + "\n]}\n").encode()


def _entry(output: Output, ffmpeg_args: Sequence[str] | None, attempt: Attempt | None) -> dict[str, Any]:
    error = {"code": output.error_code, "message": output.error_message} if output.error_code else None
    variety = variety_of(output)
    return {
        "file": output.name,
        "output_id": output.id,
        "source_id": output.source_id,
        "variation": output.variation,
        "preset": output.preset,
        "status": output.state,
        "size_bytes": output.size_bytes,
        "sha256": output.sha256,
        "duration_s": output.duration_s,
        "effects": output.effects,
        "variety": variety.model_dump() if variety else None,
        "files": _files(output) if output.playlist else None,
        "ffmpeg_args": ffmpeg_args,
        "image": attempt.image if attempt else None,
        "attempt_id": attempt.id if attempt else None,
        "machine_id": attempt.claimed_by if attempt else None,
        "error": error,
    }


def _row(entry: Mapping[str, Any]) -> list[object]:
    """Return an output's row of the table. A text that a spreadsheet would run as a formula is escaped."""
    error, variety = entry["error"] or {}, entry["variety"] or {}
    flat = {
        **entry,
        **entry["effects"],
        "variety_source": variety.get("source"),
        "variety_sibling": variety.get("sibling"),
        "error_code": error.get("code"),
        "error_message": error.get("message"),
    }
    values = [flat.get(column) for column in _COLUMNS]
    return [
        f"'{v}" if isinstance(v, str) and v.startswith(("=", "+", "-", "@", "\t", "\r")) else v
        for v in values
    ]


def _files(output: Output) -> list[dict[str, Any]]:
    return [
        {"file": name, "size_bytes": file.size_bytes, "sha256": file.sha256}
        for name, file in files_of(output).items()
    ]


def _rfc3339(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")
