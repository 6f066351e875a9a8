"""The changes by the three calls of a runner. Only the owner of an attempt changes anything, while it runs.

A refused call is counted but writes nothing, not even an event. Otherwise the holder of a token of an ended
attempt could fill the database and the log. One file, since the three calls have the same rules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import PurePosixPath

from control.domain import states
from control.domain.errors import Code, ControlError
from control.domain.states import AttemptState, JobStatus, OutputState, Trigger
from control.store import arguments, leases
from control.store.attempts import FINAL, end_within, follow
from control.store.files import StoredFile
from control.store.tables import Attempt, AttemptLog, Delivery, Output, Source
from control.store.transaction import Store, Transaction
from control.telemetry import counters
from runner.contract import (
    NOTES_MAX,
    Finish,
    Heartbeat,
    OutputFile,
    OutputReport,
    Preset,
    Reason,
    SourceReport,
    without_queries,
)

_FORM = "2:"  # before the digest of a finish; earlier releases stored it bare
_UNNAMED = ""  # the machine id from a runner of an older version, which does not send one


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What control found in the bucket for an output that was reported ready."""

    file: StoredFile
    playlist: StoredFile | None = None
    poster: StoredFile | None = None

    @property
    def stored_bytes(self) -> int:
        """The size of all files together."""
        return sum(file.size_bytes for file in (self.file, self.playlist, self.poster) if file)


Verified = Mapping[str, Seen]  # by the output's id


def claim(store: Store, attempt_id: str, machine_id: str) -> None:
    """Give the attempt to the first machine that claims it; the same machine may claim it again.

    Raises ControlError: not_found, superseded (it has ended, or another machine owns it).
    """
    with store.transaction() as tx:
        attempt = tx.attempt(attempt_id)
        if not _is_free(attempt):
            if attempt.claimed_by != machine_id or attempt.state != AttemptState.RUNNING:
                raise _superseded()
            _lease(store, tx, attempt)  # the machine is alive and sends no heartbeat before this answer
        elif states.move(AttemptState(attempt.state), Trigger.CLAIMED) is None:
            raise _superseded()
        else:
            run = _begin(tx, attempt, machine_id)
            # Now, since the wall clock may step before `watch` looks.
            store.leases.of_row(attempt.id, attempt.run_until, run)
            _lease(store, tx, attempt)


def _is_free(attempt: Attempt) -> bool:
    """Return whether no machine has claimed the attempt yet."""
    return attempt.claimed_by is None


def _superseded() -> ControlError:
    """Count a call that comes too late or from another machine, and return the error that answers it."""
    counters.RUNNER_CALLS_REFUSED.labels("superseded").inc()
    return ControlError(Code.SUPERSEDED, "This attempt has ended, or belongs to another machine.")


def _begin(tx: Transaction, attempt: Attempt, machine_id: str) -> timedelta:
    """Record the claim, and return how long the attempt may run from now."""
    launch_s = (tx.now - (attempt.boot_from or tx.now)).total_seconds()
    tx.move(attempt, Trigger.CLAIMED, machine_id=machine_id, launch_s=launch_s)
    attempt.claimed_by = attempt.machine_id = machine_id
    attempt.boot_from = attempt.boot_from or tx.now
    attempt.started_at = tx.now
    run_s = tx.settings.run_timeout_s
    run = timedelta(seconds=run_s if attempt.wall_s is None else min(run_s, attempt.wall_s))
    attempt.run_until = tx.now + run
    follow(tx, tx.job(attempt), JobStatus.RUNNING, attempt)
    return run


def _lease(store: Store, tx: Transaction, attempt: Attempt) -> None:
    """Set the lease of a claim. In memory before the commit: after it, watch may check the lease."""
    lease = leases.length(tx.settings, tx.settings.heartbeat_s)
    attempt.lease_until = tx.now + lease
    store.leases.extend(attempt.id, lease)


def hear(store: Store, attempt_id: str, message: Heartbeat | Finish, *, next_beat_s: float) -> bool:
    """Extend the lease of a running attempt whose owner calls. Return whether it is one. Writes nothing.

    Call it before what the message reports is looked for in the bucket: that may take long or fail, and a
    runner that only repeats its finish sends no beats.
    """
    owner = store.runs_on(attempt_id)
    if owner is None or message.machine_id not in (_UNNAMED, owner):
        return False
    store.leases.extend(attempt_id, leases.length(store.settings, next_beat_s))
    return True


