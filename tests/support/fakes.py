"""A clock that tests move, and a cloud that does as it is told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from infra.ports import Machine, MachineSpec, OutsideError, Refusal, Refused, Unanswered


@dataclass
class Clock:
    """The time as control sees it; tests move it."""

    now: datetime = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    passed_s: float = 1000.0

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.passed_s

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.passed_s += seconds
        self.jump(seconds)

    def jump(self, seconds: float) -> None:
        """Set the wall clock."""
        self.now += timedelta(seconds=seconds)


@dataclass
class FakeMachines:
    """A cloud that does as it is told: `answers` are raised by the next creates, in order."""

    clock: Clock
    answers: list[OutsideError | None] = field(default_factory=list)
    machines: dict[str, Machine] = field(default_factory=dict)
    specs: list[MachineSpec] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    destroyed: list[str] = field(default_factory=list)
    stuck: set[str] = field(default_factory=set)  # ids whose destroy is not answered
    is_away: OutsideError | None = None
    refused_apps: set[str] = field(default_factory=set)  # our token does not reach them
    silent_apps: set[str] = field(default_factory=set)
    unlisted: set[str] = field(default_factory=set)  # ids that lists do not show
    lists: int = 0

    def room(self, app: str) -> int:
        return 3

    def create(self, spec: MachineSpec) -> Machine:
        self.specs.append(spec)
        self._reach(spec.app)
        if answer := (self.answers.pop(0) if self.answers else None):
            raise answer
        if spec.name not in self.machines:
            self.machines[spec.name] = Machine(
                app=spec.app,
                id=f"m{len(self.machines) + 1}",
                name=spec.name,
                state="started",
                region="iad",
                created_at=self.clock(),
                started_at=self.clock(),
                metadata=spec.metadata,
            )
        return self.machines[spec.name]

    def list(self, app: str, metadata: dict[str, str]) -> list[Machine]:
        self.lists += 1
        self._reach(app)
        if self.is_away:
            raise self.is_away
        found = [m for m in self.machines.values() if m.app == app and m.id not in self.unlisted]
        return [machine for machine in found if metadata.items() <= machine.metadata.items()]

    def get(self, app: str, machine_id: str) -> Machine | None:
        return next((m for m in self.machines.values() if m.id == machine_id), None)

    def stop(self, app: str, machine_id: str, *, timeout_s: float) -> None:
        self.stopped.append(machine_id)

    def destroy(self, app: str, machine_id: str) -> None:
        if machine_id in self.stuck:
            raise Unanswered("host does not answer")
        self.destroyed.append(machine_id)

    def _reach(self, app: str) -> None:
        if app in self.refused_apps:
            raise Refused(Refusal.UNAUTHORIZED, "not your app")
        if app in self.silent_apps:
            raise Unanswered("no answer")

    def change(self, name: str, **facts: object) -> None:
        self.machines[name] = replace(self.machines[name], **facts)
