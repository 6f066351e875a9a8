"""Fixtures: a store on a real SQLite file, a clock that tests set, and fakes for the ports."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import urllib3
from sqlalchemy import Engine, create_engine

from control.auth.tokens import Signer
from control.cloud_state import TRUSTED_OBSERVATIONS, Cloud
from control.context import AppContext
from control.settings import Settings, load_settings
from control.store import Store, database
from control.store.database import close_database, open_database
from control.views.batches import Views
from infra.local.s3_server import LocalS3
from infra.s3 import TigrisStorage
from tests.support.fakes import Clock, FakeMachines
from tests.support.postgres import Postgres, running_postgres
from tests.support.rows import Rows
from tests.support.settings import SETTINGS

ON_BOTH_DATABASES = ("test_costs", "test_prepared", "test_session", "test_store", "test_texts")

if TYPE_CHECKING:
    from tests.support.maker import Maker


@pytest.fixture(scope="session", autouse=True)
def _cheap_databases() -> Iterator[None]:
    """Let all SQLite engines of this process share their compiled statements, and not wait for the disk.

    Every test has a database of its own, and compiling its statements again would take a third of the time.
    """
    first: list[Engine] = []

    def create(url: str, **options: Any) -> Engine:
        engine = create_engine(url, **options, query_cache_size=2000)
        if engine.dialect.name == "sqlite":
            first.append(engine)
            engine.dialect = engine.pool._dialect = first[0].dialect  # a part of the cache's keys
            engine._compiled_cache = first[0]._compiled_cache
            del first[1:]
        return engine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "create_engine", create)
        patch.setattr(database, "SYNCHRONOUS", "OFF")
        yield


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


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the newest schema: a copy takes a tenth of the time of the migrations."""
    path = tmp_path_factory.mktemp("migrated") / "control.db"
    close_database(open_database(f"sqlite:///{path}"))
    return path


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path, migrated: Path) -> str:
    if request.param == "sqlite":
        copy = shutil.copy(migrated, tmp_path / "control.db")
        return f"sqlite:///{copy}"
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
def context(engine, settings: Settings, clock: Clock, store: Store, machines: FakeMachines):
    signer = Signer(settings.token_secret.get_secret_value())
    with urllib3.PoolManager(retries=False) as http:
        yield AppContext(
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
            cloud=Cloud(
                started_at=clock.monotonic() - 3600, trusted=Counter({"runners": TRUSTED_OBSERVATIONS})
            ),
            bucket_http=http,
            wake=lambda: None,
        )


@pytest.fixture
def rows(engine: Engine, store: Store, clock: Clock) -> Rows:
    return Rows(engine, store, clock)


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