def heartbeat(
    store: Store, attempt_id: str, beat: Heartbeat, verified: Verified, *, next_beat_s: float
) -> bool:
    """Extend the lease and apply what the heartbeat reports, unless it came late or twice.

    A heartbeat without news commits nothing and waits for no other writer. Of the outputs that are reported
    ready, only those in `verified` become ready. Return whether the runner should continue: False after a
    user has cancelled. Raises ControlError: not_found, superseded.
    """
    lease = leases.length(store.settings, next_beat_s)
    if not beat.outputs and hear(store, attempt_id, beat, next_beat_s=next_beat_s):
        return True
    with store.transaction() as tx:
        attempt = tx.attempt(attempt_id)
        is_owner = beat.machine_id in (_UNNAMED, attempt.claimed_by)
        if is_owner and attempt.state == AttemptState.CANCELLED:
            return False
        if not _may_report(attempt, is_owner=is_owner):
            raise _superseded()
        store.leases.extend(attempt_id, lease)
        if _is_newer(beat, attempt):
            attempt.seq = beat.seq
            _take(tx, attempt, beat.outputs, verified)
    return True


def _may_report(attempt: Attempt, *, is_owner: bool) -> bool:
    """Return whether a call of a runner may change the attempt."""
    return is_owner and attempt.state == AttemptState.RUNNING


def _is_newer(beat: Heartbeat, attempt: Attempt) -> bool:
    """Return whether no later heartbeat has been applied, nor this one itself."""
    return beat.seq > attempt.seq


def finish(store: Store, attempt_id: str, message: Finish, verified: Verified) -> None:
    """Apply the last report and end the attempt. An identical repeat is accepted and changes nothing.

    If the attempt has already ended in another way, the first finish of its owner is refused too, but its
    count of sent bytes and the end of its log are stored. Raises ControlError: not_found, superseded.
    """
    digest = _digest(message)
    with store.transaction() as tx:
        attempt = tx.attempt(attempt_id)
        is_owner = message.machine_id in (_UNNAMED, attempt.claimed_by)
        accepted = _may_report(attempt, is_owner=is_owner) or (is_owner and _is_repeat(attempt, digest))
        if not accepted:
            if not is_owner or not _note_sent(attempt, message):
                raise _superseded()
            _keep_log(tx, attempt, message)
        elif _is_first(attempt, digest):
            # a runner that reports its end sends no beats, and repeats this call while it cannot be stored
            store.leases.extend(attempt_id, leases.length(tx.settings, tx.settings.heartbeat_s))
            attempt.finish_digest = digest
            _note_sent(attempt, message)
            _keep_log(tx, attempt, message)
            _take(tx, attempt, message.outputs, verified)
            _take_notes(tx, attempt, message.sources)
            _finish(tx, attempt, message)
            worked = message.usage.timings.model_dump()
            tx.note("work_reported", attempt_id=attempt.id, wall_s=message.usage.wall_s, **worked)
    if not accepted:
        raise _superseded()


def _digest(message: Finish) -> str:
    """Return a digest that identifies a finish. A new field with a default does not change it."""
    content = message.model_dump_json(exclude={"machine_id"}, exclude_defaults=True)
    return _FORM + hashlib.sha256(content.encode()).hexdigest()


def _is_repeat(attempt: Attempt, digest: str) -> bool:
    """Return whether a finish with this digest has been applied already.

    A digest without `_FORM` is of an earlier release, of all fields that it knew, so a repeat cannot be
    compared with it. Its attempt has ended, and whatever its owner sends then changes nothing, so any finish
    of its owner counts as the repeat.
    """
    applied = attempt.finish_digest
    return applied == digest or (applied is not None and not applied.startswith(_FORM))


def _is_first(attempt: Attempt, digest: str) -> bool:
    """Return whether a finish with this digest has not been applied yet."""
    return not _is_repeat(attempt, digest)


def _note_sent(attempt: Attempt, message: Finish) -> bool:
    """Store how many bytes the attempt has sent, once. Return whether this call stored it."""
    if attempt.sent_bytes is not None or message.usage.sent_bytes is None:
        return False
    attempt.sent_bytes = message.usage.sent_bytes
    return True


