"""One pass: turn waiting jobs into attempts, and launching attempts into machines.

The row is written before the call, and each try uses the same machine name, so the next pass continues
whatever a crash interrupted. Must never fail a job for a problem that an operator can solve or that ends by
itself: such a job waits, says why, and uses up no attempt. One file, since each refusal
decides over the next call.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import sqlalchemy
from sqlalchemy import Executable
from sqlmodel import col

from control.context import AppContext
from control.domain.ids import machine_name
from control.domain.states import AttemptState, Trigger
from control.store import alive, attempts, machines, queue
from control.store.budget import limit_s_of
from control.store.due import has_come
from control.store.prepared import Moment, Prepared, Row
from control.store.tables import Attempt, Job
from control.telemetry.log import log_event
from infra.ports import MachineSpec, Refusal, Refused, Unanswered
from infra.ratelimit import ORDINARY
from runner import contract

RETRY_AFTER = {
    Refusal.RATE_LIMITED: timedelta(seconds=1),
    Refusal.CAPACITY: timedelta(seconds=10),  # once every region has said that it is full
    Refusal.MACHINE_LIMIT: timedelta(seconds=10),
    Refusal.UNAUTHORIZED: timedelta(seconds=30),
    Refusal.PAYMENT_REQUIRED: timedelta(seconds=30),
    Refusal.IMAGE_NOT_FOUND: timedelta(seconds=5),  # and longer each time: see `_retry_after`
    Refusal.UNREACHABLE: timedelta(seconds=5),
    Refusal.INVALID: timedelta(seconds=10),
}
WAITING_TEXT = {
    Refusal.RATE_LIMITED: "Fly allows one new machine a second; this job is next in line.",
    Refusal.CAPACITY: "Fly has no room in the named regions right now; it is asked again. An operator can "
    "add regions (RUNNER_REGIONS).",
    Refusal.MACHINE_LIMIT: queue.WAITING_FOR_MACHINES[Refusal.MACHINE_LIMIT],
    Refusal.UNAUTHORIZED: "Fly refuses our token for the app {app}. An operator must set a new one "
    "(FLY_API_TOKEN).",
    Refusal.PAYMENT_REQUIRED: "Fly asks for a payment method. An operator must add one in the billing "
    "settings of the Fly organisation.",
    Refusal.IMAGE_NOT_FOUND: "Fly does not find the runner's image yet, which is normal for seconds after a "
    "push; it is asked again.",
    Refusal.UNREACHABLE: "Fly cannot be reached right now; it is asked again.",
    Refusal.INVALID: "Fly refuses to make the machine: {words}. It is asked again for a few minutes.",
}
IMAGE_LOST_TEXT = (
    "Fly has not found the runner's image for {minutes} minutes. An operator must push the image again "
    "(refresher provision release); the job then starts by itself."
)
BLOCKING = frozenset({Refusal.UNAUTHORIZED, Refusal.PAYMENT_REQUIRED})  # no new attempt uses the app
IMAGE_LOST_AFTER_S = 600.0
WORDS_MAX = 200
UNANSWERED_RETRY_AFTER = timedelta(seconds=5)
ELSEWHERE_AFTER = timedelta(seconds=1)
PAUSE_MAX = attempts.PAUSE_MAX


def launch(context: AppContext) -> None:
    """Start waiting jobs, and create the machine of every attempt that has none yet."""
    cloud, apps = context.cloud, _usable_apps(context)
    if apps and _has_to_start(context):
        queue.start(context.store, _apps_with_room(context, apps), machines_max=_machines_max(context))
    _explain(context, may_start=bool(apps))
    for attempt in [each for each in _launching(context) if cloud.is_known(each.app)]:
        if not _create(context, attempt):
            return  # if Fly does not answer, do not wait for it once per attempt: other passes are due


def _usable_apps(context: AppContext) -> list[str]:
    now = context.store.monotonic()
    return [app for app in context.settings.runner_apps if context.cloud.may_start(app, now)]


def _apps_with_room(context: AppContext, apps: Sequence[str]) -> list[str]:
    """Return an app for each create that Fly allows now; the apps take turns."""
    room = {app: context.machines.room(app) for app in apps}
    turns = range(min(ORDINARY.burst, max(room.values())))
    return [app for turn in turns for app in apps if room[app] > turn]


def _machines_max(context: AppContext) -> int:
    return context.cloud.machines_max(context.settings.max_machines, context.store.monotonic())


def _has_to_start(context: AppContext) -> bool:
    first = context.views.rows(queue.first_waiting)
    return queue.has_to_start(first, context.settings, _machines_max(context))


def _explain(context: AppContext, *, may_start: bool) -> None:
    """Have the queued jobs say why none of them starts while an operator must act, and only then."""
    if may_start:
        if context.cloud.is_explained:
            queue.stop_explaining(context.store, BLOCKING)
            context.cloud.is_explained = False
        return
    blocked = [(app, context.cloud.refusal_of(app)) for app in context.settings.runner_apps]
    app, refusal = next(((app, refusal) for app, refusal in blocked if refusal), ("", None))
    if refusal is not None:
        context.cloud.is_explained = True
        queue.explain(context.store, refusal, WAITING_TEXT[refusal].format(app=app))


def _launching(context: AppContext) -> Sequence[Row]:
    """Return the attempts whose create is due, each with the id of its batch."""
    launching = context.views.rows(_all_launching)
    context.cloud.keep_only({attempt.id for attempt in launching})
    now = context.clock()
    return [each for each in launching if has_come(each.launch_after, now, longest=PAUSE_MAX)]


@Prepared
def _all_launching(_: Moment) -> Executable:
    with_batch = sqlalchemy.select(Attempt, col(Job.batch_id)).join(Job)
    return with_batch.where(col(Attempt.state) == AttemptState.LAUNCHING).order_by(col(Attempt.launch_after))


def _create(context: AppContext, attempt: Row) -> bool:
    """Create an attempt's machine, write the result, and return whether Fly answered."""
    if not attempts.ask(context.store, attempt.id):
        queue.wait_for_room(context.store, attempt.id)
        return True
    spec = machine_spec(context, attempt)
    try:
        machine = context.machines.create(spec)
    except Unanswered:
        attempts.record_unanswered(context.store, attempt.id, retry_after=UNANSWERED_RETRY_AFTER)
        return False
    except Refused as refused:
        attempts.record_answered(context.store, attempt, is_done=False)
        _refused(context, attempt, spec, refused)
        return refused.refusal is not Refusal.UNREACHABLE
    context.cloud.blocked.pop(attempt.app, None)
    context.cloud.image_missing_since.pop(spec.image, None)
    machines.observe(context.store, [machine])
    attempts.record_answered(context.store, attempt, is_done=True)
    return True


