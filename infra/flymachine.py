"""One machine of the model of Fly: its state, its events, and what each request or fact does to it.

Pure as `flyworld`, which holds the machines and finds the one that a request means. What must happen
outside is queued as effects. Must never check who asks or whether the machine exists.
Source of the moves: https://fly.io/docs/machines/machine-states/ (2026-08).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from signal import SIGKILL
from typing import Any

from infra.flyshapes import (
    KILL_TIMEOUT_S_MAX,
    SIGNALS,
    SIGNALS_OF_STOP,
    FlyError,
    duration,
    image_ref,
    json_object,
    memory_mb_of,
    rfc3339,
    signum,
)

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
RUNNING = frozenset({"starting", "started", "stopping"})  # states with a process
RESTARTS_MAX = 10  # Fly's default for `on-failure`; here `always` is bounded by it as well


@dataclass(frozen=True, kw_only=True)
class StartProcess:
    """Start the machine's process, then tell `started`, and `exited` when it ends."""

    machine_id: str
    argv: tuple[str, ...]  # empty: the image's own command
    env: Mapping[str, str]  # the whole environment


@dataclass(frozen=True, kw_only=True)
class SendSignal:
    """Send a signal to the machine's process at `at`, if it has not ended by then."""

    machine_id: str
    signum: int
    at: datetime


@dataclass(frozen=True, kw_only=True)
class RemoveMachine:
    """The machine is destroyed: drop whatever was kept for it."""

    machine_id: str


Effect = StartProcess | SendSignal | RemoveMachine


