"""What rows cost: bytes of the database per output, and what a long history does to control.

`python -m bench.rows [OUTPUTS]` makes a batch of 200 outputs, whose results expire, and one of 10,000, by
control's own code, with the arguments that the runner's own code has for them. It copies the rows of the
expired one under other ids until the database holds OUTPUTS (10,200 if none are named), and times control on
it. No bucket and no Fly take part. One file, since one database is filled and then measured.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from sqlalchemy import Engine
from sqlmodel import col, select

from bench.line import line
from bench.startup import NO_CLOUD, woken
from control.domain.ids import new_id
from control.planning.planner import PlannedSource, plan
from control.settings import Settings, load_settings
from control.store import Store, batches, queue, reports, retention
from control.store.database import close_database, open_database
from control.store.files import StoredFile
from control.store.recipe import recipe_of
from control.store.tables import Attempt, Job, Output, Source
from runner.commands import Lead, Target, decoding_args, drawing_args, first_coding_args, others_coding_args
from runner.contract import Effects, Finish, OutputFile, OutputReport, OutputSpec, Timings, Usage
from runner.graph import Probe
from runner.groups import Group, grouped
from tests.support.maker import add_source
from tests.support.settings import SETTINGS
from tests.support.user import ok, sign_in

VARIATIONS = 100
LARGE, SMALL = 100 * VARIATIONS, 2 * VARIATIONS  # outputs of a batch
TIMES = 7
ROOMY = {**NO_CLOUD, "queue_outputs_max": "20000", "storage_cap_bytes": str(10**15)}
PROBE = Probe(width=1920, height=1080, duration_s=15.0, has_audio=True)
KERNEL = "effects-0123456789ab"
_OF_JOBS = "job_id IN (SELECT id FROM job WHERE batch_id = ?)"
COPIED = {  # each after what it refers to
    "source": "id IN (SELECT source_id FROM output WHERE batch_id = ?)",
    "batch": "id = ?",
    "job": "batch_id = ?",
    "attempt": _OF_JOBS,
    "arguments": _OF_JOBS,
    "output": "batch_id = ?",
    "event": "batch_id = ?",
}
_ID = re.compile(r"\b(src|bat|job|out)_[0-9a-f]{32}")


def run(outputs: int = LARGE + SMALL) -> Iterator[str]:
    """Fill a database with about this many outputs, and time control on it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        path = Path(folder, "control.db")
        batch_id = yield from fill(path, outputs)
        count = f"{outputs} outputs"
        with woken(f"sqlite:///{path}", **ROOMY) as control:
            yield line("exec to the first answer, CPU", control.cpu_s * 1000, "ms", against=count)
            yield line("exec to the first answer", control.wall_s * 1000, "ms", against=count)
            with httpx.Client(base_url=control.url, timeout=120) as http:
                sign_in(http, SETTINGS["auth_password"])
                yield from _asked(http, batch_id, against=count)


def fill(path: Path, outputs: int) -> Generator[str, None, str]:
    """Make a database with about this many outputs, and yield sizes. Return the id of the largest batch."""
    url = f"sqlite:///{path}"
    settings = load_settings(**{**SETTINGS, **ROOMY, "database_url": url})
    engine = open_database(url)
    small_id = _made_batch(_store(engine, settings, days_ago=3), SMALL)
    _expire(_store(engine, settings, days_ago=1))
    before = _used_bytes(path)
    batch_id = _made_batch(_store(engine, settings), LARGE)
    close_database(engine)
    each = (_used_bytes(path) - before) / LARGE
    yield line("rows of an output", each, "bytes", against=f"{LARGE} outputs")
    yield from _tables(path)
    before, copies = _used_bytes(path), (outputs - LARGE) // SMALL - 1
    _copy(path, small_id, copies)
    if copies:
        each = (_used_bytes(path) - before) / copies / SMALL
        yield line("rows of an output that has expired", each, "bytes", against=f"{copies * SMALL} outputs")
    yield line("database", path.stat().st_size / 2**20, "MiB", against=f"{outputs} outputs")
    return batch_id


def _store(engine: Engine, settings: Settings, *, days_ago: int = 0) -> Store:
    return Store(engine, settings, lambda: datetime.now(UTC) - timedelta(days=days_ago))


