"""I11 and L8 for the judge: what has ended can be fetched for its grace, and the cap of the storage is kept.

Counted from the judge's own record of ends and from the rows of outputs, not by the core's sums. `fixed` are
the bytes that no eviction may free: what batches that are live, or ended within EVICT_GRACE_S, have stored,
and for live jobs at least what their plan may store. A submit is accepted only while all `fixed` bytes
fit the cap. Above it come, as the contract allows: results of older batches until the next pass has evicted
them, retries (never refused for space), files of attempts that have failed, and files that are being deleted.
"""

from __future__ import annotations

from collections.abc import Iterable

from tests.sim.protocol import SimWorld
from tests.sim.swarm import ROOM_BYTES, Mishap

ENDED = ("completed", "failed", "cancelled", "expired")
EPSILON_S = 0.001  # rows round times to microseconds

JOBS = """SELECT job.batch_id, job.status, count(*) * ?,
    sum(CASE WHEN output.state = 'ready' AND output.key IS NOT NULL THEN output.size_bytes ELSE 0 END)
  FROM job JOIN output ON output.job_id = job.id JOIN batch ON batch.id = job.batch_id
  WHERE batch.deleted_at IS NULL GROUP BY job.id"""


class StorageJudge:
    """Told of jobs that changed, and of what users were told; raises what is wrong through the oracle."""

    def __init__(self, world: SimWorld) -> None:
        self._world, self._ask = world, world.database.judge.execute
        self._ended_at: dict[str, float] = {}  # of batches, since their last job ended
        self._expired: dict[str, set[str]] = {}  # the keys of their outputs, by batch
        self._batches = set[str]()
        self.refused = set[str]()  # keys of submits that had no room, and have none yet
        self.retried = False

    @property
    def is_on(self) -> bool:
        """True in a world whose results can expire."""
        return self._world.swarm.can_expire

    # --- what ends, and what expires ------------------------------------------------------------------

    def expired(self, job_id: str, keys: Iterable[str]) -> None:
        """Check that a job may expire now, with these files."""
        (batch_id,) = self._ask("SELECT batch_id FROM job WHERE id = ?", (job_id,)).fetchone()
        settings, ended_at = self._world.settings, self._ended_at.get(batch_id)
        if ended_at is None:
            self._world.oracle.fail(f"I11: {batch_id} has expired, and is live")
            return
        age_s = self._world.t - ended_at + EPSILON_S
        is_due = age_s >= settings.retention_hours * 3600
        if batch_id not in self._expired:
            self._world.hits[Mishap.EXPIRED if is_due else Mishap.EVICTED] += 1
        if batch_id not in self._expired and not is_due:
            if age_s < settings.evict_grace_s:
                self._world.oracle.fail(f"I11: {batch_id} is evicted {age_s:.1f} s after its end")
            if older := [id_ for id_ in self._evictable() if self._ended_at[id_] < ended_at]:
                self._world.oracle.fail(f"I11: {batch_id} is evicted before {older}")
        self._expired.setdefault(batch_id, set()).update(keys)

    def jobs_changed(self) -> None:
        """Note which batches have ended by now, and since when."""
        live = "SELECT batch_id, sum(status NOT IN (?, ?, ?, ?)) FROM job GROUP BY batch_id"
        for batch_id, left in self._ask(live, ENDED):
            if left:
                self._ended_at.pop(batch_id, None)
            else:
                self._ended_at.setdefault(batch_id, self._world.t)

    def may_be_fetched(self, batch_id: str) -> bool:
        """Return whether a batch has ended, and neither its grace nor its retention is over."""
        settings, ended_at = self._world.settings, self._ended_at.get(batch_id)
        kept_s = min(settings.evict_grace_s, settings.retention_hours * 3600)
        return ended_at is not None and self._world.t - ended_at + EPSILON_S < kept_s

    def is_over(self, batch_id: str) -> bool:
        """Return whether a batch has expired."""
        ended_at, kept_s = self._ended_at.get(batch_id), self._world.settings.retention_hours * 3600
        is_due = ended_at is not None and self._world.t - ended_at > kept_s + EPSILON_S
        return batch_id in self._expired or is_due

    # --- room -----------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check that what cannot be evicted fits the cap."""
        batches = {batch_id for (batch_id,) in self._ask("SELECT id FROM batch")}
        is_accepted = bool(batches - self._batches)
        self._batches = batches
        cap, fixed = self._world.settings.storage_cap_bytes, self._fixed_bytes()
        if fixed > cap and (is_accepted or not self.retried):
            self._world.oracle.fail(f"I11: {fixed} bytes cannot be evicted, and the cap is {cap}")

    def _fixed_bytes(self) -> int:
        fixed = 0
        for batch_id, status, room_bytes, stored_bytes in self._ask(JOBS, (ROOM_BYTES,)):
            if batch_id not in self._ended_at:
                fixed += stored_bytes if status in ENDED else max(stored_bytes, room_bytes)
            elif self.may_be_fetched(batch_id):
                fixed += stored_bytes
        return fixed

    def after_pass(self) -> None:
        """Check what is left when `expire` has ended, at the instant at which it began.

        The files of a batch that its user has deleted as well are left to `forget`.
        """
        kept = {id_ for (id_,) in self._ask("SELECT id FROM batch WHERE deleted_at IS NULL")}
        expired = [key for id_, keys in self._expired.items() if id_ in kept for key in keys]
        left = [key for key in expired if key in self._world.bucket.objects]
        if left:
            self._world.oracle.fail(f"I11: files of expired batches stay: {left}")
        cap = self._world.settings.storage_cap_bytes
        used = sum(stored_bytes for *_, stored_bytes in self._ask(JOBS, (ROOM_BYTES,)))
        if used > cap and (left := self._evictable()):
            self._world.oracle.fail(f"I11: {used} bytes are stored, the cap is {cap}, and {left} stay")

    def _evictable(self) -> list[str]:
        """Return the batches that hold results and whose grace is over, except those that have expired."""
        stored = {batch_id for batch_id, *_, stored_bytes in self._ask(JOBS, (ROOM_BYTES,)) if stored_bytes}
        old = [id_ for id_ in self._ended_at if id_ in stored and not self.may_be_fetched(id_)]
        return [id_ for id_ in old if id_ not in self._expired]

    # --- what users were told -------------------------------------------------------------------------

    def answered(self, key: str, *, is_accepted: bool, fits: bool | None) -> None:
        """Note the answer to a submit, and what a quote has said at the same instant, if that is known."""
        if not is_accepted:
            self._world.hits[Mishap.STORAGE_FULL] += 1
            self.refused.add(key)
        elif key in self.refused:
            self.refused.remove(key)
        if fits is not None and fits != is_accepted:
            self._world.oracle.fail(
                f"I11: a quote says fits = {fits}, and the submit of {key} is the opposite"
            )

    def is_idle(self) -> bool:
        """Return whether no submit waits for room, and no file for its deletion."""
        objects = self._world.bucket.objects
        return not self.refused and not any(key in objects for keys in self._expired.values() for key in keys)

    def at_rest(self) -> None:
        """Check L8: whoever was refused had room in the end."""
        if not self.is_idle():
            self._world.oracle.fail(f"L8: submits that never had room: {sorted(self.refused)}, or files stay")
