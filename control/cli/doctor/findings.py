"""What the doctor finds, as data, and the judgements that need nothing but what was seen. PURE.

Each judgement returns a finding whose remedy is empty exactly when it is `ok`.

One file, since it is one list of judgements.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from infra.ports import Machine, OutsideError, Refusal, Refused
from runner.contract import SELF_TEST_FAILED, SelfTest

CLOCK_WARN_S, CLOCK_FAIL_S = 30.0, 300.0  # S3 refuses signatures that are 15 minutes off
FREE_WARN_BYTES, FREE_FAIL_BYTES = 256 * 1024**2, 32 * 1024**2
COPY_LATE_S = 120.0  # Litestream copies within a second or so; the two clocks may differ


class Status(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at: what was seen, and what to do about it unless it is `ok`."""

    check: str
    status: Status
    seen: str
    remedy: str = ""

    @property
    def as_data(self) -> dict[str, str]:
        """The finding as JSON has it."""
        return {"check": self.check, "status": self.status, "seen": self.seen, "remedy": self.remedy}


def ok(check: str, seen: str) -> Finding:
    """Return a finding with which all is well."""
    return Finding(check=check, status=Status.OK, seen=seen)


def warn(check: str, seen: str, remedy: str) -> Finding:
    """Return a finding with which the deployment works, though not as well as it could."""
    return Finding(check=check, status=Status.WARN, seen=seen, remedy=remedy)


def fail(check: str, seen: str, remedy: str) -> Finding:
    """Return a finding with which the deployment does not work."""
    return Finding(check=check, status=Status.FAIL, seen=seen, remedy=remedy)


def has_failed(findings: Iterable[Finding]) -> bool:
    """Return whether something must be mended."""
    return any(finding.status is Status.FAIL for finding in findings)


STYLES = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "red"}


def table(findings: Sequence[Finding]) -> Table:
    """Return the findings for a terminal."""
    rows = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in ("check", ""):
        rows.add_column(name, no_wrap=True)
    rows.add_column("seen, and what to do", overflow="fold")
    for finding in findings:
        style = STYLES[finding.status]
        text = Text(finding.seen)
        if finding.remedy:
            text.append(f"\n{finding.remedy}", style=style)
        rows.add_row(finding.check, Text(finding.status, style=style), text)
    return rows


# --- Fly ------------------------------------------------------------------------------------------

REMEDIES: Mapping[Refusal, str] = {
    Refusal.UNAUTHORIZED: "Check RUNNER_APPS; make new tokens and set them: refresher provision rotate.",
    Refusal.CAPACITY: "Wait, or add regions to RUNNER_REGIONS.",
    Refusal.RATE_LIMITED: "Run the doctor again in a minute.",
    Refusal.UNREACHABLE: "Check FLY_API_URL and the network, and Fly's status: https://status.flyio.net.",
    Refusal.MACHINE_LIMIT: "Destroy machines that are not needed, or have the limit raised (billing@fly.io).",
    Refusal.PAYMENT_REQUIRED: "Add a payment method in the billing settings of the Fly organisation.",
    Refusal.IMAGE_NOT_FOUND: "Wait a minute after a push; then push it again: refresher provision release.",
    Refusal.INVALID: "Compare Fly's words with RUNNER_REGIONS, RUNNER_SIZES and RUNNER_IMAGE.",
}
NO_ANSWER = "Run the doctor again in a minute; Fly's status: https://status.flyio.net."
OTHER_SIZES = (
    "Take it out of RUNNER_SIZES, or add a payment method: a free-trial organisation has no performance CPUs."
)


def remedy_for(error: OutsideError) -> str:
    """Return what to do about a refusal of Fly, or about no answer."""
    return REMEDIES[error.refusal] if isinstance(error, Refused) else NO_ANSWER


def size_refused(size: str, error: OutsideError) -> Finding:
    """Judge that no machine of a size can be made, in an app that our token is known to reach."""
    is_about_size = isinstance(error, Refused) and error.refusal in (Refusal.INVALID, Refusal.UNAUTHORIZED)
    return fail(f"size {size}", str(error), OTHER_SIZES if is_about_size else remedy_for(error))


