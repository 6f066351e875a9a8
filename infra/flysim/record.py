"""Fly's record of one machine: its JSON, its events, and its older state in lists. Pure.

Must never decide when a machine changes its state: `machine` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

from infra.flysim.events import EventQueue
from infra.flysim.faults import FailPoint, FaultInjector
from infra.flysim.validation import image_ref, memory_mb_of, rfc3339

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, kw_only=True)
class Exit:
    """How a process ended: `code` as a shell shows it (128 + signal), `signal` 0 if none."""

    code: int
    signal: int = 0
    oom_killed: bool = False
    at: datetime | None = None


@dataclass(kw_only=True)
class Record:
    """A machine as Fly has it on record, with the world's event queue and fault injector."""

    app: str
    id: str
    name: str
    region: str
    config: dict[str, Any]
    queue: EventQueue
    injector: FaultInjector
    state: str = field(init=False)
    host_ok: bool = True
    events: list[dict[str, Any]] = field(default_factory=list)  # newest first
    _listed: dict[str, Any] | None = None  # what lists show while they lag
    _lags: bool = False

    def __post_init__(self) -> None:
        self.created_at = self.queue.now
        self._created, self._image_ref = rfc3339(self.created_at), image_ref(self.config["image"])
        self.instance_id = self._ulid("instance")
        self.move("created", "launch", source="user")

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
        """Return the machine as the schema `Machine` describes it, now.

        While its host does not answer, `incomplete_config` stands for `config` (fly-go, 2026-08).
        """
        return {
            "id": self.id,
            "name": self.name,
            "state": self.state,
            "region": self.region,
            "instance_id": self.instance_id,
            "private_ip": self.private_ip,
            "config" if self.host_ok else "incomplete_config": self.config,
            "image_ref": self._image_ref,
            "created_at": self._created,
            "updated_at": self._updated,
            "events": list(self.events),
            "host_status": "ok" if self.host_ok else "unreachable",
        }

    def listed(self) -> dict[str, Any] | None:
        """Return the machine as lists show it, which may be an older state; None if it did not exist then."""
        return self._listed if self._lags else self.shown()

    def move(self, state: str, kind: str, *, source: str, request: dict[str, Any] | None = None) -> None:
        """Set the state of the machine, with an event."""
        if not self._lags and self.injector.fires(FailPoint.LIST_LAG, now=self.queue.now):
            self._listed, self._lags = (self.shown() if self.events else None), True
            self.queue.after(self.injector.seconds(self.injector.faults.list_lag_s), self._catch_up)
        self.state, self.updated_at, self._updated = state, self.queue.now, rfc3339(self.queue.now)
        event: dict[str, Any] = {"id": self._ulid(f"event {len(self.events)}"), "type": kind, "status": state}
        event |= {"source": source, "timestamp": int(self.queue.now.timestamp() * 1000)}
        if request is not None:
            event["request"] = request
        self.events.insert(0, event)

    def _catch_up(self) -> None:
        self._listed, self._lags = None, False

    def _ulid(self, what: str) -> str:
        return "01" + sha256(f"{self.id} {what}".encode()).hexdigest()[:24].upper()


def exit_event(how: Exit, *, requested_stop: bool, restarting: bool) -> dict[str, Any]:
    """Return the exit event of an exit with its instant, with the keys of real ones (2026-08)."""
    assert how.at is not None
    return {
        "exit_code": how.code,
        "guest_exit_code": 0 if how.signal else how.code,
        "guest_signal": how.signal or -1,  # the value of real events without one
        "signal": how.signal or -1,
        "oom_killed": how.oom_killed,
        "requested_stop": requested_stop,
        "restarting": restarting,
        "exited_at": rfc3339(how.at),
        "error": "",
    }
