"""Compares all that control has acknowledged with what it says afterwards, and with its database."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.chaos.clients import Caller, Submitted, submitted
from tests.support.quick_machines import content_of
from tests.support.user import LIVE, outputs

END_S = 120.0
GONE = (404, 410)


class Auditor(Caller):
    """Asks control, which runs on, about everything. What is not as it was acknowledged is lost."""

    def lost(self) -> list[str]:
        known = self.acknowledged
        batches = list(known.batches.values())
        shown = {batch.batch_id: self._end_of(batch) for batch in batches if not batch.is_deleted}
        found = [
            *self._wrong_in_list(shown.keys()),
            *(f"{id_}: {why}" for batch in batches for id_, why in self._wrong_with(batch, shown)),
            *(f"{id_}: the source of an upload" for id_ in self._lost_sources()),
            *(f"{id_}: its abort" for id_ in known.aborted if self._ask_upload(id_) not in GONE),
            *self._lost_outputs(shown),
        ]
        self._until_idle(found)
        return found

    def _end_of(self, batch: Submitted) -> dict[str, Any]:
        """Return the batch at its end, or live after END_S."""
        until = time.monotonic() + END_S
        while True:
            shown: dict[str, Any] = self.asked(200, "GET", f"/api/batches/{batch.batch_id}")
            if shown["status"] not in LIVE or time.monotonic() > until:
                return shown
            time.sleep(0.1)

    def _wrong_in_list(self, expected: Any) -> Iterator[str]:
        """Yield batches that are not listed, or listed though deleted, or that no submit was answered for."""
        listed, cursor = set(), ""
        while cursor is not None:
            page = self.asked(200, "GET", "/api/batches", params={"limit": 100, "cursor": cursor})
            listed |= {item["batch_id"] for item in page["items"]}
            cursor = page["next_cursor"]
        for id_ in listed ^ set(expected):
            yield f"{id_}: {'listed' if id_ in listed else 'not listed'}"

    def _wrong_with(self, batch: Submitted, shown: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str]]:
        path, id_ = f"/api/batches/{batch.batch_id}", batch.batch_id
        headers = {"Idempotency-Key": batch.key}
        if batch.is_deleted:
            if self.ask("GET", path).status_code != 404:
                yield id_, "its delete"
            if self.ask("POST", batch.path, json=batch.body, headers=headers).status_code not in GONE:
                yield id_, "its key, after its delete"
            return
        found = shown[id_]
        if found["status"] not in batch.ends:
            yield id_, f"it is {found['status']}, not {' or '.join(sorted(batch.ends))}"
        if found["status"] == "completed" and found["partial"] and "cancelled" not in batch.ends:
            yield id_, "some of its outputs"
        if len(outputs(found)) != batch.outputs:
            yield id_, f"it has {len(outputs(found))} outputs, not {batch.outputs}"
        if submitted(self, batch.path, batch.body, batch.key) != id_:
            yield id_, "the answer under its key"
        if batch.archive and batch.archive[1]:
            head = self.ask("HEAD", f"{path}/download")
            now = head.headers.get("etag"), int(head.headers.get("content-length", 0))
            if now != batch.archive:
                yield id_, f"its ZIP was {batch.archive}, and is {now}"

    def _lost_sources(self) -> Iterator[str]:
        """Yield sources whose bytes are not those that were uploaded, or that a repeat does not answer."""
        for id_, upload in self.acknowledged.uploads.items():
            again = self.ask("POST", f"/api/uploads/{id_}/complete", json={"parts": upload.parts})
            where = self.ask("GET", f"/api/sources/{upload.source_id}").headers.get("location")
            content = self.bucket.get(where).content if where else b""
            is_same = hashlib.sha256(content).hexdigest() == upload.content_sha256
            if again.status_code != 200 or again.json()["source_id"] != upload.source_id or not is_same:
                yield upload.source_id

    def _ask_upload(self, upload_id: str) -> int:
        return self.ask("GET", f"/api/uploads/{upload_id}").status_code

    def _lost_outputs(self, shown: dict[str, dict[str, Any]]) -> Iterator[str]:
        """Yield outputs whose last report was accepted, and that are not ready or have other bytes."""
        for found in shown.values():
            kept = "cancelled" not in self.acknowledged.batches[found["batch_id"]].ends
            for output in outputs(found):
                id_ = output["output_id"]
                if output["status"] == "ready":
                    where = self.ask("GET", f"/api/outputs/{id_}").headers.get("location")
                    if not where or self.bucket.get(where).content != content_of(id_):
                        yield f"{id_}: its file"
                elif id_ in self.acknowledged.made and kept:
                    yield f"{id_}: it is {output['status']} though its machine's last report was accepted"

    def _until_idle(self, found: list[str]) -> None:
        until = time.monotonic() + END_S
        while machines := self.asked(200, "GET", "/api/machines")["items"]:
            if time.monotonic() > until:
                found += [f"{each['machine_id']}: it still runs" for each in machines]
                return
            time.sleep(0.2)


def damage_of(database: Path) -> list[str]:
    """Return what SQLite finds wrong in the database of a control that was killed."""
    with sqlite3.connect(database) as connection:
        found = connection.execute("PRAGMA integrity_check").fetchall()
        strangers = connection.execute("PRAGMA foreign_key_check").fetchall()
    connection.close()
    return [str(row) for row in (*found, *strangers) if row != ("ok",)]


def faults_in(log: Path) -> list[str]:
    """Return the lines of control's log that tell of an error which it did not expect."""
    return [line for line in log.read_text().splitlines() if '"trace"' in line or "Traceback" in line]
