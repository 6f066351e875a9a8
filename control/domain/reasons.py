"""Why attempts end badly: for each reason, whether the job is tried again, and a text for people. PURE.

The only table of both. To add a reason: a member in `runner.contract.Reason` and a line here.
"""

from __future__ import annotations

from dataclasses import dataclass

from runner.contract import Reason


@dataclass(frozen=True)
class Meaning:
    """`text` is shown beside the attempt, and as the error of outputs and jobs that get no other attempt."""

    is_retryable: bool
    text: str


# A failure of the infrastructure is retried. A failure that the job itself causes would only come again.
REASONS: dict[Reason, Meaning] = {
    Reason.RUNNER_CRASHED: Meaning(True, "The renderer crashed."),
    Reason.STORAGE_UNAVAILABLE: Meaning(True, "The storage did not answer."),
    # outputs that are ready stay ready: the next machine has less to do
    Reason.RUN_DEADLINE: Meaning(True, "Rendering took longer than a machine may run."),
    # the same image and kernel fail every time
    Reason.JAIL_UNAVAILABLE: Meaning(
        False, "The machine cannot confine FFmpeg, so it refused to open videos."
    ),
    # stopped by the cloud or an operator: after a user's cancel the outcome does not depend on the reason
    Reason.CANCELLED: Meaning(True, "The machine was stopped."),
    Reason.LAUNCH_REFUSED: Meaning(False, "The cloud refused to make the machine."),
    Reason.BOOT_DEADLINE: Meaning(True, "The machine did not start in time."),
    Reason.LEASE_EXPIRED: Meaning(True, "The machine stopped reporting."),
    Reason.MACHINE_ENDED: Meaning(True, "The machine ended before its work was done."),
    Reason.OUT_OF_MEMORY: Meaning(True, "The machine ran out of memory."),
    # interrupted uploads may have used the bytes up
    Reason.SEND_LIMIT: Meaning(True, "It takes more bytes than a machine was allowed to send for it."),
    Reason.BUDGET_EXCEEDED: Meaning(False, "Too little is left of max_cost_usd for another machine."),
}
