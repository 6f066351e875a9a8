"""A private PostgreSQL of the tests, on a socket of its own. The server refuses to run as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from tests.support.programs import need

FAST = "-c fsync=off -c full_page_writes=off -c listen_addresses="  # nothing is to outlive the tests


class Postgres:
    """A running server; `database` makes an empty database."""

    def __init__(self, folder: Path, run: Sequence[str], programs: Path) -> None:
        self._folder, self._run, self._programs = folder, run, programs
        self._count = 0

    def database(self) -> str:
        """Return the URL of a new database."""
        self._count += 1
        name = f"test{self._count}"
        self.command("createdb", "-h", self._folder, "-U", "postgres", name)
        return f"postgresql+psycopg://postgres@/{name}?host={quote(str(self._folder), safe='')}"

    def command(self, program: str, *arguments: object) -> None:
        """Run one of PostgreSQL's own programs."""
        subprocess.run(
            [*self._run, str(self._programs / program), *map(str, arguments)],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
        )


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Yield a running server, of which nothing is left at the end."""
    newest_first = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    programs = Path(need("initdb", first=newest_first)).parent
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    run: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        run = [need("setpriv"), "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    server = Postgres(folder, run, programs)
    data = folder / "data"
    try:
        server.command("initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8")
        log = folder / "log"
        server.command("pg_ctl", "start", "-w", "-D", data, "-l", log, "-o", f"{FAST} -k {folder}")
        yield server
        server.command("pg_ctl", "stop", "-m", "immediate", "-D", data)
    finally:
        shutil.rmtree(folder)
