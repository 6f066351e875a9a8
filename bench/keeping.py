"""The cost for control to know the used storage and the unneeded sources, at 100,000 outputs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert
from sqlmodel import Session

from bench.line import line
from control.settings import load_settings
from control.store import Store, retention
from control.store.database import open_database
from control.store.tables import Batch, Job, Output, Source
from control.store.usage import holdings
from tests.support.settings import SETTINGS

BATCHES, SOURCES_EACH, VARIATIONS, JOBS_EACH = 50, 20, 100, 10
OUTPUT_BYTES = 5_000_000
NOW = datetime.now(UTC)
ENDED_AGO = timedelta(minutes=30)  # every source is still considered
TIMES = 5


def run() -> Iterator[str]:
    """Fill a database with ended batches, and run the queries that the passes run every ten seconds."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        url = f"sqlite:///{Path(folder, 'control.db')}"
        engine = open_database(url)
        settings = load_settings(**{**SETTINGS, "database_url": url, "storage_cap_bytes": 10**15})
        store = Store(engine, settings, lambda: NOW)
        with Session(engine) as session, session.begin():
            for number in range(BATCHES):
                _add_batch(session, number)
        count = f"{BATCHES * SOURCES_EACH * VARIATIONS} outputs, every 10 s"
        with Session(engine) as session:
            held = _ms(lambda: holdings(session, settings, NOW))
            yield line("used storage, CPU", held, "ms", against=count)
        given_up = _ms(lambda: retention.give_up_sources(store))
        yield line("unneeded sources, CPU", given_up, "ms", against=count)
        engine.dispose()


def _ms(call: Callable[[], object]) -> float:
    start = time.process_time()
    for _ in range(TIMES):
        call()
    return (time.process_time() - start) / TIMES * 1000


def _add_batch(session: Session, number: int) -> None:
    """Add a batch whose sources are spread over its jobs."""
    batch, made_at, ended_at = f"bat_{number}", NOW - timedelta(hours=3), NOW - ENDED_AGO
    row = {"id": batch, "seed": 1, "variations": VARIATIONS, "status": "completed", "created_at": made_at}
    session.execute(insert(Batch).values(**row, ended_at=ended_at, expires_at=NOW + timedelta(hours=20)))
    jobs = [f"job_{number}_{each}" for each in range(JOBS_EACH)]
    session.execute(insert(Job), [_job(job, batch, place) for place, job in enumerate(jobs)])
    sources = [f"src_{number}_{each}" for each in range(SOURCES_EACH)]
    session.execute(insert(Source), [_source(source, made_at) for source in sources])
    outputs = [(source, variation) for source in sources for variation in range(VARIATIONS)]
    rows = [_output(batch, jobs[place % JOBS_EACH], *each, place=place) for place, each in enumerate(outputs)]
    session.execute(insert(Output), rows)


def _job(job: str, batch: str, place: int) -> dict[str, Any]:
    held = SOURCES_EACH * VARIATIONS // JOBS_EACH * OUTPUT_BYTES
    state = {"status": "completed", "attempts_max": 3, "size": "performance-1x", "stored_bytes": held}
    return {"id": job, "batch_id": batch, "position": place, "not_before": NOW, "created_at": NOW, **state}


def _source(source: str, created_at: datetime) -> dict[str, Any]:
    seen = {"size_bytes": 10**7, "etag": "e", "duration_s": 10, "width": 640, "height": 360}
    return {"id": source, "name": "ad.mp4", "key": f"sources/{source}", "created_at": created_at, **seen}


def _output(batch: str, job: str, source: str, variation: int, *, place: int) -> dict[str, Any]:
    file = {"key": f"outputs/{source}/{variation}", "etag": "e" * 32, "size_bytes": OUTPUT_BYTES}
    return {
        "id": f"out_{source}_{variation}",
        "batch_id": batch,
        "job_id": job,
        "source_id": source,
        "position": place,
        "variation": variation,
        "name": f"{source}/{variation}.mp4",
        "effects": {"zoom": 1.02, "noise": 4.0},
        "state": "ready",
        **file,
    }
