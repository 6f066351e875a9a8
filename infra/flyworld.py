"""A model of Fly Machines: which machines exist, and what a request does to them.

Pure: no clock (`now` is passed), no process (it says what to do as effects), no I/O, no threads. The local
Fly puts a real clock and child processes around it, a simulator virtual ones. Must never be kinder than Fly.
Answers have the shapes of Fly's OpenAPI document (2026-05-07).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from infra.flymachine import Effect, Machine
from infra.flyshapes import FlyError, create_request, invalid, regions_of

WAITABLE = frozenset({"started", "stopped", "suspended", "destroyed", "failed", "settled"})
SETTLED = frozenset({"created", "started", "stopped", "destroyed"})
OMITTED_IN_SUMMARY = frozenset({"config", "events", "host_status"})
EVENTS_MAX = 50


class World:
    """The machines of some apps. Requests raise FlyError; what must happen outside waits in `take_effects`.

    `seed` makes ids: two worlds of one seed that live the same life are equal, two seeds share no id.
    """

    def __init__(self, apps: Iterable[str], *, seed: str) -> None:
        self._apps = frozenset(apps)
        self._seed = seed
        self._machines: dict[str, Machine] = {}
        self._effects: list[Effect] = []

    def take_effects(self) -> list[Effect]:
        """Return, once, what is to be done outside since the last call, in order."""
        effects = self._effects[:]
        self._effects.clear()
        return effects

    # --- requests ---------------------------------------------------------------------------------

    def create(self, app: str, body: Any, *, now: datetime) -> dict[str, Any]:
        """Make a machine and return it in state `created`; unless `skip_launch`, it is starting by then.

        Of an ordered list of regions the first is taken.
        """
        self._check_app(app)
        request = create_request(body)
        region = regions_of(request.get("region", ""))[0]
        self._check_name(app, request.get("name", ""))
        machine_id = sha256(f"{self._seed} {len(self._machines)}".encode()).hexdigest()[:14]
        machine = Machine(
            app=app,
            id=machine_id,
            name=request.get("name") or f"machine-{machine_id}",
            region=region,
            config=request["config"],
            created_at=now,
            effects=self._effects,
        )
        self._machines[machine_id] = machine
        answer = machine.shown()
        if not request.get("skip_launch"):
            machine.start(now=now)
        return answer

    def get(self, app: str, machine_id: str) -> dict[str, Any]:
        """Return the machine, a destroyed one too."""
        return self._find(app, machine_id).shown()

    def events(self, app: str, machine_id: str, *, limit: int = 20) -> list[dict[str, Any]]:
        """Return the machine's newest events, newest first."""
        return self._find(app, machine_id).events[: min(limit, EVENTS_MAX)]

    def list(
        self,
        app: str,
        *,
        metadata: Mapping[str, str],
        include_deleted: bool = False,
        states: Iterable[str] = (),
        region: str = "",
        summary: bool = False,
    ) -> list[dict[str, Any]]:
        """Return the app's machines that match; empty `states` and `region` match all."""
        self._check_app(app)
        wanted = frozenset(states)
        omitted = OMITTED_IN_SUMMARY if summary else frozenset()
        return [
            {key: value for key, value in machine.shown().items() if key not in omitted}
            for machine in self._machines.values()
            if machine.app == app
            and (include_deleted or machine.state != "destroyed")
            and (not wanted or machine.state in wanted)
            and region in ("", machine.region)
            and metadata.items() <= machine.config.get("metadata", {}).items()
        ]

    def reached(
        self, app: str, machine_id: str, states: Iterable[str], *, version: str = ""
    ) -> dict[str, Any] | None:
        """Return the answer of a wait if the machine is in one of `states`, or None while it is not.

        Waiting for `stopped` takes a version (flyctl issue 1751). A destroyed machine is 404 to every wait
        for something else.
        """
        wanted = frozenset(states)
        if not wanted <= WAITABLE:
            raise invalid(f"unknown state {', '.join(sorted(wanted - WAITABLE))!r}")
        if "stopped" in wanted and not version:
            raise FlyError(400, "instance_id required when waiting for stopped machine")
        machine = self._find(app, machine_id)
        if version not in ("", machine.instance_id):
            raise FlyError(404, "machine version not found")
        if machine.state in wanted or ("settled" in wanted and machine.state in SETTLED):
            newest = machine.events[0]["id"]
            return {"ok": True, "state": machine.state, "version": machine.instance_id, "event_id": newest}
        if machine.state == "destroyed":
            raise FlyError(404, "machine not found")
        return None

    def stop(self, app: str, machine_id: str, body: Any, *, now: datetime) -> None:
        """Stop the machine: see `Machine.stop`. A destroyed one is 404."""
        self._find(app, machine_id, alive=True).stop(body, now=now)

    def signal(self, app: str, machine_id: str, body: Any, *, now: datetime) -> None:
        """Send the machine's process a signal. A destroyed one is 404."""
        self._find(app, machine_id, alive=True).signal(body, now=now)

    def destroy(self, app: str, machine_id: str, *, force: bool, now: datetime) -> None:
        """Destroy the machine: see `Machine.destroy`. A destroyed one is 404."""
        self._find(app, machine_id, alive=True).destroy(force=force, now=now)

    # --- facts from outside -----------------------------------------------------------------------

    def started(self, machine_id: str, *, now: datetime) -> None:
        """Take note that the machine's process runs."""
        self._machines[machine_id].started(now=now)

    def exited(
        self, machine_id: str, *, exit_code: int, signal: int, oom_killed: bool, now: datetime
    ) -> None:
        """Take note that the machine's process ended: see `Machine.exited`."""
        machine = self._machines[machine_id]
        machine.exited(exit_code=exit_code, signal=signal, oom_killed=oom_killed, now=now)

    # --- inside -----------------------------------------------------------------------------------

    def _check_app(self, app: str) -> None:
        if app not in self._apps:
            raise FlyError(404, "app not found")

    def _check_name(self, app: str, name: str) -> None:
        for other in self._machines.values():
            if other.app == app and other.name == name and other.state != "destroyed":
                held = f'machine ID {other.id} already exists with name "{name}"'
                raise FlyError(409, f"already_exists: unique machine name violation, {held}")

    def _find(self, app: str, machine_id: str, *, alive: bool = False) -> Machine:
        self._check_app(app)
        machine = self._machines.get(machine_id)
        if machine is None or machine.app != app or (alive and machine.state == "destroyed"):
            raise FlyError(404, "machine not found")
        return machine