def _refused(context: AppContext, attempt: Row, spec: MachineSpec, refused: Refused) -> None:
    _note(context, spec, refused)
    if _is_final(context, attempt, refused.refusal):
        reason = contract.Reason.LAUNCH_REFUSED
        attempts.end(context.store, attempt.id, Trigger.LAUNCH_REFUSED, reason, refused.message)
        return
    attempts.postpone(
        context.store,
        attempt.id,
        refused.refusal,
        message=_waiting_text(context, spec, refused),
        retry_after=_retry_after(context, spec, refused.refusal),
        app=_other_app(context, attempt) if refused.refusal is Refusal.UNAUTHORIZED else attempt.app,
    )


def _note(context: AppContext, spec: MachineSpec, refused: Refused) -> None:
    """Remember the refusal for the app, the region, the image or the organisation that it is about."""
    cloud, now = context.cloud, context.store.monotonic()
    if refused.refusal is not Refusal.RATE_LIMITED:  # that is nothing new
        facts = {"app": spec.app, "attempt_id": spec.metadata["attempt"]}
        log_event("create_refused", code=refused.refusal, words=refused.message, **facts)
    if refused.refusal in BLOCKING:
        cloud.block(spec.app, refused.refusal, refused.message, now)
    if refused.refusal is Refusal.CAPACITY:
        cloud.note_full(spec.regions[0], now)
    if refused.refusal is Refusal.MACHINE_LIMIT:
        cloud.note_limit(_machines_alive(context), now)
    if refused.refusal is Refusal.IMAGE_NOT_FOUND:
        cloud.image_missing_since.setdefault(spec.image, now)


