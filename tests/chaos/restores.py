"""The restore drill: under load control's host is lost with its disk, and a new one goes on from the copy.

Control is started as its image does it. The bucket and Fly live on.
"""

from __future__ import annotations

import random
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from control.cli.doctor import inside
from control.cli.doctor.findings import Status
from control.settings import load_settings
from infra.local.s3_server import local_s3
from tests.chaos.audit import damage_of
from tests.chaos.kills import env_of
from tests.support.maker import settings_of
from tests.support.processes import until
from tests.support.quick_machines import quick_machines
from tests.support.settings import SETTINGS
from tests.support.stack import Part, Patient, free_port
from tests.support.user import address, outputs, sign_in

SERVE = Path("infra/provision/serve-replicated").resolve()
LOAD_S = (2.0, 6.0)
SUBMITTERS, PAUSE_S = 2, 0.2


@dataclass
class Drill:
    """What one drill lost. `lost_s`: the age of the oldest missing submit when the host was lost."""

    seed: int
    acknowledged: int = 0
    missing: int = 0
    lost_s: float = 0.0
    back_s: float = 0.0  # from the loss to the first answer of the new host that needs its database
    wrong: list[str] = field(default_factory=list)

    @property
    def line(self) -> dict[str, Any]:
        return {**vars(self), "lost_s": round(self.lost_s, 2), "back_s": round(self.back_s, 2)}


def restored(folder: Path, clip: bytes, *, seed: int) -> Drill:
    """Do the drill, wait for all that was kept to end, and return what was found."""
    drill, rng, acknowledged = Drill(seed), random.Random(seed), dict[str, float]()
    port, database = free_port(), folder / "control.db"
    with local_s3(folder / "s3") as s3, quick_machines(folder / "fly", lambda _: None) as fly:
        env = env_of(settings_of(folder, s3), f"http://127.0.0.1:{port}", fly)
        control = _deployed(folder, port, env)
        control.start()
        try:
            with _user(port) as user:
                source_id = user.upload(clip, name="ad.mp4")
                until(lambda: "litestream" in log_of(folder))
                over = threading.Event()
                load = [
                    threading.Thread(target=_submit, args=(port, source_id, acknowledged, over))
                    for _ in range(SUBMITTERS)
                ]
                for each in load:
                    each.start()
                time.sleep(rng.uniform(*LOAD_S))
                lost_at = time.monotonic()
                control.kill_group()
                over.set()
            for each in load:
                each.join()
            for file in [*folder.glob("control.db*"), *folder.glob(".control.db*")]:
                shutil.rmtree(file) if file.is_dir() else file.unlink()
            control.start()
            with _user(port) as user:
                drill.back_s = time.monotonic() - lost_at
                kept = {id_ for id_ in acknowledged if user.asked("GET", address(id_)).status_code == 200}
                ages = [lost_at - at for id_, at in acknowledged.items() if id_ not in kept]
                drill.acknowledged, drill.missing = len(acknowledged), len(ages)
                drill.lost_s = max(ages, default=0.0)
                drill.wrong = _wrong_with(user, kept)
            (finding,) = inside.copy(load_settings(**{name.lower(): text for name, text in env.items()}))
            if finding.status is not Status.OK:
                drill.wrong.append(f"the copy afterwards: {finding}")
        finally:
            if control.runs:
                control.kill_group()
        drill.wrong += damage_of(database)
    return drill


def _deployed(folder: Path, port: int, env: Mapping[str, str]) -> Part:
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    where = ("--host", "127.0.0.1", "--port", port)
    return Part(folder, *where, env={**env, "PATH": path}, program=(str(SERVE),))


class _User(Patient):
    """Signed in at control; `close` it."""

    def close(self) -> None:
        self.http.close()


def _user(port: int) -> closing[_User]:
    http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20)
    sign_in(http, SETTINGS["auth_password"])
    return closing(_User(http))


def _submit(port: int, source_id: str, acknowledged: dict[str, float], over: threading.Event) -> None:
    """Submit again and again, and write down when each was answered."""
    with _user(port) as user, suppress(httpx.TransportError):
        while not over.wait(PAUSE_S):
            batch = user.submit(source_id, variations=1)
            acknowledged[batch["batch_id"]] = time.monotonic()


def _wrong_with(user: Patient, kept: set[str]) -> list[str]:
    """Return the batches that do not end well, and the machines that nobody knows and that still run."""
    found = []
    for id_ in kept:
        end = user.wait(id_)
        if {end["status"], *(output["status"] for output in outputs(end))} != {"completed", "ready"}:
            found.append(f"{id_}: it is {end['status']}")
    until(lambda: not user.machines())
    return found


def log_of(folder: Path) -> str:
    """Return what Litestream and control have said so far."""
    return (folder / f"{SERVE.name}---host.log").read_text()
