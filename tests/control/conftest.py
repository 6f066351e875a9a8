"""A store on a real SQLite file, a clock that tests move, and fakes at the ports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import urllib3
from sqlalchemy import Engine
from sqlmodel import Session, select

from control.auth.tokens import Signer
from control.cloud_state import TRUSTED_OBSERVATIONS, Cloud
from control.context import Parts
from control.domain.ids import new_id
from control.planning.planner import PlannedSource, plan
from control.settings import Settings, load_settings
from control.store import Store, batches, reports
from control.store.calibration import footage
from control.store.database import open_database
from control.store.files import StoredFile
from control.store.tables import Attempt, Batch, Job, Output, Source
from control.views.batches import Views
from infra.local.s3_server import LocalS3
from infra.ports import Machine, MachineSpec, OutsideError, Unanswered
from infra.s3 import TigrisStorage
from runner.contract import Finish, OutputFile, OutputReport, Timings, Usage
from tests.support.postgres import Postgres, running_postgres

ON_BOTH_DATABASES = ("test_store",)

if TYPE_CHECKING:
    from tests.support.maker import Maker

SETTINGS = {
    "auth_password": "a password long enough",
    "token_secret": "secret for tests",
    "public_url": "http://control.test",
    "aws_endpoint_url_s3": "http://127.0.0.1:1",
    "aws_access_key_id": "key",
    "aws_secret_access_key": "secret",
    "bucket_name": "bucket",
    "fly_api_token": "token",
    "runner_apps": "runners",
    "runner_image": "registry.test/runner@sha256:0",
}


@dataclass
class Clock:
    """The time as control sees it; tests move it."""

    now: datetime = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    passed_s: float = 1000.0

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.passed_s

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.passed_s += seconds
        self.jump(seconds)

    def jump(self, seconds: float) -> None:
        """Set the wall clock."""
        self.now += timedelta(seconds=seconds)


@dataclass
class FakeMachines:
    """A cloud that does as it is told: `answers` are raised by the next creates, in order."""

    clock: Clock
    answers: list[OutsideError | None] = field(default_factory=list)
    machines: dict[str, Machine] = field(default_factory=dict)
    specs: list[MachineSpec] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    destroyed: list[str] = field(default_factory=list)
    stuck: set[str] = field(default_factory=set)  # ids whose destroy is not answered
    is_away: OutsideError | None = None
    lists: int = 0

    def room(self, app: str) -> int:
        return 3

    def create(self, spec: MachineSpec) -> Machine:
        self.specs.append(spec)
        if answer := (self.answers.pop(0) if self.answers else None):
            raise answer
        if spec.name not in self.machines:
            self.machines[spec.name] = Machine(
                app=spec.app,
                id=f"m{len(self.machines) + 1}",
                name=spec.name,
                state="started",
                region="iad",
                created_at=self.clock(),
                started_at=self.clock(),
                metadata=spec.metadata,
            )
        return self.machines[spec.name]

    def list(self, app: str, metadata: dict[str, str]) -> list[Machine]:
        self.lists += 1
        if self.is_away:
            raise self.is_away
        return [m for m in self.machines.values() if m.app == app and metadata.items() <= m.metadata.items()]

    def get(self, app: str, machine_id: str) -> Machine | None:
        return next((m for m in self.machines.values() if m.id == machine_id), None)

    def stop(self, app: str, machine_id: str, *, timeout_s: float) -> None:
        self.stopped.append(machine_id)

    def destroy(self, app: str, machine_id: str) -> None:
        if machine_id in self.stuck:
            raise Unanswered("host does not answer")
        self.destroyed.append(machine_id)

    def change(self, name: str, **facts: object) -> None:
        self.machines[name] = replace(self.machines[name], **facts)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what the store does against both databases, and all else against SQLite alone."""
    if "database_url" in metafunc.fixturenames:
        on_both = metafunc.module.__name__.rpartition(".")[2] in ON_BOTH_DATABASES
        metafunc.parametrize(
            "database_url", ["sqlite", "postgresql"] if on_both else ["sqlite"], indirect=True
        )


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'control.db'}"
    return request.getfixturevalue("postgres").database()


@pytest.fixture
def settings(database_url: str) -> Settings:
    return load_settings(**SETTINGS, database_url=database_url)


@pytest.fixture
def engine(settings: Settings):
    engine = open_database(settings.database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine, settings: Settings, clock: Clock) -> Store:
    return Store(engine, settings, clock, monotonic=clock.monotonic)


@pytest.fixture
def machines(clock: Clock) -> FakeMachines:
    return FakeMachines(clock)


@pytest.fixture
def parts(engine, settings: Settings, clock: Clock, store: Store, machines: FakeMachines):
    signer = Signer(settings.token_secret.get_secret_value())
    with urllib3.PoolManager(retries=False) as http:
        yield Parts(
            settings=settings,
            clock=clock,
            store=store,
            views=Views(engine, signer, clock),
            signer=signer,
            storage=TigrisStorage(
                endpoint=settings.aws_endpoint_url_s3,
                region="auto",
                access_key_id="key",
                secret_access_key="secret",
                bucket="bucket",
            ),
            machines=machines,
            cloud=Cloud(started_at=clock.monotonic() - 3600, trusted=TRUSTED_OBSERVATIONS),
            bucket_http=http,
            wake=lambda: None,
        )


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
        return PlannedSource(source_id=source.id, name=name, fingerprint=source.etag, footage=footage(source))

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


@pytest.fixture
def rows(engine: Engine, store: Store, clock: Clock) -> Rows:
    return Rows(engine, store, clock)


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


@pytest.fixture(scope="session")
def maker(tmp_path_factory: pytest.TempPathFactory, s3: LocalS3) -> Iterator[Maker]:
    """One served control for all tests that only need outputs to be there."""
    from tests.support.maker import making

    with making(tmp_path_factory.mktemp("maker"), s3) as running:
        yield running


@pytest.fixture
def stranger(maker: Maker) -> Iterator[httpx.Client]:
    """Someone who is not signed in."""
    with httpx.Client(base_url=maker.http.base_url) as http:
        yield http
