"""The judge of the invariants (docs/glossary.md), from durable state and from Fly's own truth.

Shares nothing with the core: SQL on a connection of its own, the trace that triggers keep, the model's
machines, the bucket's objects, and what users were told. Budgets (I7) are judged in `budget.py`, storage
(I11) in `storage.py`, share links (I12) in `links.py`; what streams say (the second half of I8) in
tests/control/http/test_sse.py, and not here.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import Any

from infra.flysim.faults import FailPoint
from runner.contract import CLAIM_TIMEOUT_S
from tests.sim.budget import overrun
from tests.sim.links import LinkJudge
from tests.sim.protocol import SimWorld
from tests.sim.storage import StorageJudge
from tests.sim.swarm import Mishap

ENDED = frozenset({"completed", "failed", "cancelled", "expired"})
ATTEMPT_ENDED = frozenset({"succeeded", "failed", "lost", "cancelled"})
LEGAL = {  # of an attempt; written down once more, not imported
    ("launching", "booting"),
    ("launching", "running"),
    ("booting", "running"),
    *(
        (state, end)
        for state in ("launching", "booting", "running")
        for end in ("failed", "lost", "cancelled")
    ),
    ("running", "succeeded"),
}
# with these a runner that works may yet fall silent
EXCUSES = frozenset(
    {
        Mishap.MESSAGE_LOST, Mishap.MESSAGE_LATE, Mishap.SLOW_CALL, Mishap.RUNNER_CUT_OFF, Mishap.ZOMBIE_MUTE,
    }
)  # fmt: skip
# with these Fly shows, or does, less than it was asked to, or later
HINDRANCES = frozenset(
    {
        FailPoint.REFUSED, FailPoint.UNAVAILABLE, FailPoint.READ_LOST, FailPoint.END_LOST_DONE,
        FailPoint.END_LOST_UNDONE, FailPoint.UNSEEN, FailPoint.EMPTY_LIST, FailPoint.PARTIAL_LIST,
        FailPoint.APP_REFUSED, FailPoint.LATE_DESTROY, FailPoint.HOST_CUT_OFF, FailPoint.HOST_DOWN,
        Mishap.CRASH, Mishap.CRASH_IN_CREATE, Mishap.AWAY, Mishap.SLOW_CALL, Mishap.CREATE_LATE,
        Mishap.TOKEN_REFUSED, Mishap.DISK_FULL, Mishap.CLOCK_STEP,
    }
)  # fmt: skip
CANCEL_BOUND_S = 60.0  # in a world where nothing but users and the bucket disturbs
TWIN_BOUND_S = 90.0  # in a world without hindrances; a list may lag
USERS = frozenset({Mishap.CANCEL, Mishap.RETRY, Mishap.DELETE, Mishap.SUBMIT_AGAIN, Mishap.RENDER_FAILED})
DEADLINE_SLACK_S = 6.0


class Violation(Exception):
    """An invariant does not hold."""

    def __init__(self, world: SimWorld, text: str) -> None:
        super().__init__(f"seed {world.seed} at {world.t:.2f} s: {text}")


class Oracle:
    """Told what users heard; asked to check after every event and at rest."""

    def __init__(self, world: SimWorld) -> None:
        self.world, self.sql = world, world.database.judge
        self._version = -1
        self._bucket_seen, self._n, self._event_id = 0, 0, 0
        self.keys: dict[str, str] = {}
        self.deleted: set[str] = set()  # asked for, maybe done
        self.deleted_for_sure: dict[str, list[str]] = {}
        self.cancelled_at: dict[str, float] = {}
        self.retries_asked = Counter[str]()
        self.ends, self.restarts, self.retried = Counter[str](), Counter[str](), Counter[str]()
        self.attempts: dict[str, str] = {}
        self.owners: dict[str, str] = {}
        self.ready: dict[str, tuple[str, str, int, str]] = {}
        self.gone: dict[str, str] = {}
        self.attempts_of: dict[str, set[str]] = defaultdict(set)
        self.batches = set[str]()
        self.ended_events = Counter[str]()
        self.finishes = Counter[str]()
        self.owned_since: dict[str, float] = {}
        faults = {
            *world.swarm.rates,
            *world.swarm.fly.rates,
            *(window.fail_point for window in world.swarm.fly.windows),
            *(one.fail_point for one in world.swarm.fly.windows),
        }
        self._is_hindered = (
            bool(faults & HINDRANCES) or world.fail_at is not None or world.crash_at is not None
        )
        self._may_have_twins = bool(faults & {FailPoint.TWIN, FailPoint.LIST_LAG})
        self.storage, self.links = StorageJudge(world), LinkJudge(world)

    def fail(self, text: str) -> None:
        """Raise that an invariant does not hold."""
        raise Violation(self.world, text)

    def version(self) -> int:
        """Return a number that changes with every commit of control."""
        return self.world.database.version()

    # --- what users were told -------------------------------------------------------------------------

    def submit_acknowledged(self, key: str, batch_id: str) -> bool:
        """Note an answer to a submit; return whether it is the first under its key."""
        first = self.keys.setdefault(key, batch_id)
        if first != batch_id and first not in self.deleted:
            self.fail(f"I1: {key} was {first} and now is {batch_id}")
        is_new = batch_id not in self.batches
        self.batches.add(batch_id)
        self.keys[key] = batch_id
        self._version = -1
        return is_new

    def cancel_acknowledged(self, jobs: list[str]) -> None:
        """Note that these jobs are cancelled or had ended."""
        for job_id in jobs:
            status = self.sql.execute("SELECT status FROM job WHERE id = ?", (job_id,)).fetchone()
            if status is not None and status[0] in ENDED:
                self.cancelled_at[job_id] = self.world.t
            elif status is not None and not self.retries_asked[job_id]:
                self.fail(f"I9: {job_id} is {status[0]} after its cancel was acknowledged")

    def retry_asked(self, jobs: list[str]) -> None:
        """Note that a user is about to retry these jobs."""
        for job_id in jobs:
            self.retries_asked[job_id] += 1
            self.storage.retried = True
            self.cancelled_at.pop(job_id, None)

    def delete_asked(self, batch_id: str) -> None:
        """Note that a user is about to delete a batch."""
        self.deleted.add(batch_id)

    def delete_acknowledged(self, batch_id: str, jobs: list[str]) -> None:
        """Note that a batch is deleted."""
        self.deleted_for_sure[batch_id] = jobs
        self.cancel_acknowledged(jobs)

    def create_asked(self, job_id: str, attempt_id: str) -> None:
        """Note that control is about to ask Fly for a machine."""
        if job_id in self.cancelled_at:
            self.fail(f"I9: a machine is asked for {attempt_id} after the cancel of its job was acknowledged")

    # --- after every event ----------------------------------------------------------------------------

    def check(self) -> None:
        """Check all that may have changed since the last time."""
        self._check_cap()
        self._check_cancels()
        self._check_twins()
        version = self.version()
        if version == self._version and self.world.bucket.changes == self._bucket_seen:
            return
        self._version, self._bucket_seen = version, self.world.bucket.changes
        rows = self.sql.execute("SELECT * FROM trace WHERE n > ? ORDER BY n", (self._n,)).fetchall()
        was_ended = {id_ for id_, state in self.attempts.items() if state in ATTEMPT_ENDED}
        jobs: set[str] = set()
        for n, what, id_, a, b, c, d in rows:
            self._n = n
            getattr(self, "_on_" + what)(id_, a, b, c, d)
            if what == "job":
                jobs.add(id_)
            if what == "output":
                self._check_output(id_, a, b, json.loads(c), json.loads(d), was_ended)
        for job_id in jobs:
            self._check_job(job_id)
        if self.storage.is_on:
            if jobs:
                self.storage.jobs_changed()
            self.storage.check()
        self._check_submits()
        self._check_ready()
        if money := overrun(self.world):
            self.fail(money)

    def _on_job(self, id_: str, old: str | None, new: str | None, *_: Any) -> None:
        if new is None:  # its row was removed
            return
        if old is None:
            return
        if new == "expired" and old in ENDED:
            self._expire(id_)
            return
        if new in ENDED:
            self.ends[id_] += 1
            if old in ENDED:
                self.fail(f"I2: job {id_} went from {old} to {new}")
        if old in ENDED:
            self.restarts[id_] += 1
            self.cancelled_at.pop(id_, None)  # by a retry that was asked before the cancel's answer came
            if new != "queued":
                self.fail(f"I2: job {id_} left its end {old} for {new}")

    def _expire(self, job_id: str) -> None:
        """Forget the outputs of an expired job: their files may go now."""
        mine = "SELECT id FROM output WHERE job_id = ?"
        outputs = {id_ for (id_,) in self.sql.execute(mine, (job_id,))} & self.ready.keys()
        self.storage.expired(job_id, [self.ready.pop(id_)[0] for id_ in outputs])

    def _on_attempt(self, id_: str, old: str | None, new: str, job_id: str, *_: Any) -> None:
        if old is None:
            self.attempts_of[job_id].add(id_)
            if job_id in self.cancelled_at:
                self.fail(f"I9: {id_} starts after its job's cancel was acknowledged")
        elif (old, new) not in LEGAL:
            self.fail(f"I4: attempt {id_} moved from {old} to {new}")
        self.attempts[id_] = new
        if new == "lost":
            self._check_loss(id_)
        if new in ATTEMPT_ENDED:
            self._check_deadline(id_)
        live = [one for one in self.attempts_of[job_id] if self.attempts[one] not in ATTEMPT_ENDED]
        if len(live) > 1:
            self.fail(f"I4: job {job_id} has live attempts {live}")

    def _check_loss(self, id_: str) -> None:
        """L5: a runner that lives and reaches control is not given up for lost."""
        runner = self.world.runners.get(self.owners.get(id_, ""))
        reason = self.sql.execute("SELECT reason FROM attempt WHERE id = ?", (id_,)).fetchone()
        is_undisturbed = not EXCUSES.intersection(self.world.swarm.rates)
        if (
            is_undisturbed
            and reason == ("lease_expired",)
            and runner
            and runner.total  # it has heard the answer to its claim
            and runner.alive
            and not runner.is_muted
        ):
            self.fail(f"L5: {id_} is given up for lost, and its runner works")

    def _check_deadline(self, id_: str) -> None:
        """L5: control ends no attempt for its run deadline before that has come, whatever its clock shows.

        A control that starts trusts the clock of its machine, so it cannot know of a step before its start.
        """
        given_up = "SELECT wall_s FROM attempt WHERE id = ? AND reason = ? AND finish_digest IS NULL"
        for (wall_s,) in self.sql.execute(given_up, (id_, "run_deadline")):
            run_s = min(self.world.settings.run_timeout_s, wall_s)
            since, steps = self.owned_since[id_], self.world.clock_steps_at
            ran_s, is_excused = self.world.t - since, any(since < t < self.world.started_at for t in steps)
            if ran_s + DEADLINE_SLACK_S < run_s and not is_excused:
                self.fail(f"L5: {id_} is ended for its deadline {ran_s:.0f} s after its claim")

    def _on_owner(self, id_: str, old: str | None, new: str | None, *_: Any) -> None:
        if old is not None:
            self.fail(f"I4: attempt {id_} was claimed by {old} and now by {new}")
        self.owners[id_] = str(new)
        self.owned_since[id_] = self.world.t

    def _on_output(self, *_: Any) -> None:
        return

    def _check_output(
        self, id_: str, old: str, new: str, was: list[Any], now: list[Any], was_ended: set[str]
    ) -> None:
        if old == "ready" and id_ not in self.ready:  # its job has expired
            return
        if old == "ready":
            self.fail(f"I3: output {id_} was ready and became {new} {was} {now}")
        attempt_id = now[0]
        if new in ("ready", "running") and attempt_id in was_ended:
            self.fail(f"I4: {attempt_id} had ended and changed output {id_}")
        if new == old == "running" and was[0] == now[0] and now[1] < was[1]:
            self.fail(f"I8: progress of {id_} went from {was[1]} to {now[1]}")
        if new == "ready":
            self.ready[id_] = (now[2], now[3], now[4], now[5])
            item = self.world.bucket.objects.get(now[2])
            if item is None:
                self.fail(f"I3: {id_} is ready without an object")
            elif item.machine_id != self.owners.get(attempt_id):
                self.fail(f"I4: {id_} is ready by {item.machine_id}, which does not own {attempt_id}")

    def _on_gone(self, id_: str, old: str | None, new: str | None, *_: Any) -> None:
        if old is not None:
            self.fail(f"I5: machine {id_} was gone at {old} and now at {new}")
        self.gone[id_] = str(new)
        machine = next((one for one in self.world.fly.truth() if one.id == id_), None)
        if machine is not None and machine.state != "destroyed":
            self.fail(f"I5: machine {id_} counts as gone and is {machine.state}")

    def _on_cost(self, id_: str, old: float, new: float, *_: Any) -> None:
        self.fail(f"I5: the cost of {id_} was counted as {old} and then as {new}")

    def _on_unledgered(self, id_: str, *_: Any) -> None:
        self.fail(f"I5: machine {id_} was taken out of the ledger")

    def _on_event(self, id_: str, job_id: str, name: str, attempt_id: str, accepted: int) -> None:
        if int(id_) <= self._event_id:
            self.fail(f"I8: event {id_} came after {self._event_id}")
        self._event_id = int(id_)
        if name == "retried":
            self.retried[job_id] += 1
        if name.startswith("finished_") and accepted:
            self.finishes[attempt_id] += 1
            if self.finishes[attempt_id] > 1:
                self.fail(f"I2: {attempt_id} has been finished once more")
        if name in ("job_completed", "job_failed", "job_cancelled"):
            self.ended_events[job_id] += 1
            if self.ended_events[job_id] > 1 + self.retried[job_id]:
                self.fail(f"I2: {job_id} has told once more that it ended")

    def _check_job(self, job_id: str) -> None:
        row = self.sql.execute("SELECT status, partial FROM job WHERE id = ?", (job_id,)).fetchone()
        if row is None:
            return
        if self.restarts[job_id] != self.retried[job_id] or self.retried[job_id] > self.retries_asked[job_id]:
            self.fail(f"I2: job {job_id} left its end without a user's retry")
        counted = (  # a machine that Fly does not start in time costs the job no attempt
            "SELECT count(*) FROM attempt WHERE job_id = ? AND machine_id IS NOT NULL"
            " AND coalesce(reason, '') != 'boot_deadline'"
        )
        tries = self.sql.execute(counted, (job_id,)).fetchone()[0]
        if tries > self.world.settings.attempts_max * (1 + self.retried[job_id]):
            self.fail(f"L1: job {job_id} has had {tries} attempts")
        status, partial = row
        if status not in ENDED or status == "expired":
            return
        states = Counter(
            state for (state,) in self.sql.execute("SELECT state FROM output WHERE job_id = ?", (job_id,))
        )
        ready, total = states["ready"], sum(states.values())
        refused = "SELECT id FROM attempt WHERE job_id = ? AND reason = 'launch_refused'"
        if self.sql.execute(refused, (job_id,)).fetchone():
            self.fail(f"L6: job {job_id} ended for a refusal that an operator or time ends")
        self._check_boots(job_id)
        if states["queued"] or states["running"]:
            self.fail(f"I2: job {job_id} is {status} and its outputs are {dict(states)}")
        if (status == "completed") != (
            ready == total or (bool(partial) and ready > 0 and status != "cancelled")
        ):
            self.fail(f"I2: job {job_id} is {status} (partial {partial}) and its outputs are {dict(states)}")
        if any(self.attempts[one] not in ATTEMPT_ENDED for one in self.attempts_of[job_id]):
            self.fail(f"I2: job {job_id} is {status} and an attempt of it lives")

    def _check_boots(self, job_id: str) -> None:
        """L7: machines that Fly never started use up no attempt of a job."""
        given_up = "SELECT count(*) FROM output WHERE job_id = ? AND error_code = 'boot_deadline'"
        if not self.sql.execute(given_up, (job_id,)).fetchone()[0]:
            return
        used = (
            "SELECT count(*), (SELECT attempts_max FROM job WHERE id = attempt.job_id) FROM attempt"
            " LEFT JOIN machine ON machine.app = attempt.app AND machine.id = attempt.machine_id"
            " WHERE attempt.job_id = ? AND attempt.machine_id IS NOT NULL"
            " AND (coalesce(attempt.reason, '') != 'boot_deadline' OR machine.started_at IS NOT NULL)"
        )
        tries, most = self.sql.execute(used, (job_id,)).fetchone()
        if tries < (most or 1):
            self.fail(f"L7: job {job_id} was given up for boots, after {tries} attempts of {most}")

    def _check_submits(self) -> None:
        stored = dict(self.sql.execute("SELECT key, batch_id FROM idempotencykey"))
        for key, batch_id in self.keys.items():
            if batch_id not in self.deleted and stored.get(key) != batch_id:
                self.fail(f"I1: {key} was acknowledged as {batch_id} and the rows say {stored.get(key)}")
        for (batch_id,) in self.sql.execute("SELECT id FROM batch"):
            if batch_id not in stored.values():
                self.fail(f"I1: {batch_id} was stored without its key: the next try makes another")

    def _check_ready(self) -> None:
        removed = self._removed()
        for output_id, (key, etag, size_bytes, sha256) in self.ready.items():
            item = self.world.bucket.objects.get(key)
            is_so = item is not None and (item.md5, item.size_bytes, item.sha256) == (
                etag,
                size_bytes,
                sha256,
            )
            if not is_so and output_id not in removed:
                self.fail(f"I3: {output_id} is listed ready and its object is {item}")

    def _removed(self) -> set[str]:
        """Return the ready outputs whose batch a user has deleted."""
        if not self.deleted:
            return set()
        kept = "SELECT output.id FROM output JOIN batch ON batch.id = batch_id WHERE batch.deleted_at IS NULL"
        return set(self.ready) - {id_ for (id_,) in self.sql.execute(kept)}

    def _check_cap(self) -> None:
        """I6; a twin is a second machine that Fly makes of one name, and cannot be known beforehand."""
        alive = [machine.name for machine in self.world.fly.truth() if machine.state != "destroyed"]
        most = self.world.settings.max_machines
        if len(alive) > most:
            twins = self.world.fly.hits[FailPoint.TWIN]
            if len(set(alive)) > most or len(alive) > most + twins:
                self.fail(f"I6: {len(alive)} machines live, {most} may: {sorted(alive)}")

    # --- at rest --------------------------------------------------------------------------------------

    def _check_cancels(self) -> None:
        """I9: in a world without faults the machines of a cancelled job are gone within the bound."""
        fly = self.world.swarm.fly
        if fly.rates or fly.windows or not USERS.issuperset(self.world.swarm.rates):
            return
        for machine in self.world.fly.truth():
            since = self.cancelled_at.get(machine.config["metadata"]["job"])
            if machine.state != "destroyed" and since is not None and self.world.t > since + CANCEL_BOUND_S:
                self.fail(f"I9: {machine.id} lives {self.world.t - since:.0f} s after its job was cancelled")

    def _check_twins(self) -> None:
        """I4: of machines that do not own their attempt, and of a second one where none can come to be."""
        if self._is_hindered:
            return
        for machine in self.world.fly.truth():
            attempt_id = machine.config["metadata"]["attempt"]
            since = self.owned_since.get(attempt_id, self.world.t)
            is_idle = machine.state != "destroyed" and machine.id != self.owners.get(attempt_id)
            if is_idle and self.world.t > since + TWIN_BOUND_S:
                self.fail(f"I4: {machine.id} still lives, and another has long been given {attempt_id}")
        if not self._may_have_twins:
            names = Counter(machine.name for machine in self.world.fly.truth())
            if doubled := [name for name, count in names.items() if count > 1]:
                self.fail(f"I4: machines were made twice: {doubled}")

    def is_idle(self) -> bool:
        """Return whether nothing is left to do for anybody."""
        world = self.world
        if any(runner.alive for runner in world.runners.values()):
            return False
        if any(machine.state != "destroyed" for machine in world.fly.truth()):
            return False
        left = """SELECT
          (SELECT count(*) FROM job WHERE status NOT IN ('completed', 'failed', 'cancelled', 'expired'))
          + (SELECT count(*) FROM machine WHERE gone_at IS NULL)
          + (SELECT count(*) FROM batch WHERE deleted_at IS NOT NULL)"""
        if not self.storage.is_idle():
            return False
        known = {id_ for (id_,) in self.sql.execute("SELECT id FROM machine")}
        return self.sql.execute(left).fetchone()[0] == 0 and known >= {one.id for one in world.fly.truth()}

    def at_rest(self) -> None:
        """Check what must hold in the end: L1, L2 and I5, or L4 when control never came back."""
        self.check()
        if self.world.swarm.dead_at_s is not None:
            self._at_rest_without_control()
            return
        jobs = self.sql.execute("SELECT id, status FROM job").fetchall()
        if unended := [f"{id_} {status}" for id_, status in jobs if status not in ENDED]:
            self.fail(f"L1: jobs that never ended: {unended}")
        self.storage.at_rest()
        self._no_machine_left()
        self._ledger_is_true()
        for batch_id, job_ids in self.deleted_for_sure.items():
            if self.sql.execute("SELECT 1 FROM batch WHERE id = ?", (batch_id,)).fetchone():
                self.fail(f"L1: the deleted batch {batch_id} is never removed")
            left = [key for key in self.world.bucket.objects if any(job_id in key for job_id in job_ids)]
            if left:
                self.fail(f"L3: objects of a deleted batch stay: {left}")

    def _no_machine_left(self) -> None:
        if left := [f"{one.id} {one.state}" for one in self.world.fly.truth() if one.state != "destroyed"]:
            self.fail(f"L2: machines that never end: {left}")
        if running := [one.machine_id for one in self.world.runners.values() if one.alive]:
            self.fail(f"L2: runners that never end: {running}")

    def _ledger_is_true(self) -> None:
        ledger = {
            id_: (gone_at, seconds, misses)
            for id_, gone_at, seconds, misses in self.sql.execute(
                "SELECT id, gone_at, machine_seconds, misses FROM machine"
            )
        }
        for machine in self.world.fly.truth():
            if machine.id not in ledger:
                self.fail(f"I5: machine {machine.id} is not in the ledger")
            gone_at, seconds, misses = ledger[machine.id]
            if gone_at is None:
                self.fail(f"I5: machine {machine.id} is destroyed and not settled")
            true_s = _billed_s(machine.events)
            if true_s is not None and not misses and abs(seconds - true_s) > 0.01:
                self.fail(f"I5: machine {machine.id} ran for {true_s} s and {seconds} s are counted")
        wrong = """SELECT attempt.id, attempt.cost_usd, machine.cost_usd FROM attempt JOIN machine
          ON machine.id = attempt.machine_id WHERE abs(attempt.cost_usd - machine.cost_usd) > 1e-9"""
        if rows := self.sql.execute(wrong).fetchall():
            self.fail(f"I5: attempts and machines disagree on cost: {rows}")

    def _at_rest_without_control(self) -> None:
        limit_s = self.world.settings.run_timeout_s + CLAIM_TIMEOUT_S + DEADLINE_SLACK_S
        for runner in self.world.runners.values():
            if runner.alive or runner.hard_until > runner.began + limit_s:
                self.fail(f"L4: {runner.machine_id} outlives its deadline")


def _billed_s(events: list[dict[str, Any]]) -> float | None:
    """Return from the model's own record for how long a machine was billed, or None if that is not known."""
    started = [one["timestamp"] for one in events if (one["type"], one["status"]) == ("start", "started")]
    exits = [one["request"]["exit_event"] for one in events if one["type"] == "exit"]
    if not started or not exits:
        return None
    ended_at = datetime.fromisoformat(exits[0]["exited_at"]).astimezone(UTC)
    return (ended_at - datetime.fromtimestamp(min(started) / 1000, UTC)).total_seconds()
