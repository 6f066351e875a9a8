"""What the cloud holds of ours, and the reaping of what nobody knows."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from control import reap
from control.api.guard import Guard
from control.errors import Code, documented
from control.parts import Parts
from control.shapes import MachineList, MachineView
from control.tables import Attempt
from infra.ports import Machine


def routes(parts: Parts, guard: Guard) -> APIRouter:
    """Return the routes under `/api/machines`."""
    router = APIRouter(
        prefix="/api/machines",
        dependencies=[Depends(guard)],
        tags=["machines"],
        responses=documented(Code.UNAUTHORIZED, Code.UNAVAILABLE),
    )

    @router.get("")
    def machines() -> MachineList:
        """Show every machine of ours that the cloud holds now, each with its job, or as an orphan."""
        return MachineList(items=[_shown(machine, attempt) for machine, attempt in reap.held(parts)])

    @router.post("/reap", responses=documented(Code.INVALID))
    def reap_orphans(dry_run: bool = False) -> MachineList:
        """Destroy the orphans and return them; with `dry_run` only return them."""
        orphans = reap.destroy_orphans(parts, dry_run=dry_run)
        return MachineList(items=[_shown(machine, None) for machine in orphans])

    return router


def _shown(machine: Machine, attempt: Attempt | None) -> MachineView:
    return MachineView(
        machine_id=machine.id,
        name=machine.name,
        app=machine.app,
        region=machine.region,
        state=machine.state,
        created_at=machine.created_at,
        job_id=attempt.job_id if attempt else None,
        attempt_id=attempt.id if attempt else None,
        orphan=attempt is None,
    )