def boot(machine: Machine | None, waited_s: float, *, allowed_s: float) -> Finding:
    """Judge how a machine booted; None is one that Fly no longer shows."""
    check = "machine boot"
    if machine is None:
        return warn(check, "Fly no longer shows the machine or how it ended.", "Run the doctor again.")
    if machine.started_at is None:
        return fail(
            check,
            f"The machine {machine.id} in {machine.region} is {machine.state!r} after {waited_s:.0f} s.",
            "Run the doctor again; if it stays so, put another region first in RUNNER_REGIONS.",
        )
    boot_s = (machine.started_at - machine.created_at).total_seconds()
    seen = f"It started in {machine.region} {boot_s:.1f} s after it was asked for."
    if boot_s > allowed_s:
        return fail(check, seen, f"Raise BOOT_TIMEOUT_S, which is {allowed_s:g}, or choose another region.")
    return ok(check, seen)


SELF_TESTS: Mapping[SelfTest, tuple[str, str, str]] = {  # what was tested, and the remedy
    SelfTest.JAIL: (
        "jail on a machine",
        "FFmpeg is confined there.",
        "Read why in `fly logs` of the runner app, and report it: without its jail no job runs.",
    ),
    SelfTest.CONTROL: (
        "control from a machine",
        "Control answers there.",
        "Set CALLBACK_URL (or PUBLIC_URL) to an address of control that the runners' network reaches.",
    ),
    SelfTest.BUCKET: (
        "bucket from a machine",
        "The bucket answers there.",
        "Check AWS_ENDPOINT_URL_S3: a machine must reach it by the public internet.",
    ),
}


def self_test(machine: Machine, *, places: Mapping[SelfTest, str]) -> list[Finding]:
    """Judge what a machine found about itself, by its exit code. `places` are the addresses that it tried."""
    how = machine.exit
    wrong = SelfTest(0)
    bits = how.exit_code - SELF_TEST_FAILED if how and not how.signal else 0
    if 0 < bits <= sum(SelfTest):
        wrong = SelfTest(bits)
    elif how is None or how.exit_code or how.signal:
        end = f"exit code {how.exit_code}, signal {how.signal}" if how else "no exit was shown"
        return [
            fail(
                "self-test on a machine",
                f"It did not report what it found: {end}.",
                "Read its last lines in `fly logs` of the runner app; the image may be older than this.",
            )
        ]
    found = []
    for test, (check, fine, remedy) in SELF_TESTS.items():
        place = f" ({places[test]})" if test in places else ""
        if test in wrong:
            found.append(fail(check, f"It failed on the machine{place}.", remedy))
        else:
            found.append(ok(check, fine[:-1] + place + "."))
    return found


# --- the bucket -----------------------------------------------------------------------------------

BUCKET_KEYS = "Check AWS_ENDPOINT_URL_S3, AWS_REGION, BUCKET_NAME and the two keys; make new keys at Tigris."
SET_RULES = "Run refresher bucket-rules with control's environment, on Fly by fly ssh console."


def conditional_put(first: int, second: int) -> Finding:
    """Judge two PUTs to one URL that may create its object once, by their statuses."""
    check, seen = "bucket: conditional PUT", f"The first was answered {first}, the second {second}."
    if first != 200:
        return fail(check, seen, BUCKET_KEYS)
    if second != 412:
        return fail(
            check,
            seen,
            "Use a bucket that supports If-None-Match: without it an output could be overwritten.",
        )
    return ok(check, seen)


def consistency(*, is_seen: bool, is_late: bool) -> Finding:
    """Judge whether an object was seen right after its PUT, or only when asked again."""
    check = "bucket: HEAD after PUT"
    remedy = "Use a bucket in control's region: reads of a Global one from other regions may be late."
    if not is_seen:
        return fail(check, "An object is not seen three seconds after it was stored.", remedy)
    if is_late:
        return warn(check, "An object that was stored just now is seen only at a second request.", remedy)
    return ok(check, "An object is seen at once.")


