"""A runner as a small state machine: the protocol of `runner/`, without its work."""

from __future__ import annotations

from functools import partial
from hashlib import md5, sha256
from typing import Any, Literal

from runner import contract, transfer
from runner.contract import (
    Claim,
    Finish,
    Heartbeat,
    OutputError,
    OutputFault,
    OutputFile,
    OutputReport,
    OutputSpec,
    Reason,
    Timings,
    Usage,
)
from runner.control_client import BEAT_TIMEOUT_S, CALL_TIMEOUT_S
from runner.deadline import REPORT_S_MAX
from runner.retry import FIRST_PAUSE_S, PAUSE_S_MAX, is_transient
from tests.sim.outside import Stored
from tests.sim.protocol import SimWorld
from tests.sim.swarm import Mishap

SCALE = 5000  # from what is drawn to bytes: 5 to 10 MB, so that money can be told by them


class SimRunner:
    """One process. Whatever it does later is void once `alive` is False."""

    def __init__(self, world: SimWorld, machine_id: str, env: dict[str, str]) -> None:
        self.world, self.machine_id = world, machine_id
        self.attempt_id = env[contract.ENV_ATTEMPT_ID]
        self.token = env[contract.ENV_ATTEMPT_TOKEN]
        self.is_muted = False
        self.alive, self.tries = True, 0
        self.stop_reason: Reason | None = None
        self.began = world.t
        self.until = self.hard_until = world.t + float(env[contract.ENV_RUN_TIMEOUT_S])
        self.claim_until = world.t + contract.CLAIM_TIMEOUT_S
        self.seq, self.is_beating, self.has_news, self.over = 0, False, False, False
        self.beat_s = 15.0
        self.outputs: list[OutputSpec] = []
        self.total = 0
        self.send_bytes_max: int | None = None
        self.sent_bytes = 0  # the truth, by which the judge counts
        self.reports: dict[str, OutputReport] = {}
        self.unheard: set[str] = set()
        self.finish: Finish | None = None
        self.later(float(env[contract.ENV_RUN_TIMEOUT_S]), self.exit, contract.Exit.UNREPORTED)
        self.later(0.1, self.claim)

    def later(self, seconds: float, do: Any, *args: Any) -> None:
        """Do it then, if this process still runs."""
        self.world.after(seconds, lambda: do(*args) if self.alive else None)

    def post(
        self, call: Literal["claim", "heartbeat", "finish"], body: Any, timeout_s: float, then: Any
    ) -> None:
        """Call control; `then` gets the status and the answer, or None and None."""

        def answered(status: int | None, answer: Any) -> None:
            if self.alive:
                then(status, answer)

        self.world.post(self, call, body, timeout_s, answered)

    def pause_s(self) -> float:
        """Return how long to wait before the next try."""
        self.tries += 1
        longest = min(PAUSE_S_MAX, FIRST_PAUSE_S * 2 ** min(self.tries, 10))
        return self.world.injector.uniform(0.1, longest)

    def exit(self, code: int) -> None:
        """End the process."""
        self.alive = False
        self.world.exited(self, code, signal=0)

    def kill(self) -> None:
        """End the process as SIGKILL does."""
        self.alive = False
        self.world.exited(self, 137, signal=9)

    # --- claim --------------------------------------------------------------------------------------

    def claim(self) -> None:
        """Ask for the job."""
        if self.stop_reason is not None:
            self.exit(contract.Exit.NO_CLAIM)
        else:
            self.post("claim", Claim(machine_id=self.machine_id), CALL_TIMEOUT_S, self.claimed)

    def claimed(self, status: int | None, spec: Any) -> None:
        """Begin, try again, or give up."""
        if status == 200:
            self.begin(spec)
        elif status == 409:
            self.exit(contract.Exit.OK)
        elif status is None or is_transient(status):
            pause_s = self.pause_s()
            if self.world.t + pause_s > self.claim_until:
                self.exit(contract.Exit.NO_CLAIM)
            else:
                self.later(pause_s, self.claim)
        else:
            self.exit(contract.Exit.NO_CLAIM)

    def begin(self, spec: contract.JobSpec) -> None:
        """Start to work and to beat."""
        left_s = min(spec.run_timeout_s, self.hard_until - self.world.t)
        self.until = self.world.t + left_s
        self.later(left_s - min(REPORT_S_MAX, left_s / 10), self.because, Reason.RUN_DEADLINE)
        self.send_bytes_max = spec.send_bytes_max
        self.outputs, self.total, self.beat_s = list(spec.outputs), len(spec.outputs), spec.next_beat_s
        self.later(self.beat_s, self.beat)
        if self.world.fires(Mishap.RUNNER_CUT_OFF):
            start_s = self.world.injector.uniform(0, 20)
            self.later(start_s, self.mute, True)
            self.later(start_s + self.world.injector.uniform(20, 200), self.mute, False)
        self.next_output()

    def mute(self, is_muted: bool) -> None:
        """Be cut off from control, or not any more."""
        self.is_muted = is_muted

    # --- work ---------------------------------------------------------------------------------------

    def because(self, reason: Reason) -> None:
        """Stop the work, for the first reason."""
        if self.stop_reason is None:
            self.stop_reason = reason
            self.later(0.3, self.work_over)

    def note(self, report: OutputReport) -> None:
        """Note where an output stands."""
        self.reports[report.output_id] = report
        self.unheard.add(report.output_id)
        if report.status != "running":
            self.has_news = True
            self.beat_now()

    def next_output(self) -> None:
        """Render the next output, or be done."""
        if self.stop_reason is not None:
            return
        if not self.outputs:
            self.work_over()
            return
        spec = self.outputs.pop(0)
        if self.world.fires(Mishap.RENDER_HANGS):
            return
        render_s = self.world.injector.uniform(1, 25)
        self.later(render_s / 2, self.half_way, spec.output_id)
        self.later(render_s, self.rendered, spec)

    def half_way(self, output_id: str) -> None:
        """Report some progress, in a heartbeat of its own."""
        if self.stop_reason is None:
            percent = self.world.injector.uniform(1, 90)
            self.note(OutputReport(output_id=output_id, status="running", percent=percent))
            self.beat_now()
            self.later(0.5, self.further, output_id, percent + 5)

    def further(self, output_id: str, percent: float) -> None:
        """Report more progress."""
        if self.stop_reason is None and self.reports[output_id].status == "running":
            self.note(OutputReport(output_id=output_id, status="running", percent=percent))
            self.beat_now()

    def rendered(self, spec: OutputSpec) -> None:
        """Upload what was rendered."""
        if self.stop_reason is not None:
            return
        if self.world.fires(Mishap.RENDER_FAILED):
            error = OutputError(code=OutputFault.RENDER_FAILED, message="no")
            self.note(OutputReport(output_id=spec.output_id, status="failed", error=error))
            self.next_output()
            return
        content = f"{self.machine_id} {spec.output_id}".encode()
        item = Stored(
            size_bytes=SCALE * (1000 + self.world.injector.randrange(1000)),
            md5=md5(content).hexdigest(),
            sha256=sha256(content).hexdigest(),
            machine_id=self.machine_id,
        )
        self.upload(spec, item, 1, away_s=0.0)

    def upload(self, spec: OutputSpec, item: Stored, tries: int, *, away_s: float) -> None:
        """PUT the output until it is there, the bucket is away for too long, or no more may be sent."""
        if self.stop_reason is not None:
            return
        most = self.send_bytes_max
        if most is not None and self.sent_bytes + item.size_bytes > most:
            self.because(Reason.SEND_LIMIT)
        else:
            self.sent_bytes += item.size_bytes
            then = partial(self.uploaded, spec, item, tries, away_s)
            self.world.bucket.put(spec.put_url, spec.put_headers, item, then)

    def uploaded(self, spec: OutputSpec, item: Stored, tries: int, away_s: float, status: int) -> None:
        """Take in the answer to a PUT."""
        if not self.alive or self.stop_reason is not None:
            return
        if status == 200 and self.world.fires(Mishap.PUT_ANSWER_LOST):
            status = 503
        if status in (200, 412):
            file = OutputFile(
                size_bytes=item.size_bytes,
                sha256=item.sha256,
                md5=item.md5,
                crc32=7,
                duration_s=2.0,
                ffmpeg_args=["-i"],
            )
            self.note(OutputReport(output_id=spec.output_id, status="ready", percent=100, file=file))
            self.next_output()
        elif away_s > transfer.OUTAGE_S_MAX or not is_transient(status):
            self.because(Reason.STORAGE_UNAVAILABLE)
        else:
            longest_s = min(transfer.PAUSE_S_MAX, FIRST_PAUSE_S * 2 ** min(tries, 10))
            pause_s = self.world.injector.uniform(0.1, longest_s)
            again = partial(self.upload, spec, item, tries + 1, away_s=away_s + pause_s)
            self.later(pause_s, again)

    def work_over(self) -> None:
        """Report the end, after the beat that is under way."""
        if not self.over:
            self.over, self.tries = True, 0
            if not self.is_beating:
                self.report()

    # --- beats --------------------------------------------------------------------------------------

    def beat(self) -> None:
        """Beat at control's pace."""
        if not self.over:
            self.beat_now()
            self.later(self.beat_s, self.beat)

    def beat_now(self) -> None:
        """Beat, unless one is under way."""
        if self.over or self.is_beating:
            return
        self.is_beating, self.has_news = True, False
        self.seq += 1
        reports = [self.reports[output_id] for output_id in sorted(self.unheard)]

        def then(status: int | None, answer: Any) -> None:
            self.beaten(status, answer, reports)

        self.post("heartbeat", Heartbeat(seq=self.seq, outputs=reports), BEAT_TIMEOUT_S, then)

    def beaten(self, status: int | None, answer: Any, reports: list[OutputReport]) -> None:
        """Take in the answer to a beat."""
        self.is_beating = False
        if status == 200:
            self.unheard -= {
                report.output_id for report in reports if self.reports[report.output_id] is report
            }
            self.beat_s = answer.next_beat_s
            if not answer.proceed:
                self.because(Reason.CANCELLED)
        elif status is not None and not is_transient(status):
            self.because(Reason.CANCELLED)
        if self.over:
            self.report()
        elif self.has_news:
            self.beat_now()

    # --- finish -------------------------------------------------------------------------------------

    def report(self) -> None:
        """Send the last message, the same one each time."""
        if self.finish is None:
            ended = [report for report in self.reports.values() if report.status != "running"]
            reason = None if len(ended) == self.total else self.stop_reason
            usage = Usage(wall_s=0, cpu_s=0, timings=Timings(), sent_bytes=self.sent_bytes)
            outcome = "ok" if reason is None else "cancelled" if reason is Reason.CANCELLED else "error"
            self.finish = Finish(seq=self.seq + 1, outcome=outcome, reason=reason, outputs=ended, usage=usage)
        self.post("finish", self.finish, CALL_TIMEOUT_S, self.reported)

    def reported(self, status: int | None, _: Any) -> None:
        """Exit, or try again until the deadline."""
        if status in (200, 409):
            self.exit(contract.Exit.OK)
        elif status is None or is_transient(status):
            pause_s = self.pause_s()
            if self.world.t + pause_s > self.until:
                self.exit(contract.Exit.UNREPORTED)
            else:
                self.later(pause_s, self.report)
        else:
            self.exit(contract.Exit.UNREPORTED)
