"""All machines of the model of Fly: names, placement, and those that a request or a list finds. Pure.

Must never know rate limits or lost answers: `gate` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from infra.flysim.events import EventQueue
from infra.flysim.faults import FailPoint, FaultInjector
from infra.flysim.machine import SimulatedMachine
from infra.flysim.validation import FlyError, create_request, regions_of

CAPACITY_ERRORS = {
    "insufficient_capacity": (422, "could not find a candidate host", "insufficient_capacity"),
    "aborted": (409, "aborted: no capacity", ""),
    "aborted_412": (
        412,
        "aborted: could not reserve resource for machine: insufficient CPUs available to fulfill request",
        "",
    ),
    "quota": (
        403,
        'organization "local" is using 8192 MB of memory in {region} which is over the allowed quota',
        "",
    ),
}
# Answers to a create before a machine is made. Texts: captured answers in public clients (2026-11).
PAYMENT_ANSWERS = (
    (422, "We need your payment information to continue! Add a credit card at https://fly.io/dashboard"),
    (403, "Please add a payment method to your organization to create more machines"),
)
MACHINE_LIMIT_ANSWER = (
    422,
    "Your organization has reached its machine limit. Please contact billing@fly.io to have it raised.",
)
SIZE_ANSWER = (422, "{kind} CPUs are not available to your organization")  # Fly's own words are not known
IMAGE_ANSWER = "failed to get manifest {image}: request failed: not found: MANIFEST_UNKNOWN: manifest unknown"


class Fleet:
    """The machines of some apps, recently destroyed ones included. `seed` decides their ids."""

    def __init__(self, apps: Iterable[str], seed: str, queue: EventQueue, injector: FaultInjector) -> None:
        self._apps = frozenset(apps)
        self._seed = seed
        self._queue, self._injector = queue, injector
        self._machines: dict[str, SimulatedMachine] = {}
        self._unseen_until = dict[str, datetime]()
        self._made = 0

    def __getitem__(self, machine_id: str) -> SimulatedMachine:
        return self._machines[machine_id]

    def __iter__(self) -> Iterator[SimulatedMachine]:
        return iter(self._machines.values())

    def create(self, app: str, body: Any) -> dict[str, Any]:
        """Make a machine and launch it, unless forbidden. Return it as it was before the launch."""
        self._check_app(app)
        request = create_request(body)
        regions = regions_of(request.get("region", ""))
        self._check_name(app, request.get("name", ""))
        self._check_organisation()
        self._check_size(request["config"].get("guest", {}))
        self._check_image(request["config"]["image"])
        region = self._place(regions)
        machine_id = sha256(f"{self._seed} {self._made}".encode()).hexdigest()[:14]
        self._made += 1
        machine = SimulatedMachine(
            app=app,
            id=machine_id,
            name=request.get("name") or f"machine-{machine_id}",
            region=region,
            config=request["config"],
            queue=self._queue,
            injector=self._injector,
        )
        self._machines[machine_id] = machine
        if self._injector.draws(FailPoint.UNSEEN, now=self._queue.now):
            unseen_s = self._injector.seconds(self._injector.faults.unseen_s)
            self._unseen_until[machine_id] = self._queue.now + timedelta(seconds=unseen_s)
        answer = machine.shown()
        if not request.get("skip_launch"):
            machine.launch()
        return answer

    def seen(self, app: str, machine_id: str) -> SimulatedMachine:
        """Return the machine that a read finds: also a destroyed one, but not one that is too new."""
        machine = self._find(app, machine_id)
        if machine_id in self._unseen_until and self._queue.now < self._unseen_until[machine_id]:
            self._injector.hits[FailPoint.UNSEEN] += 1
            raise FlyError(404, "machine not found")
        return machine

    def read(self, app: str, machine_id: str) -> SimulatedMachine:
        """Return the machine that a GET finds: like `seen`, but a destroyed one may already be 404."""
        machine = self.seen(app, machine_id)
        if machine.state == "destroyed" and self._injector.fires(FailPoint.GONE_IS_404, now=self._queue.now):
            raise FlyError(404, "machine not found")
        return machine

    def alive(self, app: str, machine_id: str) -> SimulatedMachine:
        """Return the machine if it is not destroyed."""
        machine = self._find(app, machine_id)
        if machine.state == "destroyed":
            raise FlyError(404, "machine not found")
        return machine

    def listed(self, app: str, wanted: Callable[[SimulatedMachine], bool]) -> list[dict[str, Any]]:
        """Return the app's wanted machines as a list shows them: it may lag, and some may be missing."""
        self._check_app(app)
        self._forget_old()
        found = [
            shown
            for machine in self._machines.values()
            if machine.app == app and wanted(machine) and (shown := machine.listed()) is not None
        ]
        if found and self._injector.fires(FailPoint.EMPTY_LIST, now=self._queue.now):
            return []
        if found and self._injector.fires(FailPoint.PARTIAL_LIST, now=self._queue.now):
            return self._injector.some_of(found)
        return found

    # --- inside -----------------------------------------------------------------------------------

    def _check_app(self, app: str) -> None:
        if app not in self._apps:
            raise FlyError(404, "app not found")

    def _check_name(self, app: str, name: str) -> None:
        for other in self._machines.values():
            if other.name == name and other.app == app and other.state != "destroyed":
                if self._injector.fires(FailPoint.TWIN, now=self._queue.now):
                    return
                held = f'machine ID {other.id} already exists with name "{name}"'
                raise FlyError(409, f"already_exists: unique machine name violation, {held}")

    def _check_organisation(self) -> None:
        if self._injector.fires(FailPoint.PAYMENT_REQUIRED, now=self._queue.now):
            raise FlyError(*PAYMENT_ANSWERS[self._injector.one_of(len(PAYMENT_ANSWERS))])
        most = self._injector.faults.machine_limit
        is_reached = most is not None and most <= sum(m.state != "destroyed" for m in self)
        if is_reached:
            self._injector.hits[FailPoint.MACHINE_LIMIT] += 1
        if is_reached or self._injector.fires(FailPoint.MACHINE_LIMIT, now=self._queue.now):
            raise FlyError(*MACHINE_LIMIT_ANSWER)

    def _check_size(self, guest: dict[str, Any]) -> None:
        kind = guest.get("cpu_kind", "shared")
        if kind in self._injector.faults.refused_cpu_kinds:
            self._injector.hits[FailPoint.SIZE_REFUSED] += 1
            status, text = SIZE_ANSWER
            raise FlyError(status, text.format(kind=kind))

    def _check_image(self, image: str) -> None:
        if self._injector.fires(FailPoint.IMAGE_NOT_FOUND, now=self._queue.now):
            raise FlyError(400, IMAGE_ANSWER.format(image=image))

    def _place(self, regions: list[str]) -> str:
        """Return the first region with room; raise as `Faults.capacity_answer` says when none has."""
        none = self._injector.fires(FailPoint.NO_CAPACITY, now=self._queue.now)
        for region in [] if none else regions:
            if self._has_room(region):
                return region
            self._injector.hits[FailPoint.REGION_FULL] += 1
        status, text, code = CAPACITY_ERRORS[self._injector.faults.capacity_answer]
        raise FlyError(status, text.format(region=regions[0]), code=code)

    def _has_room(self, region: str) -> bool:
        most = self._injector.faults.capacity.get(region)
        if most is None:
            return True
        return most > sum(m.region == region and m.state != "destroyed" for m in self._machines.values())

    def _find(self, app: str, machine_id: str) -> SimulatedMachine:
        self._check_app(app)
        machine = self._machines.get(machine_id)
        if machine is None or machine.app != app or self._is_forgotten(machine):
            raise FlyError(404, "machine not found")
        return machine

    def _is_forgotten(self, machine: SimulatedMachine) -> bool:
        if machine.state != "destroyed":
            return False
        return machine.updated_at + timedelta(seconds=self._injector.faults.retention_s) <= self._queue.now

    def _forget_old(self) -> None:
        for machine in [machine for machine in self._machines.values() if self._is_forgotten(machine)]:
            del self._machines[machine.id]
            self._unseen_until.pop(machine.id, None)