def cors(origins: Collection[str], allowed: Collection[str]) -> Finding:
    """Judge whether pages of our origins may use the bucket."""
    missing = [] if "*" in allowed else sorted(set(origins) - set(allowed))
    if missing:
        return fail("bucket: CORS", f"The rule lacks {', '.join(missing)}.", SET_RULES)
    return ok("bucket: CORS", f"Pages of {', '.join(origins)} may use it.")


def lifecycle(*, is_set: bool) -> Finding:
    """Judge the rule that is best effort."""
    if is_set:
        return ok("bucket: lifecycle", "Unfinished uploads are removed.")
    return warn(
        "bucket: lifecycle",
        "It has no rule that removes unfinished uploads.",
        f"Nothing has to be done: control aborts those that it knows. {SET_RULES}",
    )


# --- control's machine ----------------------------------------------------------------------------


def settings(problem: str) -> Finding:
    """Judge that control's settings cannot be read."""
    remedy = "Set it; on Fly run the doctor where control runs: fly ssh console (docs/operations.md)."
    return fail("settings", f"{problem}.", remedy)


def clock(who: str, ahead_s: float) -> Finding:
    """Judge how far another clock is ahead of this machine's."""
    check, seen = f"clock: {who}", f"It differs from this machine's by {abs(ahead_s):.0f} s."
    remedy = "Let this machine's clock follow NTP; if it is right, correct the other clock."
    if abs(ahead_s) > CLOCK_FAIL_S:
        return fail(check, seen, remedy)
    return warn(check, seen, remedy) if abs(ahead_s) > CLOCK_WARN_S else ok(check, seen)


def mount(problem: str, *, mount: str | None, is_on_fly: bool) -> Finding:
    """Judge whether the database is on its volume; `problem` is what control says at its start."""
    if problem:
        return fail("volume", problem, 'Attach the volume: see "Back up and restore" in docs/operations.md.')
    if mount is not None:
        return ok("volume", f"The database is on the volume at {mount}.")
    if is_on_fly:
        remedy = "Set DATABASE_MOUNT=/data as fly.control.toml does: a restart without it loses the database."
        return warn("volume", "DATABASE_MOUNT is not set, so the volume is not checked.", remedy)
    return ok("volume", "No volume is expected: DATABASE_MOUNT is not set.")


def room(free_bytes: int, total_bytes: int) -> Finding:
    """Judge how much is free where the database is."""
    check, seen = "free disk", f"{free_bytes / 1e6:.0f} of {total_bytes / 1e6:.0f} MB are free."
    remedy = "Enlarge the volume (fly volumes extend ID --size GB), or lower HISTORY_DAYS."
    if free_bytes < FREE_FAIL_BYTES:
        return fail(check, seen, remedy)
    return warn(check, seen, remedy) if free_bytes < FREE_WARN_BYTES else ok(check, seen)


def copied(*, newest_at: float | None, written_at: float, is_on_fly: bool) -> Finding:
    """Judge Litestream's copy: its newest object against the last write to the database, as Unix times."""
    check = "database's copy"
    if newest_at is None:
        seen = "The bucket holds no copy of the database."
        remedy = (
            "Start control by infra/provision/serve-replicated, as its image does; read Litestream's log."
        )
        return fail(check, seen, remedy) if is_on_fly else warn(check, seen, remedy)
    late_s = written_at - newest_at
    if late_s > COPY_LATE_S:
        return fail(
            check,
            f"The newest part of the copy is {late_s:.0f} s older than the last write.",
            "Read Litestream's lines in control's log, then restart control.",
        )
    return ok(check, f"The newest part is {max(0.0, late_s):.0f} s older than the last write.")


# --- control as others see it ---------------------------------------------------------------------


def ready(parts: Mapping[str, Any]) -> list[Finding]:
    """Judge what `GET /api/ready` says about each part."""
    remedy = 'See "Control is down" in docs/operations.md; each part has its own findings here.'
    return [
        ok(f"ready: {part}", "ok") if state == "ok" else fail(f"ready: {part}", str(state), remedy)
        for part, state in sorted(parts.items())
    ]
