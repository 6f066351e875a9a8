"""The users of a world: they submit, cancel, retry and delete, and repeat each call until it is answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from control.context import AppContext
from control.domain.errors import Code, ControlError
from control.domain.ids import new_id
from control.planning.planner import PlannedBatch, PlannedOutput
from control.planning.schedule import Assignment, Schedule
from control.planning.workload import WorkUnit
from control.store import batches, changes, usage
from control.store.tables import Batch, Source
from runner.contract import Effects
from tests.sim.links import Sharer
from tests.sim.protocol import SimWorld
from tests.sim.swarm import ROOM_BYTES, Mishap

EFFECTS = Effects(
    rotation_rad=0, brightness=0, contrast=1, saturation=1, zoom=1, noise=0, speed=1, mirror=False
)
ASK_AGAIN_S = 5.0
FULL = 507
ROOM_AGAIN_S = 40.0
VIDEO = {
    "name": "ad.mp4", "key": "sources/of a user", "size_bytes": 1000, "etag": "e",
    "duration_s": 2.0, "width": 320, "height": 180,
}  # fmt: skip
AMPLE_BYTES = 400_000_000  # worlds on few bytes are in test_budget.py


class Users:
    """What they do is drawn when it is done; what was acknowledged they tell the judge."""

    def __init__(self, world: SimWorld) -> None:
        self.world = world

    def begin(self) -> None:
        """Plan the submits."""
        world = self.world
        for n in range(world.swarm.batches):
            at_s = world.injector.uniform(0, min(world.swarm.submits_s, world.swarm.faults_s))
            jobs = [world.injector.randint(1, world.swarm.outputs_max)]
            jobs += [
                world.injector.randint(1, world.swarm.outputs_max) for _ in range(world.swarm.jobs_max - 1)
            ]
            world.after(at_s, lambda n=n, jobs=jobs: self.submit(f"key {n}", jobs))

    def ask(self, do: Callable[[AppContext], Any], then: Callable[[int, Any], None]) -> None:
        """Call control until it answers something other than 5xx, as a client with retries does."""
        status, answer = None, None
        try:
            status, answer = self.world.serve(do)
        finally:
            is_lost = status is not None and self.world.fires(Mishap.ANSWER_LOST)
            if is_lost or status is None or status >= 500:
                if not self.world.is_dead_for_ever:
                    wait_s = ROOM_AGAIN_S if status == FULL else ASK_AGAIN_S
                    self.world.after(wait_s, lambda: self.ask(do, then))
            else:
                then(status, answer)

    # --- submit ---------------------------------------------------------------------------------------

    def submit(self, key: str, jobs: list[int]) -> None:
        """Submit a batch under a key, and later perhaps once more."""

        def do(context: AppContext) -> str:
            if self.world.swarm.can_expire:
                batch_id = self._submit_if_it_fits(context, key, jobs)
            else:
                batch_id = batches.submit(context.store, planned(jobs), key=key, request_sha256=str(jobs))
            context.wake()
            return batch_id

        def then(status: int, batch_id: str) -> None:
            assert status == 200, batch_id
            if self.world.oracle.submit_acknowledged(key, batch_id):
                self.plan_changes(batch_id)
            if self.world.fires(Mishap.SUBMIT_AGAIN):
                self.world.after(self.world.injector.uniform(0, 60), lambda: self.ask(do, then))

        self.ask(do, then)

    def _submit_if_it_fits(self, context: AppContext, key: str, jobs: list[int]) -> str:
        """Submit with a video of its own, and tell the judge the answer and what a quote says before it."""
        world, judge, asked_at = self.world, self.world.oracle.storage, self.world.t
        source = Source(**VIDEO, id=new_id("src"), created_at=context.clock())
        plan = planned(jobs, source.id)
        known = "SELECT 1 FROM idempotencykey WHERE key = ?"
        is_new = world.database.judge.execute(known, (key,)).fetchone() is None
        with context.views.session() as session:
            more_bytes = plan.room_bytes + source.size_bytes
            has_room = usage.fits(session, context.settings, context.clock(), more_bytes)

        def answered(*, is_accepted: bool) -> None:
            is_at_once = is_new and world.t == asked_at
            judge.answered(key, is_accepted=is_accepted, fits=has_room if is_at_once else None)

        try:
            batch_id = batches.submit(
                context.store, plan, key=key, request_sha256=str(jobs), arrived=[source]
            )
        except ControlError as error:
            if error.code is Code.STORAGE_FULL:
                answered(is_accepted=False)
            raise
        answered(is_accepted=True)
        return batch_id

    def plan_changes(self, batch_id: str) -> None:
        """Draw what the user will do to a batch."""
        world = self.world
        if world.rates.get(Mishap.SHARE):
            Sharer(world, self, batch_id).begin()
        for mishap, act in (
            (Mishap.CANCEL, self.cancel),
            (Mishap.RETRY, self.retry),
            (Mishap.RETRY, self.retry),
            (Mishap.DELETE, self.delete),
        ):
            if world.injector.random() < world.rates.get(mishap, 0.0):
                latest_s = max(1.0, min(300.0, world.swarm.faults_s - world.t))
                world.after(world.injector.uniform(0, latest_s), lambda act=act: act(batch_id))

    # --- changes --------------------------------------------------------------------------------------

    def cancel(self, batch_id: str) -> None:
        """Cancel a batch or one of its jobs."""
        chance = self.world.injector.random()

        def do(context: AppContext) -> list[str]:
            jobs = list(context.views.job_ids(Batch, batch_id))
            wanted = jobs if chance < 0.6 else jobs[:1]
            self.world.say(f"cancel {[job[-6:] for job in wanted]}")
            changes.cancel(context.store, wanted)
            context.wake()
            return wanted

        def then(status: int, jobs: list[str]) -> None:
            self.world.hits[Mishap.CANCEL] += 1
            if status == 200:
                self.world.oracle.cancel_acknowledged(jobs)

        self.ask(do, then)

    def retry(self, batch_id: str) -> None:
        """Retry a batch."""

        was_deleted = False

        def do(context: AppContext) -> list[str]:
            nonlocal was_deleted
            was_deleted = batch_id in self.world.oracle.deleted_for_sure
            jobs = list(context.views.job_ids(Batch, batch_id))
            self.world.oracle.retry_asked(jobs)
            changes.retry(context.store, jobs)
            context.wake()
            return jobs

        def then(status: int, _: Any) -> None:
            self.world.hits[Mishap.RETRY] += status == 200
            self.world.hits[Mishap.RETRY_DELETED] += was_deleted
            if was_deleted and status != 404:
                self.world.oracle.fail(f"I9: {batch_id} was deleted, and its retry is answered {status}")

        self.ask(do, then)

    def delete(self, batch_id: str) -> None:
        """Delete a batch."""

        def do(context: AppContext) -> list[str]:
            jobs = list(context.views.job_ids(Batch, batch_id))
            self.world.oracle.delete_asked(batch_id)
            changes.delete(context.store, batch_id)
            context.wake()
            return jobs

        def then(status: int, jobs: list[str]) -> None:
            self.world.hits[Mishap.DELETE] += 1
            if status == 200:
                self.world.oracle.delete_acknowledged(batch_id, jobs)

        self.ask(do, then)


def planned(jobs: list[int], source_id: str = "src_1") -> PlannedBatch:
    """Return a batch with so many outputs in each job, and bytes enough for many tries of each."""
    count = iter(range(1, 1000))
    outputs = [[_output(next(count), source_id) for _ in range(size)] for size in jobs]
    return PlannedBatch(
        seed=7,
        variations=max(jobs),
        jobs=outputs,
        schedule=schedule([len(job) for job in outputs], each_s=0.0, each_bytes=AMPLE_BYTES, usd=0.0),
    )


def schedule(jobs: list[int], *, each_s: float, each_bytes: int, usd: float) -> Schedule:
    """Return the estimates of jobs with so many outputs: each takes so long, and may send so much."""
    assignments = [
        Assignment(work_units=[_work_unit(outputs, each_s, each_bytes)], seconds=each_s, usd=usd)
        for outputs in jobs
    ]
    return Schedule(size="performance-1x", assignments=assignments, makespan_s=each_s)


def _work_unit(outputs: int, work_s: float, each_bytes: int) -> WorkUnit:
    return WorkUnit(
        source=0,
        outputs=range(outputs),
        work_s=work_s,
        longest_s=1,
        fetch_s=1,
        likely_bytes=each_bytes * outputs,
        bytes_max=each_bytes * outputs,
        room_bytes=ROOM_BYTES * outputs,
    )


def _output(number: int, source_id: str) -> PlannedOutput:
    name = f"ad/ad_var{number:02d}.mp4"
    return PlannedOutput(
        output_id=new_id("out"), source_id=source_id, variation=number, name=name, effects=EFFECTS
    )
