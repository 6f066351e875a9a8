"""A control that is served with a real bucket, and outputs in it that no machine had to make.

The bytes are made up; all else is as with a runner, over real HTTP: claim, PUTs to the signed URLs, finish.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from sqlmodel import col, select

from control.app import create_app
from control.auth.tokens import Signer
from control.domain.ids import new_id
from control.planning.planner import PlannedSource, plan
from control.settings import load_settings
from control.store import Store, batches, queue, reports
from control.store.database import open_database
from control.store.files import StoredFile
from control.store.tables import Attempt, Job, Source
from infra.local.s3_server import LocalS3
from infra.local.serve import serving
from infra.s3 import TigrisStorage
from runner.contract import (
    Claim,
    ExtraFile,
    Finish,
    JobSpec,
    OutputFile,
    OutputReport,
    OutputSpec,
    Timings,
    Usage,
    Variety,
    attempt_path,
)
from tests.support.settings import SETTINGS
from tests.support.sums import facts
from tests.support.user import ok, sign_in

ALL = 1000  # creates at once: what other tests left in the queue starts too


@dataclass(frozen=True)
class Maker:
    """`http` is a signed-in client; `store` is on control's own database."""

    http: httpx.Client
    store: Store
    signer: Signer

    def source(self, name: str = "ad.mp4") -> str:
        return add_source(self.store, name)

    def submit(self, *names: str, kind: str = "batches", **wish: Any) -> dict[str, Any]:
        """Submit sources of these names; `wish` is `variations` or `preset`."""
        sources = [{"source_id": self.source(name)} for name in names or ("ad.mp4",)]
        return ok(self.http.post(f"/api/{kind}", json={"sources": sources, **wish}), 202)

    def claim(self, job_id: str) -> JobSpec:
        """Start the job's next attempt and claim it."""
        queue.start(self.store, [self.store.settings.runner_apps[0]] * ALL)
        number = len(self.show(job_id)["attempts"])
        answer = self.call(f"{job_id}-{number}", "claim", Claim(machine_id=f"m-{job_id}-{number}"))
        return JobSpec.model_validate(ok(answer, 200))

    def call(self, attempt_id: str, call: Any, message: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.signer.attempt_token(attempt_id)}"}
        body = message.model_dump(mode="json")
        return self.http.post(attempt_path(attempt_id, call), json=body, headers=headers)

    def finish(self, spec: JobSpec, reports: Sequence[OutputReport], **end: Any) -> httpx.Response:
        usage = Usage(wall_s=1, cpu_s=1, timings=Timings())
        message = Finish(**{"seq": 9, "outcome": "ok", "outputs": reports, "usage": usage, **end})
        return self.call(spec.attempt_id, "finish", message)

    def make(self, *contents: bytes, names: Sequence[str] = (), **wish: Any) -> dict[str, Any]:
        """Return a completed batch whose outputs are these bytes, by default as variations of one source."""
        wish = wish or {"variations": len(contents)}
        batch = self.submit(*names, **wish)
        spec = self.claim(batch["jobs"][0]["job_id"])
        reports = [stored(output, content) for output, content in zip(spec.outputs, contents, strict=True)]
        assert self.finish(spec, reports).status_code == 200
        return self.show(batch["batch_id"])

    def show(self, id_: str) -> dict[str, Any]:
        noun = "jobs" if id_.startswith("job_") else "batches"
        return ok(self.http.get(f"/api/{noun}/{id_}"), 200)


def add_source(store: Store, name: str = "ad.mp4") -> str:
    """Write the row of a source that is not in the bucket, and return its id."""
    with store.transaction() as tx:
        source = Source(
            id=new_id("src"),
            name=name,
            key="none",
            size_bytes=1000,
            etag=name,
            duration_s=2.0,
            width=320,
            height=180,
            created_at=tx.now,
        )
        tx.session.add(source)
    return source.id


