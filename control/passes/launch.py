"""One pass: turn waiting jobs into attempts, and launching attempts into machines.

Row before call, the same name on every try: whatever is cut off half-way, the next pass goes on with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlmodel import col, select

from control.context import Parts
from control.domain.ids import machine_name
from control.domain.states import AttemptState, Fact
from control.store import attempts, machines, queue
from control.store.budget import limit_s_of
from control.store.due import is_due
from control.store.tables import Attempt, Job
from infra.ports import MachineSpec, Refusal, Refused, Unanswered
from runner import contract

LAUNCHES_PER_PASS_MAX = 3  # Fly's burst of creates per app (facts/fly.md, section 3)

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


def launch(parts: Parts) -> None:
    """Start what waits, and ask for the machine of every attempt that has none yet."""
    if not parts.cloud.is_known:
        return
    if parts.cloud.refused is None and _has_to_start(parts):
        queue.start(parts.store, _apps_with_room(parts))
    for attempt, job in _launching(parts):
        if not _create(parts, attempt, job):
            return  # a Fly that does not answer is not asked for the rest too: other passes are due


def _apps_with_room(parts: Parts) -> list[str]:
    """Return an app for each create that Fly allows now, used in turn."""
    room = {app: parts.machines.room(app) for app in parts.settings.runner_apps}
    turns = range(min(LAUNCHES_PER_PASS_MAX, max(room.values())))
    return [app for turn in turns for app in parts.settings.runner_apps if room[app] > turn]


def _has_to_start(parts: Parts) -> bool:
    with parts.views.session() as session:
        return queue.has_to_start(session, parts.settings, parts.clock())


def _launching(parts: Parts) -> Sequence[tuple[Attempt, Job]]:
    with parts.views.session() as session:
        due = (
            select(Attempt, Job)
            .join(Job)
            .where(
                col(Attempt.state) == AttemptState.LAUNCHING,
                is_due(Attempt.launch_after, parts.clock(), longest=PAUSE_MAX),
            )
            .order_by(col(Attempt.launch_after))
        )
        return session.exec(due).all()


def _create(parts: Parts, attempt: Attempt, job: Job) -> bool:
    """Ask for an attempt's machine, write what came of it, and return whether Fly answered."""
    if not attempts.ask(parts.store, attempt.id):
        return True
    spec = machine_spec(parts, attempt, job)
    try:
        machine = parts.machines.create(spec)
    except Unanswered:
        attempts.record_unanswered(parts.store, attempt.id, retry_after=UNANSWERED_RETRY_AFTER)
        return False
    except Refused as refused:
        attempts.record_answered(parts.store, attempt, is_done=False)
        _refused(parts, attempt, spec, refused)
        return refused.refusal is not Refusal.UNREACHABLE
    parts.cloud.refused = None
    machines.observe(parts.store, [machine])
    attempts.record_answered(parts.store, attempt, is_done=True)
    return True


def _refused(parts: Parts, attempt: Attempt, spec: MachineSpec, refused: Refused) -> None:
    if refused.refusal is Refusal.INVALID:
        reason = contract.Reason.LAUNCH_REFUSED
        attempts.end(parts.store, attempt.id, Fact.LAUNCH_REFUSED, reason, refused.message)
        return
    if refused.refusal is Refusal.UNAUTHORIZED:
        parts.cloud.refused = refused.message
    if refused.refusal is Refusal.CAPACITY:
        parts.cloud.note_full(spec.regions[0], parts.store.monotonic())
    attempts.postpone(
        parts.store,
        attempt.id,
        refused.refusal,
        message=WAITING_TEXT[refused.refusal],
        retry_after=_retry_after(parts, refused.refusal),
    )


def _retry_after(parts: Parts, refusal: Refusal) -> timedelta:
    """Return when to ask again: soon while another region is not known to be full."""
    is_full = refusal is Refusal.CAPACITY
    if is_full and parts.cloud.has_room(parts.settings.runner_regions, parts.store.monotonic()):
        return ELSEWHERE_AFTER
    return RETRY_AFTER[refusal]


def machine_spec(parts: Parts, attempt: Attempt, job: Job) -> MachineSpec:
    """Return the machine of an attempt: the same on every call, so that a repeated create adopts the first.

    Only the order of the regions follows what Fly says of them: a machine that exists stays where it is.
    Its env holds one credential, the attempt's own token; the bucket's keys never leave control.
    """
    settings = parts.settings
    wall_s = str(int(limit_s_of(settings) if attempt.wall_s is None else attempt.wall_s))
    return MachineSpec(
        app=attempt.app,
        name=machine_name(attempt.id),
        image=attempt.image,
        regions=parts.cloud.in_order(settings.runner_regions, parts.store.monotonic()),
        size=attempt.size,
        env={
            **parts.machine_env,
            contract.ENV_CONTROL_URL: settings.runner_callback_url,
            contract.ENV_ATTEMPT_ID: attempt.id,
            contract.ENV_ATTEMPT_TOKEN: parts.signer.attempt_token(attempt.id),
            contract.ENV_RUN_TIMEOUT_S: wall_s,
        },
        metadata={
            "owner": parts.store.owner_id,
            "batch": job.batch_id,
            "job": job.id,
            "attempt": attempt.id,
            "size": attempt.size,
            "deadline_s": wall_s,
        },
    )