def _keep_log(tx: Transaction, attempt: Attempt, message: Finish) -> None:
    """Store the end of the log of a runner that reports a failure. It may be anyone's text: no URL stays."""
    if message.outcome == "error" and message.log_tail:
        tx.session.add(AttemptLog(attempt_id=attempt.id, tail=without_queries(message.log_tail)))


def _finish(tx: Transaction, attempt: Attempt, message: Finish) -> None:
    missing = [output.id for output in tx.outputs(attempt.job_id) if output.state not in FINAL]
    if message.outcome == "cancelled":
        end_within(tx, attempt, Trigger.FINISHED_CANCELLED, Reason.CANCELLED, message.detail)
    elif message.outcome == "error":
        reason = message.reason or Reason.RUNNER_CRASHED
        end_within(tx, attempt, Trigger.FINISHED_ERROR, reason, message.detail)
    elif missing:
        detail = f"{len(missing)} outputs are not in the bucket as reported"
        end_within(tx, attempt, Trigger.FINISHED_ERROR, Reason.STORAGE_UNAVAILABLE, detail)
    else:
        end_within(tx, attempt, Trigger.FINISHED_OK, None, "")


def _take(tx: Transaction, attempt: Attempt, reports: Sequence[OutputReport], verified: Verified) -> None:
    outputs = {output.id: output for output in tx.outputs(attempt.job_id)}
    for report in reports:
        output = outputs.get(report.output_id)
        if output is not None and output.state not in FINAL:
            output.attempt_id = attempt.id
            _take_one(tx, attempt, output, report, verified)


def _take_notes(tx: Transaction, attempt: Attempt, reports: Sequence[SourceReport]) -> None:
    mine = {output.source_id for output in tx.outputs(attempt.job_id)}
    for report in reports:
        if report.source_id in mine:
            source = tx.session.get_one(Source, report.source_id)
            notes = [*(source.notes or []), *report.notes]
            source.notes = list(dict.fromkeys(notes))[:NOTES_MAX]


def _take_one(
    tx: Transaction, attempt: Attempt, output: Output, report: OutputReport, verified: Verified
) -> None:
    if report.status == "ready" and report.file and output.id in verified:
        _mark_ready(tx, output, report.file, verified[output.id])
        tx.job(attempt).stored_bytes += verified[output.id].stored_bytes
        _note_delivery(tx, output, report)
        if report.variety:
            output.variety_source, output.variety_sibling = report.variety.source, report.variety.sibling
        size_bytes = verified[output.id].file.size_bytes
        tx.event("output_ready", tx.job(attempt), attempt, output_id=output.id, size_bytes=size_bytes)
    elif report.status == "failed" and report.error:
        output.state = OutputState.FAILED
        output.error_code, output.error_message = report.error.code, report.error.message
        tx.event("output_failed", tx.job(attempt), attempt, output_id=output.id)
    else:
        output.state = OutputState.RUNNING
        output.percent = _progress(output, report)


def _note_delivery(tx: Transaction, output: Output, report: OutputReport) -> None:
    """Record whether a ready output is at its user's URL too, and forget the URL: it is tried once."""
    delivery = tx.session.get(Delivery, output.id) if output.delivered is not None else None
    if delivery is not None:
        tx.session.delete(delivery)
        output.delivered, output.delivery_error = report.delivery_error is None, report.delivery_error


def _progress(output: Output, report: OutputReport) -> float:
    """Return the progress of an output in percent. It never decreases."""
    return max(output.percent, report.percent)


def _mark_ready(tx: Transaction, output: Output, file: OutputFile, seen: Seen) -> None:
    output.state, output.percent, output.ready_at = OutputState.READY, 100.0, tx.now
    output.key, output.etag = seen.file.key, seen.file.etag
    output.size_bytes, output.sha256, output.crc32 = seen.file.size_bytes, seen.file.sha256, seen.file.crc32
    output.playlist = asdict(seen.playlist) if seen.playlist else None
    output.poster = asdict(seen.poster) if seen.poster else None
    output.duration_s = file.duration_s
    arguments.keep(tx, output, file.ffmpeg_args)
    if output.preset == Preset.COPY:
        output.name = str(PurePosixPath(output.name).with_suffix(f".{file.container}"))
