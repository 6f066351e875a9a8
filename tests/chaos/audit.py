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
from tests.support.user import LIVE, ok, outputs

END_S = 120.0
GONE = (404, 410)


class Auditor(Caller):
    """Asks control, which runs on, about everything. What is not as it was acknowledged is lost."""

    def lost(self) -> list[str]:
        """Return all of it, or what was found until an answer that makes no sense."""
        found: list[str] = []
        try:
            found.extend(self._all_lost())
        except AssertionError as answer:
            found.append(str(answer))
        return found

    def _all_lost(self) -> Iterator[str]:
        known = self.acknowledged
        batches = list(known.batches.values())
        expected = [batch for batch in batches if not batch.is_deleted]
        shown = {batch.batch_id: end for batch in expected if (end := self._end_of(batch))}
        yield from self._wrong_in_list({batch.batch_id for batch in expected})
        for batch in batches:
            if batch.is_deleted:
                yield from self._undone(batch)
            elif batch.batch_id in shown:
                yield from self._wrong_with(batch, shown[batch.batch_id])
            else:
                yield f"{batch.batch_id}: it is gone"
        yield from self._lost_sources()
        yield from (f"{id_}: its abort" for id_ in known.aborted if self._ask_upload(id_) not in GONE)
        yield from self._lost_outputs(shown)
        yield from self._still_running()

    def _end_of(self, batch: Submitted) -> dict[str, Any] | None:
        """Return the batch at its end, or live after END_S, or None if control says that it is gone."""
        until = time.monotonic() + END_S
        while True:
            answer = self.ask("GET", f"/api/batches/{batch.batch_id}")
            if answer.status_code in GONE:
                return None
            shown: dict[str, Any] = ok(answer, 200)
            if shown["status"] not in LIVE or time.monotonic() > until:
                return shown
            time.sleep(0.1)

    def _wrong_in_list(self, expected: set[str]) -> Iterator[str]:
        """Yield batches that are not listed, or listed though deleted, or that no submit was answered for."""
        listed, cursor = set(), ""
        while cursor is not None:
            page = self.asked(200, "GET", "/api/batches", params={"limit": 100, "cursor": cursor})
            listed |= {item["batch_id"] for item in page["items"]}
            cursor = page["next_cursor"]
        for id_ in listed ^ expected:
            yield f"{id_}: {'listed' if id_ in listed else 'not listed'}"

    def _undone(self, batch: Submitted) -> Iterator[str]:
        """Yield what shows a deleted batch, or makes it anew."""
        if self.ask("GET", f"/api/batches/{batch.batch_id}").status_code != 404:
            yield f"{batch.batch_id}: its delete"
        again = self.ask("POST", batch.path, json=batch.body, headers={"Idempotency-Key": batch.key})
        if again.status_code not in GONE:
            yield f"{batch.batch_id}: its key, after its delete"

    def _wrong_with(self, batch: Submitted, found: dict[str, Any]) -> Iterator[str]:
        id_ = batch.batch_id
        if found["status"] not in batch.ends:
            yield f"{id_}: it is {found['status']}, not {' or '.join(sorted(batch.ends))}"
        if found["status"] == "completed" and found["partial"] and "cancelled" not in batch.ends:
            yield f"{id_}: some of its outputs"
        if len(outputs(found)) != batch.outputs:
            yield f"{id_}: it has {len(outputs(found))} outputs, not {batch.outputs}"
        if submitted(self, batch.path, batch.body, batch.key) != id_:
            yield f"{id_}: the answer under its key"
        if batch.archive and batch.archive[1]:
            head = self.ask("HEAD", f"/api/batches/{id_}/download")
            now = head.headers.get("etag"), int(head.headers.get("content-length", 0))
            if now != batch.archive:
                yield f"{id_}: its ZIP was {batch.archive}, and is {now}"

    def _lost_sources(self) -> Iterator[str]:
        """Yield sources with other bytes than those that were uploaded, or that a repeat does not answer."""
        for id_, upload in self.acknowledged.uploads.items():
            again = self.ask("POST", f"/api/uploads/{id_}/complete", json={"parts": upload.parts})
            where = self.ask("GET", f"/api/sources/{upload.source_id}").headers.get("location")
            content = self.bucket.get(where).content if where else b""
            is_same = hashlib.sha256(content).hexdigest() == upload.content_sha256
            if again.status_code != 200 or again.json()["source_id"] != upload.source_id or not is_same:
                yield f"{upload.source_id}: the source of an upload"

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

    def _still_running(self) -> Iterator[str]:
        """Yield the machines that do not end."""
        until = time.monotonic() + END_S
        while machines := self.asked(200, "GET", "/api/machines")["items"]:
            if time.monotonic() > until:
                yield from (f"{each['machine_id']}: it still runs" for each in machines)
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
