"""The machines in the cloud, and the removal of orphans."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from control.context import AppContext
from control.domain.errors import Code
from control.http.errors import documented
from control.http.guard import Guard
from control.http.threads import API, FLY
from control.passes import observe, reap
from control.store.tables import Attempt, Machine
from control.views.schemas.machines import MachineList, MachineView
from infra import ports


def routes(context: AppContext, guard: Guard) -> APIRouter:
    """Return the routes under `/api/machines`."""
    router = APIRouter(
        prefix="/api/machines",
        dependencies=[Depends(guard)],
        route_class=API.route,
        tags=["machines"],
        responses=documented(Code.UNAUTHORIZED),
    )

    @router.get("")
    def machines() -> MachineList:
        """Show every machine of this deployment that exists in the cloud, with its job, or as an orphan.

        The answer is from the last observation of Fly: every 2 s while anything runs, every minute otherwise,
        and soon after this call. `observed_at` is when Fly last answered for every app.
        """
        observe.ask_for(context)
        return MachineList(
            items=[_shown(machine, attempt) for machine, attempt in reap.held(context)],
            observed_at=context.cloud.seen_at(context.settings.runner_apps),
        )

    @router.post("/reap", responses=documented(Code.INVALID, Code.UNAVAILABLE))
    @FLY
    def reap_orphans(dry_run: bool = False) -> MachineList:
        """Destroy the orphans and return them; with `dry_run` only return them. Makes one request to Fly.

        Only one call at a time: another one gets a 503 until it has ended.
        """
        orphans = reap.destroy_orphans(context, dry_run=dry_run)
        observe.ask_for(context)
        return MachineList(items=[_shown(machine, None) for machine in orphans], observed_at=context.clock())

    return router


def _shown(machine: Machine | ports.Machine, attempt: Attempt | None) -> MachineView:
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
