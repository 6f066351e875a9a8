"""One pass: end control when nobody uses it and nothing needs it (STOP_WHEN_IDLE_S)."""

from __future__ import annotations

import time
from collections.abc import Callable

from control.context import AppContext
from control.http.activity import Activity
from control.store.quiet import is_quiet
from control.telemetry.log import log_event


def stop_when_idle(context: AppContext, activity: Activity, stop: Callable[[], object]) -> None:
    """Call `stop` once no request came for STOP_WHEN_IDLE_S, and nothing is lost or left running.

    From then on requests are refused, so `stop` must end the process.
    """
    idle_s, since = context.settings.stop_when_idle_s, activity.idle_since()
    if idle_s is None or since is None or time.monotonic() - since < idle_s or not _is_cloud_known(context):
        return
    with context.views.session() as session:
        if not is_quiet(session, context.settings, context.clock()):
            return
    if activity.close(idle_since=since):  # what the rows showed still holds: no request came since
        log_event("stopped_when_idle", idle_s=idle_s)
        stop()


def _is_cloud_known(context: AppContext) -> bool:
    """Return whether each app was listed since the start, and answered the last time."""
    cloud = context.cloud
    return cloud.are_known(context.settings.runner_apps) and not cloud.silent
