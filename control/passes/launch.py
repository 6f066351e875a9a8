"""One pass: turn waiting jobs into attempts, and launching attempts into machines.

Row before call, the same name on every try: whatever is cut off half-way, the next pass goes on with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlmodel import col, select

from control.context import AppContext
from control.domain.ids import machine_name
from control.domain.states import AttemptState, Trigger
from control.store import attempts, machines, queue
from control.store.budget import limit_s_of
from control.store.due import is_due
from control.store.tables import Attempt, Job
from infra.ports import MachineSpec, Refusal, Refused, Unanswered
from infra.ratelimit import ORDINARY
from runner import contract

RETRY_AFTER = {
    Refusal.RATE_LIMITED: timedelta(seconds=1),
    Refusal.CAPACITY: timedelta(seconds=10),  # once every region has said that it is full
    Refusal.UNAUTHORIZED: timedelta(seconds=30),
    Refusal.UNREACHABLE: timedelta(seconds=5),
}
WAITING_TEXT = {
    Refusal.RATE_LIMITED: "Fly allows one new machine a second; this job is next in line.",
    Refusal.CAPACITY: "Fly has no room in the named regions right now; it is asked again.",
    Refusal.UNAUTHORIZED: "Fly refuses our token; an operator must set a new one.",
    Refusal.UNREACHABLE: "Fly cannot be reached right now; it is asked again.",
}
UNANSWERED_RETRY_AFTER = timedelta(seconds=5)
ELSEWHERE_AFTER = timedelta(seconds=1)
PAUSE_MAX = max(*RETRY_AFTER.values(), UNANSWERED_RETRY_AFTER)


def launch(context: AppContext) -> None:
    """Start what waits, and ask for the machine of every attempt that has none yet."""
    if not context.cloud.is_known:
        return
    if context.cloud.refused is None and _has_to_start(context):
        queue.start(context.store, _apps_with_room(context))
    for attempt, job in _launching(context):
        if not _create(context, attempt, job):
            return  # a Fly that does not answer is not asked for the rest too: other passes are due


def _apps_with_room(context: AppContext) -> list[str]:
    """Return an app for each create that Fly allows now, used in turn."""
    room = {app: context.machines.room(app) for app in context.settings.runner_apps}
    turns = range(min(ORDINARY.burst, max(room.values())))
    return [app for turn in turns for app in context.settings.runner_apps if room[app] > turn]


def _has_to_start(context: AppContext) -> bool:
    with context.views.session() as session:
        return queue.has_to_start(session, context.settings, context.clock())


def _launching(context: AppContext) -> Sequence[tuple[Attempt, Job]]:
    with context.views.session() as session:
        due = (
            select(Attempt, Job)
            .join(Job)
            .where(
                col(Attempt.state) == AttemptState.LAUNCHING,
                is_due(Attempt.launch_after, context.clock(), longest=PAUSE_MAX),
            )
            .order_by(col(Attempt.launch_after))
        )
        return session.exec(due).all()


def _create(context: AppContext, attempt: Attempt, job: Job) -> bool:
    """Ask for an attempt's machine, write what came of it, and return whether Fly answered."""
    if not attempts.ask(context.store, attempt.id):
        return True
    spec = machine_spec(context, attempt, job)
    try:
        machine = context.machines.create(spec)
    except Unanswered:
        attempts.record_unanswered(context.store, attempt.id, retry_after=UNANSWERED_RETRY_AFTER)
        return False
    except Refused as refused:
        attempts.record_answered(context.store, attempt, is_done=False)
        _refused(context, attempt, spec, refused)
        return refused.refusal is not Refusal.UNREACHABLE
    context.cloud.refused = None
    machines.observe(context.store, [machine])
    attempts.record_answered(context.store, attempt, is_done=True)
    return True


def _refused(context: AppContext, attempt: Attempt, spec: MachineSpec, refused: Refused) -> None:
    if refused.refusal is Refusal.INVALID:
        reason = contract.Reason.LAUNCH_REFUSED
        attempts.end(context.store, attempt.id, Trigger.LAUNCH_REFUSED, reason, refused.message)
        return
    if refused.refusal is Refusal.UNAUTHORIZED:
        context.cloud.refused = refused.message
    if refused.refusal is Refusal.CAPACITY:
        context.cloud.note_full(spec.regions[0], context.store.monotonic())
    attempts.postpone(
        context.store,
        attempt.id,
        refused.refusal,
        message=WAITING_TEXT[refused.refusal],
        retry_after=_retry_after(context, refused.refusal),
    )


def _retry_after(context: AppContext, refusal: Refusal) -> timedelta:
    """Return when to ask again: soon while another region is not known to be full."""
    is_full = refusal is Refusal.CAPACITY
    if is_full and context.cloud.has_room(context.settings.runner_regions, context.store.monotonic()):
        return ELSEWHERE_AFTER
    return RETRY_AFTER[refusal]


def machine_spec(context: AppContext, attempt: Attempt, job: Job) -> MachineSpec:
    """Return the machine of an attempt: the same on every call, so that a repeated create adopts the first.

    Only the order of the regions follows what Fly says of them: a machine that exists stays where it is.
    Its env holds one credential, the attempt's own token; the bucket's keys never leave control.
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
            "batch": job.batch_id,
            "job": job.id,
            "attempt": attempt.id,
            "size": attempt.size,
            "deadline_s": wall_s,
        },
    )