def _used_bytes(path: Path) -> int:
    """Return the size of the pages that hold something."""
    with closing(sqlite3.connect(path)) as database:
        pages, free, size = (
            database.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
    return int((pages - free) * size)


def _tables(path: Path) -> Iterator[str]:
    """Yield the bytes of each large table and its indexes, if this SQLite can tell."""
    query = """SELECT m.tbl_name, sum(s.pgsize) FROM dbstat s JOIN sqlite_master m ON s.name = m.name
        GROUP BY 1 ORDER BY 2 DESC LIMIT 4"""
    database = sqlite3.connect(path)
    for table, size in database.execute(query).fetchall():
        yield line(f"of it in {table}", size / LARGE, "bytes", against="with its indexes")
    database.close()


# --- the rows ---------------------------------------------------------------------------------------


def _made_batch(store: Store, outputs: int) -> str:
    """Submit a batch, and report each output of it ready, as control and a runner do."""
    sources = [
        PlannedSource(source_id=add_source(store, f"{n}.mp4"), name=f"{n}.mp4", fingerprint=str(n))
        for n in range(outputs // VARIATIONS)
    ]
    batch_id = batches.submit(store, plan(sources, variations=VARIATIONS, seed=1, new_id=_output_id))
    queue.start(store, ["runners"] * outputs)
    with store.transaction() as tx:
        mine = select(Attempt.id).join(Job).where(col(Job.batch_id) == batch_id)
        attempts = tx.session.exec(mine).all()
    for attempt_id in attempts:
        _make(store, attempt_id)
    return batch_id


def _expire(store: Store) -> None:
    """Do what the passes do once the retention of all batches is over; nothing is in a bucket."""
    retention.expire_due(store)
    with store.transaction() as tx:
        jobs = tx.session.exec(select(Job.id)).all()
        sources = tx.session.exec(select(Source.id)).all()
    for job_id in jobs:
        retention.files_gone(store, job_id)
    retention.give_up_sources(store)
    retention.source_gone(store, sources)


def _output_id() -> str:
    return new_id("out")


def _make(store: Store, attempt_id: str) -> None:
    reports.claim(store, attempt_id, attempt_id)
    with store.transaction() as tx:
        attempt = tx.session.get_one(Attempt, attempt_id)
        mine = select(Output).where(col(Output.job_id) == attempt.job_id).order_by(col(Output.position))
        outputs = tx.session.exec(mine).all()
    said = _arguments(outputs)
    verified = {output.id: _seen(store, attempt_id, output.id) for output in outputs}
    ready = [_report(output.id, verified[output.id].file, said[output.id]) for output in outputs]
    usage = Usage(wall_s=100, cpu_s=100, timings=Timings())
    reports.finish(store, attempt_id, Finish(seq=1, outcome="ok", outputs=ready, usage=usage), verified)


def _seen(store: Store, attempt_id: str, output_id: str) -> reports.Seen:
    def file(ending: str) -> StoredFile:
        key = f"{store.owner_id}/outputs/{attempt_id}/{output_id}{ending}"
        digest = hashlib.sha256(key.encode())
        return StoredFile(
            key=key,
            etag=digest.hexdigest()[:32],
            size_bytes=4_812_345,
            sha256=digest.hexdigest(),
            crc32=10**9,
        )

    return reports.Seen(file=file(".mp4"), poster=file(".jpg"))


def _report(output_id: str, file: StoredFile, arguments: list[str]) -> OutputReport:
    made = OutputFile(
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        md5=file.etag,
        crc32=file.crc32,
        duration_s=14.8125,
        ffmpeg_args=arguments,
    )
    return OutputReport(output_id=output_id, status="ready", percent=100, file=made)


def _arguments(outputs: Sequence[Output]) -> Mapping[str, list[str]]:
    """Return the arguments of each output as a runner with the kernel reports them."""
    by_source: dict[str, list[OutputSpec]] = {}
    for output in outputs:
        spec = OutputSpec(
            output_id=output.id,
            source_id=output.source_id,
            label=f"var{output.variation:02}",
            effects=recipe_of(output),
            put_url="",
            put_headers={},
        )
        by_source.setdefault(output.source_id, []).append(spec)
    groups = [group for specs in by_source.values() for group in grouped(specs)]
    return {id_: said for group in groups for id_, said in _of_group(group).items()}


def _of_group(group: Group) -> dict[str, list[str]]:
    stats = f"STATS-{group.first.label}"
    coding = first_coding_args(_target(group.first, group.first), PROBE, source="SOURCE", stats=stats)
    said = {group.first.output_id: _line([group.first], coding)}
    for own in group.others:
        targets = [_target(other, own) for other in group.others]
        coding = others_coding_args(
            targets,
            PROBE,
            first=f"OUTPUT-{group.first.label}",
            stats={each.effects.mirror: stats for each in targets},
            lead=Lead(kbps=2431, is_uneven=False),
        )
        said[own.output_id] = _line(group.others, coding)
    return said


def _target(output: OutputSpec, own: OutputSpec) -> Target:
    end = "" if output is own else f"-{output.label}"
    return Target(
        effects=_effects(output), path=f"OUTPUT{end}", packets=f"PACKETS{end}", poster=f"POSTER{end}"
    )


def _line(outputs: Sequence[OutputSpec], coding: Sequence[str]) -> list[str]:
    each = [_effects(output) for output in outputs]
    decoding = decoding_args(each[0], PROBE, source="SOURCE")
    return [*decoding, "|", KERNEL, *drawing_args(each, PROBE), "|", *coding]


def _effects(output: OutputSpec) -> Effects:
    assert output.effects
    return output.effects


def _copy(path: Path, batch_id: str, times: int) -> None:
    """Copy all rows of the batch this often, each time under other ids."""
    database = sqlite3.connect(path)
    database.executescript("PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF; PRAGMA cache_size = -400000")
    tables = {
        table: database.execute(f"SELECT * FROM {table} WHERE {its_own}", [batch_id]).fetchall()
        for table, its_own in COPIED.items()
    }
    for number in range(times):
        known: dict[str, str] = {}

        def other(found: re.Match[str], known: dict[str, str] = known, number: int = number) -> str:
            old = found[0]
            if old not in known:
                known[old] = f"{found[1]}_{hashlib.md5(f'{number} {old}'.encode()).hexdigest()}"
            return known[old]

        for table, rows in tables.items():
            if not rows:  # arguments of expired outputs
                continue
            places = ",".join("?" * len(rows[0]))
            moved = (
                [_ID.sub(other, each) if isinstance(each, str) else each for each in row] for row in rows
            )
            numbered = ([None, *row[1:]] for row in moved) if table == "event" else moved
            database.executemany(f"INSERT INTO {table} VALUES ({places})", numbered)
        if number % 50 == 0:
            database.commit()
    database.commit()
    database.execute("ANALYZE")
    database.close()


# --- control on them --------------------------------------------------------------------------------


def _asked(http: httpx.Client, batch_id: str, *, against: str) -> Iterator[str]:
    asked: Mapping[str, Callable[[], object]] = {
        "first page of the batches": lambda: ok(http.get("/api/batches?limit=50"), 200),
        "first page of the jobs": lambda: ok(http.get("/api/jobs?limit=50"), 200),
        "a search by name": lambda: ok(http.get("/api/batches?q=nowhere"), 200),
        "a batch of 10,000 outputs": lambda: ok(http.get(f"/api/batches/{batch_id}"), 200),
        "the used storage": lambda: ok(http.get("/api/storage"), 200),
        "the size of a ZIP": lambda: http.head(f"/api/batches/{batch_id}/download").raise_for_status(),
        "metrics": lambda: http.get("/metrics").raise_for_status(),
    }
    for name, call in asked.items():
        yield line(name, statistics.median(_ms(call) for _ in range(TIMES)), "ms", against=against)
    source_id = ok(http.get(f"/api/batches/{batch_id}"), 200)["sources"][0]["source_id"]
    wish = {"sources": [{"source_id": source_id}], "variations": 10}
    took = statistics.median(_ms(lambda: ok(http.post("/api/batches", json=wish), 202)) for _ in range(TIMES))
    yield line("a submit of 10 outputs", took, "ms", against=against)


def _ms(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1000


if __name__ == "__main__":
    for each in run(*map(int, sys.argv[1:2])):
        print(each, flush=True)
