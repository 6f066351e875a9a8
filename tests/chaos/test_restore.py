"""The restore drill: control's machine and volume are lost; a new one continues from Litestream's copy."""

from __future__ import annotations

import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from control.cli.doctor import inside
from control.cli.doctor.findings import Status
from control.settings import load_settings
from tests.support.processes import until
from tests.support.stack import PASSWORD, Part, Stack, assert_idle, signed_in
from tests.support.user import sign_in

SERVE = Path("infra/provision/serve-replicated").resolve()
LOST_S_MAX = 2.0


class Deployed(Stack):
    """The stack with control as its image starts it."""

    def _control(self) -> Part:
        programs = Path(sys.executable).parent
        env = {**self._env(), "PATH": f"{programs}:/usr/bin:/bin"}
        return Part(self.folder, *self._where(), env=env, program=(str(SERVE),))

    def lose_the_volume(self) -> None:
        """Take away control, Litestream and the disk they had, in the middle of their work."""
        self.control.kill_group()
        for file in [*self.folder.glob("control.db*"), *self.folder.glob(".control.db*")]:
            shutil.rmtree(file) if file.is_dir() else file.unlink()


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployed]:
    stack = Deployed(tmp_path)
    try:
        stack.start()
        yield stack
    finally:
        if stack.control.runs:
            stack.control.kill_group()
        stack.end()


def test_a_lost_volume_costs_two_seconds_of_writes_and_every_job_that_was_kept_ends(
    deployed: Deployed, tiny: Path
) -> None:
    acknowledged: dict[str, float] = {}
    with signed_in(deployed) as user:
        source = user.upload(tiny)
        until(lambda: "litestream" in listing(deployed))
        ends_at = time.monotonic() + 4
        while time.monotonic() < ends_at:
            batch = user.submit(source, variations=1)
            acknowledged[batch["batch_id"]] = time.monotonic()
            time.sleep(0.25)
    lost_at = time.monotonic()
    deployed.lose_the_volume()
    deployed.start()

    assert check(deployed.database) == "ok"
    with httpx.Client(base_url=deployed.url, timeout=20) as http:
        sign_in(http, PASSWORD)
        kept = {
            batch_id for batch_id in acknowledged if http.get(f"/api/batches/{batch_id}").status_code == 200
        }
    missing = [lost_at - at for batch_id, at in acknowledged.items() if batch_id not in kept]
    assert max(missing, default=0.0) <= LOST_S_MAX
    assert kept
    with signed_in(deployed) as user:
        for batch_id in kept:
            assert user.wait(batch_id)["status"] == "completed"
        assert_idle(deployed, user)  # the machines of attempts that nobody knows any more are gone too
    (finding,) = inside.copy(load_settings(**{name.lower(): text for name, text in deployed._env().items()}))
    assert finding.status is Status.OK, finding


def check(database: Path) -> str:
    with sqlite3.connect(database) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def listing(stack: Stack) -> str:
    """Return what Litestream has said so far about its copies."""
    return (stack.folder / "serve-replicated---host.log").read_text()
