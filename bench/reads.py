"""CPU of a read of a pass: prepared and as plain rows, against built each time and as objects of the ORM."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from sqlalchemy import Engine, Executable, bindparam
from sqlmodel import Session, col, select

from bench.line import line
from control.store.database import close_database, open_database
from control.store.prepared import Moment, Prepared
from control.store.tables import Machine

APP, MACHINES, TIMES = "runners", 3, 2000


@Prepared
def _alive(_: Moment) -> Executable:
    return select(Machine).where(col(Machine.app) == bindparam("app"), col(Machine.gone_at).is_(None))


def run() -> Iterator[str]:
    """Read the machines that are alive, both ways."""
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as folder:
        engine = open_database(f"sqlite:///{folder}/control.db")
        with Session(engine) as session, session.begin():
            session.add_all(
                Machine(app=APP, id=f"m{n}", name=f"n{n}", region="iad", state="started", created_at=now)
                for n in range(MACHINES)
            )
        prepared, built = _cpu_us(lambda: _rows(engine, now)), _cpu_us(lambda: _objects(engine))
        close_database(engine)
    yield line(
        "a read of a pass, prepared",
        prepared,
        "microseconds of CPU",
        against=f"built and as objects: {built:.0f}, {built / prepared:.1f}x",
    )


def _rows(engine: Engine, now: datetime) -> object:
    with engine.connect() as connection:
        return _alive.rows(connection, now, app=APP)


def _objects(engine: Engine) -> object:
    with Session(engine) as session:
        return session.exec(
            select(Machine).where(col(Machine.app) == APP, col(Machine.gone_at).is_(None))
        ).all()


def _cpu_us(read: Callable[[], object]) -> float:
    read()
    start = time.thread_time()
    for _ in range(TIMES):
        read()
    return (time.thread_time() - start) / TIMES * 1e6


if __name__ == "__main__":
    print(*run(), sep="\n")
