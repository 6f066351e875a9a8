"""The use of the bucket."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from control.context import AppContext
from control.domain.errors import Code
from control.http.errors import documented
from control.http.guard import Guard
from control.http.threads import API
from control.store.usage import holdings
from control.views.schemas.storage import StorageView


def routes(context: AppContext, guard: Guard) -> APIRouter:
    """Return `/api/storage`."""
    router = APIRouter(prefix="/api", dependencies=[Depends(guard)], tags=["storage"], route_class=API.route)

    @router.get("/storage", responses=documented(Code.UNAUTHORIZED))
    def storage() -> StorageView:
        """Show how much of the storage sources and results use."""
        with context.views.session() as session:
            used_bytes = holdings(session, context.settings, context.clock()).used
        cap_bytes = context.settings.storage_cap_bytes
        return StorageView(
            used_bytes=used_bytes, cap_bytes=cap_bytes, percent=round(100 * used_bytes / cap_bytes, 1)
        )

    return router
