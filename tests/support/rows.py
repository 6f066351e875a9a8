"""Rows in the shortest way, and what runners report of them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine
from sqlmodel import Session, select

from control.domain.ids import new_id
from control.planning.planner import PlannedSource, plan
from control.store import Store, batches, reports
from control.store.calibration import source_info
from control.store.files import StoredFile
from control.store.tables import Attempt, Batch, Job, Output, Source
from runner.contract import Finish, OutputFile, OutputReport, Timings, Usage
from tests.support.fakes import Clock


@dataclass
class Rows:
    """Makes and reads rows in the shortest way."""

    engine: Engine
    store: Store
    clock: Clock

    def source(self, name: str = "ad.mp4") -> PlannedSource:
        source = Source(
            id=new_id("src"),
            name=name,
            key="key",
            size_bytes=1000,
            etag=f"etag of {name}",
            duration_s=2.0,
            width=320,
            height=180,
            created_at=self.clock(),
        )
        with self.store.transaction() as tx:
            tx.session.add(source)
        return PlannedSource(
            source_id=source.id, name=name, fingerprint=source.etag, source_info=source_info(source)
        )

    def submit(self, *, variations: int = 2, sources: int = 1, key: str | None = None) -> str:
        """Store a batch and return its first job's id."""
        planned = plan(
            [self.source(f"ad{n}.mp4") for n in range(sources)],
            variations=variations,
            seed=7,
            new_id=lambda: new_id("out"),
        )
        batch_id = batches.submit(self.store, planned, key=key)
        jobs = [job for job in self.all(Job) if job.batch_id == batch_id]
        return min(jobs, key=lambda job: job.position).id

    def all(self, table: type) -> list:
        with Session(self.engine) as session:
            return list(session.exec(select(table)).all())

    def job(self, job_id: str) -> Job:
        with Session(self.engine) as session:
            return session.get_one(Job, job_id)

    def batch_of(self, job_id: str) -> Batch:
        with Session(self.engine) as session:
            return session.get_one(Batch, session.get_one(Job, job_id).batch_id)

    def attempt(self, attempt_id: str) -> Attempt:
        with Session(self.engine) as session:
            return session.get_one(Attempt, attempt_id)

    def outputs(self, job_id: str) -> list[Output]:
        own = [output for output in self.all(Output) if output.job_id == job_id]
        return sorted(own, key=lambda output: output.position)


def made(size_bytes: int = 500) -> OutputFile:
    return OutputFile(
        size_bytes=size_bytes, sha256="5" * 64, md5="d" * 32, crc32=7, duration_s=2.0, ffmpeg_args=["-i"]
    )


def seen(*outputs: Output) -> reports.Verified:
    """What control would see in the bucket of outputs made as `made` says."""
    return {
        o.id: reports.Seen(
            file=StoredFile(key=f"key/{o.id}.mp4", etag="d" * 32, size_bytes=500, sha256="5" * 64, crc32=7)
        )
        for o in outputs
    }


def ready(output_id: str) -> OutputReport:
    return OutputReport(output_id=output_id, status="ready", percent=100, file=made())


def finished(*outputs: OutputReport, outcome: str = "ok", reason=None, seq: int = 9) -> Finish:
    usage = Usage(wall_s=1, cpu_s=1, timings=Timings())
    return Finish(seq=seq, outcome=outcome, reason=reason, outputs=list(outputs), usage=usage)
