"""Control is killed again and again under submits, uploads, downloads, cancels, retries and deletes.

A piece is some kills of the control of one new database, whose bucket and Fly live on, and then an audit of
all that was acknowledged. Its seed decides when control dies and what the clients do; the threads of the
clients and the processes run as the machine lets them, so a seed does not repeat a piece exactly.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from infra.local.fly_server import LocalFlyHandle
from infra.local.s3_server import local_s3
from tests.chaos.audit import Auditor, damage_of, faults_in
from tests.chaos.clients import Acknowledged, Keeper, Submitter, Uploader
from tests.support.forked_control import ForkedControl
from tests.support.maker import settings_of
from tests.support.processes import until
from tests.support.quick_machines import quick_machines
from tests.support.settings import SETTINGS
from tests.support.stack import free_port
from tests.support.user import sign_in

STARTING, BUSY = (
    0.1,
    0.8,
)  # of lives: that end during the start, and within a few answers; the others are long
START_S, LONG_S = 0.3, (1.5, 3.5)  # in a long one machines start: control looks twice at the cloud before
PORTS = 20_000, 22_000  # other stacks take none of these while control is away
KINDS = {"upload", "submit", "output", "cancel", "delete"}  # of each, something is acknowledged in a piece
ANSWERS_MAX, AFTER_S, ANSWERS_S = 10, 0.03, 20.0


@dataclass(frozen=True)
class Piece:
    """What a piece acknowledged and lost; `cpu_s` is that of control alone."""

    seed: int
    kills: int
    acknowledged: dict[str, int]
    lost: list[str]
    faults: list[str]  # errors in the log that control did not expect
    cpu_s: float
    wall_s: float

    @property
    def line(self) -> dict[str, Any]:
        return {**vars(self), "cpu_s": round(self.cpu_s, 1), "wall_s": round(self.wall_s, 1)}


def killed(folder: Path, clip: bytes, *, seed: int, kills: int) -> Piece:
    """Kill control so often, and return what the audit after it found."""
    known, began = Acknowledged(), time.monotonic()
    with local_s3(folder / "s3") as s3, quick_machines(folder / "fly", known.finished) as fly:
        port, database = free_port(*PORTS), folder / "control.db"
        url = f"http://127.0.0.1:{port}"
        env = env_of(settings_of(folder, s3), url, fly)
        control = ForkedControl(folder, port, env)
        try:
            control.start()
            control.ready()
            with httpx.Client(base_url=url, timeout=20) as http:
                sign_in(http, SETTINGS["auth_password"])
                token = http.headers["Authorization"].removeprefix("Bearer ")
            clients = [
                Uploader(url, token, f"{seed}", known, clip),
                Submitter(url, token, f"{seed}", known),
                *(Keeper(url, token, f"{seed}", known, share=share, shares=2) for share in range(2)),
            ]
            threads = [threading.Thread(target=client.run, daemon=True) for client in clients]
            for thread in threads:
                thread.start()
            rng = random.Random(seed)
            for _ in range(kills):
                _live(control, known, rng)
                control.kill()
                known.lives += 1
                control.start()
            control.ready()
            until(lambda: known.lost or known.counts.keys() >= KINDS)
            known.over.set()
            for thread in threads:
                thread.join()
            auditor = Auditor(url, token, f"{seed}", known)
            lost = [*known.lost, *auditor.lost()]
            auditor.close()
        finally:
            known.over.set()
            control.kill()
    return Piece(
        seed=seed,
        kills=kills,
        acknowledged=dict(known.counts),
        lost=[*lost, *damage_of(database)],
        faults=faults_in(control.log),
        cpu_s=control.cpu_s,
        wall_s=time.monotonic() - began,
    )


def env_of(settings: Mapping[str, str], url: str, fly: LocalFlyHandle) -> dict[str, str]:
    """Return the environment of a control at `url` whose machines are quick ones."""
    more = {
        "public_url": url,
        "fly_api_url": fly.url,
        "fly_api_token": fly.token,
        "runner_apps": fly.app,
        "heartbeat_s": "1",
        "lease_s": "15",
    }
    return {name.upper(): value for name, value in {**settings, **more}.items()}


def _live(control: ForkedControl, known: Acknowledged, rng: random.Random) -> None:
    """Return when this life of control is to end."""
    kind = rng.random()
    if kind < STARTING:
        time.sleep(rng.uniform(0, START_S))
        return
    control.ready()
    if kind < BUSY:
        known.wait_for(rng.randint(1, ANSWERS_MAX), ANSWERS_S)
        time.sleep(rng.uniform(0, AFTER_S))
    else:
        time.sleep(rng.uniform(*LONG_S))