@dataclass(kw_only=True)
class Machine:
    """A machine whose `config` was checked. `effects` is the world's queue."""

    app: str
    id: str
    name: str
    region: str
    config: dict[str, Any]
    created_at: datetime
    effects: list[Effect]
    updated_at: datetime = field(init=False)
    state: str = field(init=False)
    stop_requested: bool = False
    restarts: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)  # newest first

    def __post_init__(self) -> None:
        self.instance_id = self._ulid("instance")
        self._move("created", "launch", source="user", now=self.created_at)

    # --- what is shown ----------------------------------------------------------------------------

    @property
    def private_ip(self) -> str:
        """The address on the private network; nothing listens there."""
        return f"fdaa:0:1:a7b:{self.id[0:4]}:{self.id[4:8]}:{self.id[8:12]}:2"

    def env(self) -> dict[str, str]:
        """Return all variables of the process.

        https://fly.io/docs/machines/runtime-environment/ (2026-08).
        """
        own = {
            "FLY_APP_NAME": self.app,
            "FLY_MACHINE_ID": self.id,
            "FLY_ALLOC_ID": self.id,
            "FLY_MACHINE_VERSION": self.instance_id,
            "FLY_REGION": self.region,
            "FLY_IMAGE_REF": self.config["image"],
            "FLY_PRIVATE_IP": self.private_ip,
            "FLY_VM_MEMORY_MB": str(memory_mb_of(self.config)),
        }
        return {"PATH": PATH, "HOME": "/root", **self.config.get("env", {}), **own}

    def shown(self) -> dict[str, Any]:
        """Return the machine as the schema `Machine` describes it."""
        return {
            "id": self.id,
            "name": self.name,
            "state": self.state,
            "region": self.region,
            "instance_id": self.instance_id,
            "private_ip": self.private_ip,
            "config": self.config,
            "image_ref": image_ref(self.config["image"]),
            "created_at": rfc3339(self.created_at),
            "updated_at": rfc3339(self.updated_at),
            "events": list(self.events),
            "host_status": "ok",
        }

    # --- requests ---------------------------------------------------------------------------------

    def start(self, *, now: datetime) -> None:
        """Have the process started."""
        self._move("starting", "start", source="flyd", now=now)
        argv = tuple(self.config.get("init", {}).get("exec", ()))
        self.effects.append(StartProcess(machine_id=self.id, argv=argv, env=self.env()))

    def stop(self, body: Any, *, now: datetime) -> None:
        """Send the process the signal, and SIGKILL after the time-out; a machine without one just stops.

        Both come from the body, else the config, else are SIGINT and 5 s (https://fly.io/docs, 2026-08).
        """
        request = json_object(body, go_type="main.stopRequest")
        asked = {"signal": "SIGINT", "timeout": "5s"} | self.config.get("stop_config", {}) | request
        first = signum(asked["signal"], among=SIGNALS_OF_STOP)
        patience = min(duration(asked["timeout"]), timedelta(seconds=KILL_TIMEOUT_S_MAX))
        if self.state == "created":
            self._move("stopped", "stop", source="user", now=now)
        if self.state not in RUNNING:
            return
        self.stop_requested = True
        self._move("stopping", "stop", source="user", now=now, request={"reason": ""})
        self._signal(first, at=now)
        self._signal(SIGKILL, at=now + patience)

    def signal(self, body: Any, *, now: datetime) -> None:
        """Send the process a signal. Without a process: 412, whose text is a guess from `start`'s."""
        number = signum(json_object(body, go_type="main.signalRequest").get("signal"), among=SIGNALS)
        if self.state not in RUNNING:
            raise FlyError(412, f"unable to signal machine from current state: '{self.state}'")
        self._signal(number, at=now)

    def destroy(self, *, force: bool, now: datetime) -> None:
        """Destroy the machine; a running one only with `force`, by SIGKILL."""
        if self.state == "destroying":
            return
        running = self.state in RUNNING
        if running and not force:
            raise FlyError(412, "failed_precondition: unable to destroy machine, not currently stopped")
        self.stop_requested = True
        self._move("destroying", "destroy", source="user", now=now)
        if running:
            self._signal(SIGKILL, at=now)
        else:
            self._destroyed(now=now)

    # --- facts from outside -----------------------------------------------------------------------

    def started(self, *, now: datetime) -> None:
        """Note that the process runs, unless a stop or destroy came meanwhile."""
        if self.state == "starting":
            self._move("started", "start", source="flyd", now=now, request={})

    def exited(self, *, exit_code: int, signal: int, oom_killed: bool, now: datetime) -> None:
        """Note that the process ended: `exit_code` as a shell shows it (128 + signal), `signal` 0 if none.

        The exit event has the keys that real ones had in 2026-08, where -1 means no signal. The restart
        policy comes first (Fly destroys automatically only under policy `no`), then `auto_destroy`.
        """
        destroying = self.state == "destroying"
        restarting = self._restarts(exit_code)
        exit_event = {
            "exit_code": exit_code,
            "guest_exit_code": 0 if signal else exit_code,
            "guest_signal": signal or -1,
            "signal": signal or -1,
            "oom_killed": oom_killed,
            "requested_stop": self.stop_requested,
            "restarting": restarting,
            "exited_at": rfc3339(now),
            "error": "",
        }
        request = {"exit_event": exit_event, "restart_count": self.restarts}
        self._move("stopped", "exit", source="flyd", now=now, request=request)
        if restarting:
            self.restarts += 1
            self.start(now=now)
        elif destroying or self.config.get("auto_destroy"):
            self._destroyed(now=now)

    # --- inside -----------------------------------------------------------------------------------

    def _restarts(self, exit_code: int) -> bool:
        restart = self.config.get("restart", {})
        policy = restart.get("policy", "on-failure")
        wanted = policy == "always" or (policy == "on-failure" and exit_code != 0)
        left = self.restarts < restart.get("max_retries", RESTARTS_MAX)
        return wanted and left and not self.stop_requested

    def _signal(self, number: int, *, at: datetime) -> None:
        self.effects.append(SendSignal(machine_id=self.id, signum=number, at=at))

    def _destroyed(self, *, now: datetime) -> None:
        self._move("destroyed", "destroy", source="flyd", now=now)
        self.effects.append(RemoveMachine(machine_id=self.id))

    def _move(
        self, state: str, kind: str, *, source: str, now: datetime, request: dict[str, Any] | None = None
    ) -> None:
        self.state, self.updated_at = state, now
        event: dict[str, Any] = {"id": self._ulid(f"event {len(self.events)}"), "type": kind, "status": state}
        event |= {"source": source, "timestamp": int(now.timestamp() * 1000)}
        if request is not None:
            event["request"] = request
        self.events.insert(0, event)

    def _ulid(self, what: str) -> str:
        return "01" + sha256(f"{self.id} {what}".encode()).hexdigest()[:24].upper()