def stored(output: OutputSpec, content: bytes) -> OutputReport:
    """PUT an output with what belongs to it, and return its report."""
    put(output.put_url, output.put_headers, content)
    playlist = poster = None
    if output.playlist:
        text = f"#EXTM3U\n#EXT-X-BYTERANGE:{len(content)}@0\n{output.media_name}\n".encode()
        put(output.playlist.url, output.playlist.headers, text)
        playlist = ExtraFile(**facts(text))
    if output.poster:
        picture = b"\xff\xd8 " + output.output_id.encode()
        put(output.poster.url, output.poster.headers, picture)
        poster = ExtraFile(**facts(picture))
    file = OutputFile(**facts(content), duration_s=2.0, ffmpeg_args=["-i", "file:SOURCE", "file:OUTPUT"])
    return OutputReport(
        output_id=output.output_id,
        status="ready",
        percent=100,
        file=file,
        playlist=playlist,
        poster=poster,
        variety=Variety(source=0.041, sibling=0.017) if output.effects else None,
    )


def put(url: str, headers: Mapping[str, str], content: bytes) -> None:
    assert bucket().put(url, headers=headers, content=content).status_code == 200


@cache
def bucket() -> httpx.Client:
    """Return a client for signed URLs that knows nothing of us; one, since making one takes 0.1 s."""
    return httpx.Client(timeout=120)


@contextmanager
def making(folder: Path, s3: LocalS3, **settings: Any) -> Iterator[Maker]:
    """Yield a maker on a control that is served until the block ends; its Fly does not answer."""
    loaded = load_settings(**{**settings_of(folder, s3), **settings})
    engine = open_database(loaded.database_url)
    store = Store(engine, loaded, lambda: datetime.now(UTC))
    signer = Signer(loaded.token_secret.get_secret_value())
    with serving(create_app(loaded)) as url, httpx.Client(base_url=url, timeout=30) as http:
        sign_in(http, loaded.auth_password.get_secret_value())
        yield Maker(http, store, signer)
    engine.dispose()


def settings_of(folder: Path, s3: LocalS3) -> dict[str, str]:
    """Return the settings of a control with this bucket, whose Fly does not answer."""
    return {
        **SETTINGS,
        "fly_api_url": "http://127.0.0.1:9",
        "database_url": f"sqlite:///{folder / 'control.db'}",
        "aws_endpoint_url_s3": s3.endpoint,
        "aws_region": s3.region,
        "aws_access_key_id": s3.access_key_id,
        "aws_secret_access_key": s3.secret_access_key,
        "bucket_name": s3.bucket,
        "max_machines": "10000",  # an attempt that no machine was seen of counts for minutes
    }


def manifest_of(members: Mapping[str, bytes]) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(members["manifest.json"])
    return manifest


def code(answer: httpx.Response) -> tuple[int, str]:
    """Return the status and the error code of a refusal."""
    return answer.status_code, answer.json()["error"]["code"]


def lay(storage: TigrisStorage, key: str, content: bytes) -> StoredFile:
    """Put an object into the bucket, and return it as control keeps it."""
    put(*storage.sign_put(key, expires_s=600), content)
    known = facts(content)
    return StoredFile(key=key, etag=known.pop("md5"), **known)


def completed(store: Store, files: Sequence[StoredFile]) -> str:
    """Write the rows of a completed batch whose outputs are these files, and return its id.

    One object may be several outputs: so a ZIP can be larger than what has to be stored for it.
    """
    source_id = add_source(store)
    planned = plan(
        [PlannedSource(source_id=source_id, name="ad.mp4", fingerprint="e")],
        variations=len(files),
        seed=1,
        new_id=lambda: new_id("out"),
    )
    batch_id = batches.submit(store, planned)
    queue.start(store, ["none"] * ALL)
    with store.transaction() as tx:
        attempt = tx.session.exec(select(Attempt).join(Job).where(col(Job.batch_id) == batch_id)).one()
    reports.claim(store, attempt.id, "m1")
    made = dict(zip([output.output_id for output in planned.jobs[0]], files, strict=True))
    usage = Usage(wall_s=1, cpu_s=1, timings=Timings())
    reported = [_report(output_id, file) for output_id, file in made.items()]
    seen = {output_id: reports.Seen(file=file) for output_id, file in made.items()}
    reports.finish(store, attempt.id, Finish(seq=1, outcome="ok", outputs=reported, usage=usage), seen)
    return batch_id


def _report(output_id: str, file: StoredFile) -> OutputReport:
    made = OutputFile(
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        md5=file.etag,
        crc32=file.crc32,
        duration_s=2.0,
        ffmpeg_args=["-i"],
    )
    return OutputReport(output_id=output_id, status="ready", percent=100, file=made)
