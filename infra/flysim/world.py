"""A model of Fly Machines: the machines, the effect of requests on them, and the faults.

Pure: its own clock moves only with `advance`, it starts no process (it returns effects instead), all
randomness comes from its seed, and it has no I/O and no threads. The local Fly drives it with a real clock
and child processes, the simulator with virtual ones. Must never accept more than Fly. Answers have the
shapes of Fly's OpenAPI document (2026-05-07).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from random import Random
from typing import Any

from infra.flysim.events import Effect, EventQueue
from infra.flysim.faults import FaultInjector, Faults
from infra.flysim.fleet import Fleet
from infra.flysim.gate import Action, Gate
from infra.flysim.machine import SimulatedMachine
from infra.flysim.record import Exit
from infra.flysim.validation import FlyError, invalid

WAITABLE = frozenset({"started", "stopped", "suspended", "destroyed", "failed", "settled"})
SETTLED = frozenset({"created", "started", "stopped", "destroyed", "failed"})
OMITTED_IN_SUMMARY = frozenset({"config", "incomplete_config", "events", "host_status"})
EVENTS_MAX = 50


class World:
    """The machines of some apps. Every request may raise FlyError, or Cut when there is no answer.

    `seed` decides ids and all random choices: two worlds with one seed and the same requests are equal, and
    two seeds share no id. The time is that of the last `advance`: advance before a request, so that
    everything due by then has happened, and after it, to get the effects that it asks for.
    """

    def __init__(
        self, apps: Iterable[str], *, seed: str, now: datetime, faults: Faults | None = None
    ) -> None:
        self._queue = EventQueue(now=now)
        self._injector = FaultInjector(Random(seed), faults or Faults(), since=now)  # noqa: S311 - to be repeated, not secret
        self._gate = Gate(self._queue, self._injector)
        self._fleet = Fleet(apps, seed, self._queue, self._injector)

    # --- time and faults --------------------------------------------------------------------------

    def advance(self, now: datetime) -> list[Effect]:
        """Let time pass until `now`; return, once and in order, the effects that the caller must perform."""
        return self._queue.advance(now)

    @property
    def now(self) -> datetime:
        """The current instant of the world."""
        return self._queue.now

    def next_due(self) -> datetime | None:
        """Return when the world changes next without a request, or None if it does not."""
        return self._queue.next_due()

    @property
    def faults(self) -> Faults:
        """The current faults."""
        return self._injector.faults

    def set_faults(self, faults: Faults) -> None:
        """Use other faults from now on. Earlier decisions stay."""
        self._injector.set(faults, since=self._queue.now)

    @property
    def hits(self) -> Counter[str]:
        """How often each `FailPoint` happened."""
        return self._injector.hits

    def truth(self) -> list[SimulatedMachine]:
        """Return all machines as they really are, for the checks of tests. Requests may show less."""
        return list(self._fleet)

    # --- requests ---------------------------------------------------------------------------------

    def create(self, app: str, body: Any) -> dict[str, Any]:
        """Make a machine and return it in state `created`; without `skip_launch` it may already be starting.

        The first region of the ordered list that has capacity is used.
        """
        return self._gate.through(Action.CREATE, app, lambda: self._fleet.create(app, body))

    def get(self, app: str, machine_id: str) -> dict[str, Any]:
        """Return the machine. A destroyed one is returned until it is forgotten."""
        return self._gate.through(
            Action.GET, app, lambda: self._fleet.read(app, machine_id).shown(), machine_id=machine_id
        )

    def events(self, app: str, machine_id: str, *, limit: int = 20) -> list[dict[str, Any]]:
        """Return the machine's newest events, newest first."""
        newest = min(limit, EVENTS_MAX)
        return self._gate.through(
            Action.EVENTS,
            app,
            lambda: self._fleet.seen(app, machine_id).events[:newest],
            machine_id=machine_id,
        )

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
        wanted = frozenset(states)
        omitted = OMITTED_IN_SUMMARY if summary else frozenset()

        def of_kind(machine: SimulatedMachine) -> bool:
            own = machine.config.get("metadata", {})
            return region in ("", machine.region) and metadata.items() <= own.items()

        return [
            {key: value for key, value in shown.items() if key not in omitted} if omitted else shown
            for shown in self._gate.through(Action.LIST, app, lambda: self._fleet.listed(app, of_kind))
            if (include_deleted or shown["state"] != "destroyed") and (not wanted or shown["state"] in wanted)
        ]

    def reached(
        self, app: str, machine_id: str, states: Iterable[str], *, version: str = ""
    ) -> dict[str, Any] | None:
        """Return the answer of a wait if the machine is in one of `states`, or None while it is not.

        Waiting for `stopped` takes a version (flyctl issue 1751). A destroyed machine is 404 to every wait
        for something else. Asked again and again during one wait, so no limit is counted: see `begin_wait`.
        """
        wanted = frozenset(states)
        if not wanted <= WAITABLE:
            raise invalid(f"unknown state {', '.join(sorted(wanted - WAITABLE))!r}")
        if "stopped" in wanted and not version:
            raise FlyError(400, "instance_id required when waiting for stopped machine")
        machine = self._fleet.seen(app, machine_id)
        if version not in ("", machine.instance_id):
            raise FlyError(404, "machine version not found")
        if machine.state in wanted or ("settled" in wanted and machine.state in SETTLED):
            newest = machine.events[0]["id"]
            return {"ok": True, "state": machine.state, "version": machine.instance_id, "event_id": newest}
        if machine.state == "destroyed":
            raise FlyError(404, "machine not found")
        return None

    def begin_wait(self, app: str, machine_id: str) -> None:
        """Let a wait in, or raise. Call it once before `reached`."""
        self._gate.through(Action.WAIT, app, lambda: None, machine_id=machine_id)

    def timed_out(self, app: str, machine_id: str, states: Iterable[str]) -> FlyError:
        """Return the 408 that ends a wait in which the machine reached none of `states`."""
        state = self._fleet.seen(app, machine_id).state
        wanted = ",".join(states)
        return FlyError(408, f"machine failed to reach desired state, {wanted}, currently {state}")

    def stop(self, app: str, machine_id: str, body: Any) -> None:
        """Stop the machine: see `SimulatedMachine.stop`. A destroyed one is 404."""
        self._gate.through(
            Action.STOP, app, lambda: self._fleet.alive(app, machine_id).stop(body), machine_id=machine_id
        )

    def signal(self, app: str, machine_id: str, body: Any) -> None:
        """Send the machine's process a signal. A destroyed one is 404."""
        self._gate.through(
            Action.SIGNAL, app, lambda: self._fleet.alive(app, machine_id).signal(body), machine_id=machine_id
        )

    def destroy(self, app: str, machine_id: str, *, force: bool) -> None:
        """Destroy the machine: see `SimulatedMachine.destroy`. A destroyed one is 404."""
        self._gate.through(
            Action.DESTROY,
            app,
            lambda: self._fleet.alive(app, machine_id).destroy(force=force),
            machine_id=machine_id,
        )

    # --- facts from outside -----------------------------------------------------------------------

    def started(self, machine_id: str) -> None:
        """Record that the machine's process runs."""
        self._fleet[machine_id].started()

    def exited(self, machine_id: str, *, exit_code: int, signal: int = 0, oom_killed: bool = False) -> None:
        """Record that the machine's process ended: see `SimulatedMachine.exited`."""
        self._fleet[machine_id].exited(Exit(code=exit_code, signal=signal, oom_killed=oom_killed))
