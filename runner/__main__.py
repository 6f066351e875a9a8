"""The runner's program: one attempt, from the claim to the finish, then the process ends.

It reports its end to control in every case, once the claim has been answered and as long as control answers.
"""

from __future__ import annotations

import os
import resource
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from runner import contract, jail, log
from runner.allowance import Allowance
from runner.contract import Exit, Finish, JobSpec, Reason, Usage
from runner.control_client import CallRefused, ControlClient, Superseded
from runner.deadline import ask_to_stop_after, end_after
from runner.ffmpeg_program import find_ffmpeg
from runner.heartbeat import HeartbeatThread
from runner.job import Job, held_bytes
from runner.log import record
from runner.progress import Progress
from runner.retry import RetryableError
from runner.stop import Stop, Stopped, stop_on_signals
from runner.workspace import workspace

DETAIL_CHARS_MAX = 2000


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The machine's environment, checked."""

    control_url: str
    attempt_id: str
    token: str
    machine_id: str
    run_timeout_s: float
    is_jail_off: bool

    @classmethod
    def read(cls, env: Mapping[str, str]) -> Settings:
        """Return the settings. Raises ValueError that names what is missing or wrong."""
        names = [contract.ENV_CONTROL_URL, contract.ENV_ATTEMPT_ID, contract.ENV_ATTEMPT_TOKEN]
        names += [contract.ENV_MACHINE_ID]
        missing = [name for name in names if not env.get(name)]
        if missing:
            raise ValueError(f"missing in the environment: {', '.join(missing)}")
        try:
            run_timeout_s = float(env.get(contract.ENV_RUN_TIMEOUT_S) or contract.RUN_TIMEOUT_S)
        except ValueError:
            raise ValueError(f"{contract.ENV_RUN_TIMEOUT_S} is not a number of seconds") from None
        return cls(
            control_url=env[contract.ENV_CONTROL_URL],
            attempt_id=env[contract.ENV_ATTEMPT_ID],
            token=env[contract.ENV_ATTEMPT_TOKEN],
            machine_id=env[contract.ENV_MACHINE_ID],
            run_timeout_s=run_timeout_s,
            is_jail_off=env.get(contract.ENV_JAIL) == "off",
        )


def main() -> Exit:
    """Run one attempt and return the exit code."""
    try:
        settings = Settings.read(os.environ)
    except ValueError as error:
        record("misconfigured", detail=str(error))
        return Exit.MISCONFIGURED
    log.hide(settings.token)
    os.umask(0o022)  # FFmpeg reads the source as another user
    if settings.is_jail_off:
        jail.turn_off()
        record("jail_off")
    stop = Stop()
    stop_on_signals(stop)
    end_after(settings.run_timeout_s)
    client = ControlClient(
        base_url=settings.control_url,
        attempt_id=settings.attempt_id,
        token=settings.token,
        machine_id=settings.machine_id,
    )
    try:
        spec = client.claim(stop=stop)
    except Superseded:
        record("superseded")
        return Exit.OK
    except (RetryableError, CallRefused, Stopped) as error:
        record("no_claim", detail=str(error))
        return Exit.NO_CLAIM
    record("claimed", attempt_id=spec.attempt_id, outputs=len(spec.outputs))
    left_s = min(spec.run_timeout_s, settings.run_timeout_s - _wall_s())
    return attempt(client, spec, stop, left_s=left_s)


def attempt(client: ControlClient, spec: JobSpec, stop: Stop, *, left_s: float) -> Exit:
    """Do the work of a claimed attempt, report its end within `left_s` and return the exit code."""
    until = time.monotonic() + left_s
    progress, allowance = Progress(), Allowance(spec.send_bytes_max)
    deadline = ask_to_stop_after(stop, left_s)
    beats = HeartbeatThread(client, progress, stop, next_beat_s=spec.next_beat_s)
    beats.start()
    try:
        program = find_ffmpeg()
        jail.check(program)
        with workspace(held_bytes(spec)) as folder:
            Job(spec, program, folder, progress, allowance, stop).work()
    except jail.JailUnavailable as trouble:
        stop.because(Reason.JAIL_UNAVAILABLE, str(trouble))
        record("jail_unavailable", detail=str(trouble))
    except Exception:  # noqa: BLE001 - control has to know of every failure
        stop.because(Reason.RUNNER_CRASHED)
        stop.detail = _trimmed(traceback.format_exc())
        record("crashed", detail=stop.detail)
    deadline.cancel()
    beats.end()
    end = ending(spec, progress, stop, seq=beats.seq + 1, sent_bytes=allowance.sent_bytes)
    return report(client, end, until=until)


def ending(spec: JobSpec, progress: Progress, stop: Stop, *, seq: int, sent_bytes: int) -> Finish:
    """Return the last message. If every output has ended, the attempt succeeded, even if it was to stop."""
    reports = progress.ended()
    reason = None if len(reports) == len(spec.outputs) else stop.reason
    return Finish(
        seq=seq,
        outcome=_outcome(reason),
        reason=reason,
        detail=stop.detail if reason else "",
        log_tail=contract.without_queries(log.tail()) if _outcome(reason) == "error" else "",
        outputs=reports,
        sources=progress.noted_sources(),
        usage=Usage(wall_s=_wall_s(), cpu_s=_cpu_s(), timings=progress.timings(), sent_bytes=sent_bytes),
    )


def report(client: ControlClient, finish: Finish, *, until: float) -> Exit:
    """Send the last message until control has it and return the exit code."""
    record("finished", outcome=finish.outcome, reason=finish.reason, usage=finish.usage.model_dump())
    try:
        client.finish(finish, until=until)
    except Superseded:
        record("superseded")
    except (RetryableError, CallRefused) as error:
        record("finish_unanswered", detail=str(error))
        return Exit.UNREPORTED
    return Exit.OK


def _outcome(reason: Reason | None) -> Literal["ok", "error", "cancelled"]:
    if reason is None:
        return "ok"
    return "cancelled" if reason is Reason.CANCELLED else "error"


def _trimmed(trace: str) -> str:
    """Return the end of a trace without signed URLs, which the message of an exception may hold."""
    return contract.without_queries(trace)[-DETAIL_CHARS_MAX:]


def _wall_s() -> float:
    return time.monotonic() - _STARTED_AT


def _cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


_STARTED_AT = time.monotonic()

if __name__ == "__main__":
    sys.exit(main())
