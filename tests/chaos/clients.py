"""Clients of a control that is killed again and again. They write down all that it has acknowledged.

Each repeats a call until it is answered, as a careful client does, and then holds control to the answer.
One file, since all of them write down what was acknowledged in one place.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support.quick_machines import content_of
from tests.support.user import LIVE, outputs

OPEN_MAX = 6  # batches under way; machines start only in the longer lives of control
ANSWER_S = 60.0
PAUSE_S = 0.02
PART_BYTES = 16 << 20  # of an upload, by which the long ones have two parts
DONE = frozenset({"completed"})
ENDED_EARLY = frozenset({"completed", "cancelled"})


@dataclass
class Submitted:
    """An acknowledged batch; `ends` are the statuses in which it may end, by what was acknowledged since."""

    key: str
    path: str
    body: dict[str, Any]
    batch_id: str
    outputs: int
    ends: frozenset[str] = DONE
    is_deleted: bool = False
    archive: tuple[str, int] | None = None  # the ETag and the length of the ZIP that was downloaded


@dataclass(frozen=True)
class Uploaded:
    """An acknowledged source, and the answer that made it."""

    content_sha256: str
    parts: list[dict[str, Any]]
    source_id: str


@dataclass
class Acknowledged:
    """All that control has answered, and what it has lost of that. Safe to use from any thread."""

    batches: dict[str, Submitted] = field(default_factory=dict)  # by id
    uploads: dict[str, Uploaded] = field(default_factory=dict)  # by upload id
    aborted: set[str] = field(default_factory=set)  # upload ids
    made: set[str] = field(default_factory=set)  # outputs of accepted last reports
    counts: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    lives: int = 0  # of control, so far
    over: threading.Event = field(default_factory=threading.Event)
    _news: threading.Condition = field(default_factory=threading.Condition)
    _answers: int = 0

    def count(self, kind: str, more: int = 1) -> None:
        with self._news:
            self.counts[kind] += more

    def answered(self) -> None:
        with self._news:
            self._answers += 1
            self._news.notify_all()

    def wait_for(self, answers: int, timeout_s: float) -> None:
        """Return after so many more answers, or after the time-out."""
        with self._news:
            until = self._answers + answers
            self._news.wait_for(lambda: self._answers >= until, timeout_s)

    def lose(self, what: str) -> None:
        with self._news:
            self.lost.append(what)

    def finished(self, output_ids: Sequence[str]) -> None:
        self.made.update(output_ids)
        self.count("output", len(output_ids))

    def source_ids(self) -> list[str]:
        return [upload.source_id for upload in list(self.uploads.values())]

    def under_way(self) -> int:
        return sum(not (batch.archive or batch.is_deleted) for batch in list(self.batches.values()))


class Caller:
    """One client; `run` is for a thread. `step` does something whole, and a fault in it counts as a loss."""

    def __init__(self, url: str, token: str, seed: str, acknowledged: Acknowledged) -> None:
        self.name, self.acknowledged = type(self).__name__, acknowledged
        self.rng = random.Random(f"{seed} {self.name}")
        self.http = httpx.Client(base_url=url, timeout=20, headers={"Authorization": f"Bearer {token}"})
        self.bucket = httpx.Client(timeout=60)

    def run(self) -> None:
        """Take steps until it is over."""
        try:
            while not self.acknowledged.over.is_set():
                self.step()
                time.sleep(self.rng.uniform(0, 2 * PAUSE_S))
        except Exception as error:  # noqa: BLE001 - an unexpected answer is a finding
            self.acknowledged.lose(f"{self.name}: {type(error).__name__}: {error}")
        finally:
            self.close()

    def close(self) -> None:
        self.http.close()
        self.bucket.close()

    def step(self) -> None:
        raise NotImplementedError

    def ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        """Return the first answer. Only a lost connection and a request to come again are no answer."""
        until = time.monotonic() + ANSWER_S
        while time.monotonic() < until:
            try:
                answer = self.http.request(method, path, **content)
            except httpx.TransportError:
                time.sleep(PAUSE_S)
                continue
            if answer.status_code == 503 or "retry-after" in answer.headers:
                time.sleep(5 * PAUSE_S)
                continue
            assert answer.status_code < 500, f"{method} {path}: {answer.status_code} {answer.text}"
            self.acknowledged.answered()
            return answer
        raise AssertionError(f"{method} {path}: no answer within {ANSWER_S} s")

    def asked(self, status: int, method: str, path: str, **content: Any) -> Any:
        """Return the body of the first answer, which must have this status."""
        answer = self.ask(method, path, **content)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None


class Uploader(Caller):
    """Uploads videos in one part or two, goes on with an upload after a kill, or gives it up."""

    def __init__(self, url: str, token: str, seed: str, acknowledged: Acknowledged, clip: bytes) -> None:
        super().__init__(url, token, seed, acknowledged)
        self._clip = clip

    def step(self) -> None:
        content = self._content(is_long=bool(self.acknowledged.uploads) and self.rng.random() < 0.2)
        body = {"name": "ad.mp4", "size_bytes": len(content), "content_type": "video/mp4"}
        upload = self.asked(201, "POST", "/api/uploads", json=body)
        address = f"/api/uploads/{upload['upload_id']}"
        parts = [self._put(part, content) for part in upload["parts"][:1]]
        if len(upload["parts"]) > 1:
            self._until_killed()
            shown = self.asked(200, "GET", address)["parts"]
            if [part["number"] for part in shown if "url" in part] != [2]:
                self.acknowledged.lose(f"{upload['upload_id']}: its first part")
            parts += [self._put(part, content) for part in shown if "url" in part]
            self.acknowledged.count("part", 2)
        if self.acknowledged.uploads and self.rng.random() < 0.15:
            self.asked(204, "DELETE", address)
            self.acknowledged.aborted.add(upload["upload_id"])
            self.acknowledged.count("aborted upload")
            return
        source = self.asked(200, "POST", f"{address}/complete", json={"parts": parts})
        sha256 = hashlib.sha256(content).hexdigest()
        self.acknowledged.uploads[upload["upload_id"]] = Uploaded(sha256, parts, source["source_id"])
        self.acknowledged.count("upload")
        time.sleep(self.rng.uniform(0, 10 * PAUSE_S))

    def _content(self, *, is_long: bool) -> bytes:
        """Return a video that no other upload has: the clip, and after it a box that players skip."""
        filling = self.rng.randbytes(1000) + bytes(PART_BYTES if is_long else 0)
        return self._clip + (len(filling) + 8).to_bytes(4, "big") + b"free" + filling

    def _put(self, part: dict[str, Any], content: bytes) -> dict[str, Any]:
        start = (part["number"] - 1) * PART_BYTES
        answer = self.bucket.put(part["url"], content=content[start : start + PART_BYTES])
        assert answer.status_code == 200, answer.text
        return {"number": part["number"], "etag": answer.headers["etag"]}

    def _until_killed(self) -> None:
        life, until = self.acknowledged.lives, time.monotonic() + 5
        while self.acknowledged.lives == life and time.monotonic() < until:
            if self.acknowledged.over.wait(PAUSE_S):
                return


class Submitter(Caller):
    """Submits batches and jobs, each under a key of its own, and repeats some that were answered."""

    def step(self) -> None:
        sources = self.acknowledged.source_ids()
        if not sources or self.acknowledged.under_way() >= OPEN_MAX:
            time.sleep(PAUSE_S)
            return
        path = self.rng.choice(("/api/batches", "/api/batches", "/api/jobs"))
        chosen = self.rng.sample(sources, min(len(sources), self.rng.choice((1, 1, 2))))
        variations = self.rng.randint(1, 3)
        body = {"sources": [{"source_id": id_} for id_ in chosen], "variations": variations}
        key = f"{self.name} {self.acknowledged.counts['submit']}"
        batch_id = submitted(self, path, body, key)
        if self.rng.random() < 0.2 and submitted(self, path, body, key) != batch_id:
            self.acknowledged.lose(f"{batch_id}: the answer under its key")
        batch = Submitted(key, path, body, batch_id, outputs=len(chosen) * variations)
        self.acknowledged.batches[batch_id] = batch
        self.acknowledged.count("submit")


def submitted(caller: Caller, path: str, body: dict[str, Any], key: str) -> str:
    """Submit, and return the id of the batch."""
    answer = caller.asked(202, "POST", path, json=body, headers={"Idempotency-Key": key})
    return str(answer["batch_id"])


class Keeper(Caller):
    """Cancels, retries, deletes and downloads what was submitted; one action on a batch in each step.

    `share` of `shares` are its own batches, so that no other one changes what it has just seen.
    """

    def __init__(
        self, url: str, token: str, seed: str, acknowledged: Acknowledged, *, share: int, shares: int
    ) -> None:
        super().__init__(url, token, f"{seed} {share}", acknowledged)
        self._share, self._shares = share, shares

    def step(self) -> None:
        mine = list(self.acknowledged.batches.values())[self._share :: self._shares]
        kept = [batch for batch in mine if not batch.is_deleted]
        if not kept:
            return
        new = [batch for batch in kept if not batch.archive]
        batch = self.rng.choice(new if new and self.rng.random() < 0.7 else kept)
        roll = self.rng.random()
        if roll < 0.1:
            self._cancel(batch)
        elif roll < 0.2 and batch.ends == ENDED_EARLY:
            self._retry(batch)
        elif roll < (0.6 if batch.archive else 0.25):
            self._delete(batch)
        else:
            self._download_if_ended(batch)

    def _cancel(self, batch: Submitted) -> None:
        """Cancel it. What has ended before that stays as it is."""
        shown = self.asked(202, "POST", f"/api/batches/{batch.batch_id}/cancel")
        if shown["status"] in LIVE:
            self.acknowledged.lose(f"{batch.batch_id}: {shown['status']} after its cancel")
        batch.ends = ENDED_EARLY
        self.acknowledged.count("cancel")

    def _retry(self, batch: Submitted) -> None:
        """Retry it, unless nothing is missing or an earlier call without an answer did that."""
        answer = self.ask("POST", f"/api/batches/{batch.batch_id}/retry")
        assert answer.status_code in (202, 409), answer.text
        batch.archive = None
        if answer.status_code == 202:
            batch.ends = DONE
            self.acknowledged.count("retry")

    def _delete(self, batch: Submitted) -> None:
        """Delete it. 404 is the answer when an earlier call without an answer has done that."""
        answer = self.ask("DELETE", f"/api/batches/{batch.batch_id}")
        assert answer.status_code in (204, 404), answer.text
        batch.is_deleted = True
        self.acknowledged.count("delete")

    def _download_if_ended(self, batch: Submitted) -> None:
        shown = self.asked(200, "GET", f"/api/batches/{batch.batch_id}")
        if shown["status"] == "completed":
            ready = {each["output_id"] for each in outputs(shown) if each["status"] == "ready"}
            self._download(batch, ready)
        elif shown["status"] == "cancelled":
            batch.archive = batch.archive or ("", 0)  # there is nothing in it

    def _download(self, batch: Submitted, ready: set[str]) -> None:
        """Read the ZIP in three ranges, each repeated until it is whole, and compare all that is in it."""
        path = f"/api/batches/{batch.batch_id}/download"
        head = self.ask("HEAD", path)
        assert head.status_code == 200, head.status_code
        tag, size = head.headers["etag"], int(head.headers["content-length"])
        content = b""
        while len(content) < size:
            span = f"bytes={len(content)}-{min(size, len(content) + size // 3 + 1) - 1}"
            answer = self.ask("GET", path, headers={"Range": span, "If-Range": tag})
            assert answer.status_code == 206, answer.status_code
            content += answer.content
        if wrong := wrong_in(content, ready):
            self.acknowledged.lose(f"{batch.batch_id}: in its ZIP: {wrong}")
        if batch.archive not in (None, ("", 0), (tag, size)):
            self.acknowledged.lose(f"{batch.batch_id}: its ZIP was {batch.archive}, and is {tag}, {size}")
        batch.archive = tag, size
        self.acknowledged.count("download")


def wrong_in(content: bytes, ready: set[str]) -> list[str]:
    """Return the outputs that the ZIP lacks, has too many or has with other bytes."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        named = {each["output_id"]: each for each in json.loads(archive.read("manifest.json"))["outputs"]}
        made = {id_ for id_, each in named.items() if each.get("sha256")}
        other = {id_ for id_ in made if archive.read(named[id_]["file"]) != content_of(id_)}
    return sorted((ready ^ made) | other)
