"""The counters of this process. `telemetry.log` passes each log line on, so only what is logged is counted.

They start at zero after a restart, as Prometheus expects of counters. All labels come from closed lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from control.domain.states import OutputState, Trigger
from runner.contract import Reason, Timings

ENDS = frozenset(Trigger) - {Trigger.MACHINE_CREATED, Trigger.CLAIMED, Trigger.HEARTBEAT}  # of an attempt
PHASES = [name.removesuffix("_s") for name in Timings.model_fields]
LAUNCH_BUCKETS_S = (0.5, 1, 2, 3, 5, 8, 13, 20, 30, 60, 120, 180)

disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()

ATTEMPTS_ENDED = Counter(
    "refresher_attempts_ended",
    "Attempts that ended, by reason; ok means success.",
    ["reason"],
    registry=REGISTRY,
)
OUTPUTS_ENDED = Counter(
    "refresher_outputs_ended", "Outputs that became ready, failed or cancelled.", ["state"], registry=REGISTRY
)
OUTPUT_BYTES = Counter(
    "refresher_output_bytes", "Bytes of outputs that runners rendered and uploaded.", registry=REGISTRY
)
WORK_SECONDS = Counter(
    "refresher_work_seconds",
    "Seconds that runners reported, summed over workers.",
    ["phase"],
    registry=REGISTRY,
)
MACHINES_CREATED = Counter("refresher_machines_created", "Machines that were created.", registry=REGISTRY)
LAUNCH_SECONDS = Histogram(
    "refresher_launch_seconds",
    "From the first create call for an attempt's machine to its claim.",
    buckets=LAUNCH_BUCKETS_S,
    registry=REGISTRY,
)
LOGINS_REFUSED = Counter(
    "refresher_logins_refused", "Sign-ins that were refused.", ["why"], registry=REGISTRY
)
RUNNER_CALLS_REFUSED = Counter(
    "refresher_runner_calls_refused",
    "Calls of runners that were refused: late, from another machine, or not valid.",
    ["why"],
    registry=REGISTRY,
)
WEBHOOKS_GIVEN_UP = Counter(
    "refresher_webhooks_given_up", "Webhooks that were never delivered.", registry=REGISTRY
)
PASS_SUCCESS = Gauge(
    "refresher_pass_last_success_timestamp_seconds",
    "When a pass last ended without an error; before that, when control started.",
    ["name"],
    registry=REGISTRY,
)

# If a series starts with its first event, `increase` in Prometheus misses that event.
for _reason in ("ok", *Reason):
    ATTEMPTS_ENDED.labels(_reason)
for _state in (OutputState.READY, OutputState.FAILED, OutputState.CANCELLED):
    OUTPUTS_ENDED.labels(_state)
for _phase in PHASES:
    WORK_SECONDS.labels(_phase)
for _why in ("superseded", "invalid"):
    RUNNER_CALLS_REFUSED.labels(_why)
for _why in ("wrong_password", "too_many_tries"):
    LOGINS_REFUSED.labels(_why)


def count(event: str, facts: Mapping[str, Any]) -> None:
    """Count the event of a log line. A refused state change is not counted."""
    if facts.get("accepted") is False:
        return
    if event in ENDS:
        ATTEMPTS_ENDED.labels(facts["reason"] or "ok").inc()
    elif event == "machine_seen":  # new in the ledger: by the answer to its create, or in a list
        MACHINES_CREATED.inc()
    elif event == Trigger.CLAIMED:
        LAUNCH_SECONDS.observe(facts["launch_s"])
    elif event == "output_ready":
        OUTPUTS_ENDED.labels(OutputState.READY).inc()
        OUTPUT_BYTES.inc(facts["size_bytes"])
    elif event in ("output_failed", "output_cancelled"):
        OUTPUTS_ENDED.labels(event.removeprefix("output_")).inc()
    elif event == "webhook_given_up":
        WEBHOOKS_GIVEN_UP.inc()
    elif event == "work_reported":
        for phase in PHASES:
            WORK_SECONDS.labels(phase).inc(max(0.0, facts[f"{phase}_s"]))