def _machines_alive(context: AppContext) -> int:
    with context.views.session() as session:
        return alive.known_alive(session)


def _is_final(context: AppContext, attempt: Row, refusal: Refusal) -> bool:
    """Return whether to give up: Fly has refused for an unknown reason for as long as a boot may take."""
    since, now = context.cloud.refused_since, context.store.monotonic()
    if refusal is Refusal.INVALID:
        return now - since.setdefault(attempt.id, now) >= context.settings.boot_timeout_s
    since.pop(attempt.id, None)
    return False


def _other_app(context: AppContext, attempt: Row) -> str:
    """Return an app that may make the attempt's machine instead, else its own."""
    usable = [app for app in _usable_apps(context) if app not in context.cloud.blocked]
    return next(iter(usable), attempt.app)


def _image_missing_s(context: AppContext, image: str) -> float:
    now = context.store.monotonic()
    return now - context.cloud.image_missing_since.get(image, now)


def _waiting_text(context: AppContext, spec: MachineSpec, refused: Refused) -> str:
    missing_s = _image_missing_s(context, spec.image)
    if refused.refusal is Refusal.IMAGE_NOT_FOUND and missing_s >= IMAGE_LOST_AFTER_S:
        return IMAGE_LOST_TEXT.format(minutes=int(IMAGE_LOST_AFTER_S / 60))
    return WAITING_TEXT[refused.refusal].format(app=spec.app, words=refused.message[:WORDS_MAX])


def _retry_after(context: AppContext, spec: MachineSpec, refusal: Refusal) -> timedelta:
    """Return when to ask again: soon while another region is not known to be full, later for a lost image."""
    is_full = refusal is Refusal.CAPACITY
    if is_full and context.cloud.has_room(context.settings.runner_regions, context.store.monotonic()):
        return ELSEWHERE_AFTER
    if refusal is Refusal.IMAGE_NOT_FOUND:
        growing = timedelta(seconds=_image_missing_s(context, spec.image) / 4)
        return min(PAUSE_MAX, max(RETRY_AFTER[refusal], growing))
    return RETRY_AFTER[refusal]


def machine_spec(context: AppContext, attempt: Row) -> MachineSpec:
    """Return the machine of an attempt, with the same name on every call: a repeated create adopts the first.

    The order of the regions follows what Fly says about their capacity. The env holds one credential, the
    attempt's own token; the bucket's keys never leave control.
    """
    settings = context.settings
    wall_s = str(int(limit_s_of(settings) if attempt.wall_s is None else attempt.wall_s))
    return MachineSpec(
        app=attempt.app,
        name=machine_name(attempt.id),
        image=attempt.image,
        regions=context.cloud.in_order(settings.runner_regions, context.store.monotonic()),
        size=attempt.size,
        env={
            **context.machine_env,
            contract.ENV_CONTROL_URL: settings.runner_callback_url,
            contract.ENV_ATTEMPT_ID: attempt.id,
            contract.ENV_ATTEMPT_TOKEN: context.signer.attempt_token(attempt.id),
            contract.ENV_RUN_TIMEOUT_S: wall_s,
        },
        metadata={
            "owner": context.store.owner_id,
            "batch": attempt.batch_id,
            "job": attempt.job_id,
            "attempt": attempt.id,
            "size": attempt.size,
            "deadline_s": wall_s,
        },
    )
