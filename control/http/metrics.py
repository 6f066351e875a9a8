"""The metrics for Prometheus: gauges from rows, and counters. The API serves them, and so does METRICS_PORT.

The rows are read at most every FRESH_S, so frequent scrapes cost nothing. Every label value comes from a
closed list, never from a user. The cost of live machines is computed as `GET /api/costs` does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from math import inf

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from sqlalchemy import func
from sqlmodel import Session, and_, col, select

from control.context import AppContext
from control.domain.states import ENDED, JobStatus, OutputState
from control.http.sse import Live
from control.settings import Settings
from control.store.attempts import SLOW_BOOT
from control.store.budget import accrued_usd, leaked_seconds, limit_s_of, periods, shared_budgets, spent_usd
from control.store.database import volume
from control.store.queue import MACHINE_CAP, is_unseen
from control.store.tables import Attempt, Job, Machine, Output, Webhook
from control.store.usage import holdings
from control.telemetry import counters
from infra.ports import Refusal

FRESH_S = 10.0
# https://fly.io/docs/machines/machine-states/ (2026-08) without `destroyed`, which counts as gone
MACHINE_STATES = (
    *("created", "starting", "started", "stopping", "stopped", "suspending", "suspended"),
    *("replacing", "replaced", "failed", "destroying"),
)
WAITING_CODES = (*Refusal, "unanswered", "budget", MACHINE_CAP, SLOW_BOOT)
WEBHOOK_STATES = ("waiting", "due", "delivered", "dead")
OTHER = "other"  # for a value that is not in the closed list


class Metrics:
    """Produces the text of a scrape. Safe to use from any thread."""

    def __init__(self, context: AppContext, live: Live) -> None:
        self._context, self._live = context, live
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._registry.register(counters.REGISTRY)
        ProcessCollector(registry=self._registry)
        self._lock = threading.Lock()
        self._text, self._fresh_until = b"", -inf  # on the monotonic clock

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus, at most FRESH_S old."""
        with self._lock:
            if time.monotonic() >= self._fresh_until:
                self._text = generate_latest(self._registry)
                self._fresh_until = time.monotonic() + FRESH_S
            return self._text

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges, read now. Called by the registry."""
        now, cloud = self._context.clock(), self._context.cloud
        blocked = list(cloud.blocked.values())  # at once: the passes change it meanwhile
        with self._context.views.session() as session:
            yield from _work(session, now)
            yield from _machines(session, self._context, now)
            yield from _money(session, self._context, now)
            yield from _storage(session, self._context.settings, now)
        yield from _volume(self._context.settings)
        yield _gauge("event_streams", "Event streams that are open.", self._live.open_streams)
        yield _gauge(
            "fly_token_refused",
            "1 while Fly refuses our token.",
            any(each.refusal is Refusal.UNAUTHORIZED for each in blocked),
        )
        looks = CounterMetricFamily(
            "refresher_fly_observations", "Observations of Fly that missed none of our machines."
        )
        looks.add_metric([], min(cloud.trusted[app] for app in self._context.settings.runner_apps))
        yield looks


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"refresher_{name}", text, value=float(value))


def _by(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"refresher_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _tally(known: Iterable[str], found: Iterable[tuple[str, int]]) -> dict[str, float]:
    """Return the counts of all known keys, zeros included; unknown keys are counted together as OTHER."""
    counts: dict[str, float] = dict.fromkeys(map(str, known), 0)
    for key, count in found:
        key = key if key in counts else OTHER
        counts[key] = counts.get(key, 0) + count
    return counts


def _work(session: Session, now: datetime) -> Iterator[Metric]:
    jobs = select(Job.status, func.count()).group_by(Job.status)
    yield _by("jobs", "Jobs in the database, by status.", "status", _tally(JobStatus, session.exec(jobs)))
    lives = col(Job.status).not_in(ENDED)
    waiting = select(Job.waiting_code, func.count()).where(lives, col(Job.waiting_code).is_not(None))
    codes = _tally(WAITING_CODES, session.exec(waiting.group_by(Job.waiting_code)))  # type: ignore[arg-type]
    yield _by("jobs_waiting", "Jobs that wait, by the code of the reason.", "code", codes)
    unstarted = col(Job.status).in_((JobStatus.QUEUED, JobStatus.LAUNCHING))
    since = session.exec(select(func.min(Job.not_before)).where(unstarted)).one()
    age_s = max(0.0, (now - since).total_seconds()) if since else 0.0
    yield _gauge("queue_age_seconds", "How long the oldest queued job has been ready to start.", age_s)
    outputs = select(Output.state, func.count()).join(Job, col(Job.id) == col(Output.job_id)).where(lives)
    states = _tally(OutputState, session.exec(outputs.group_by(Output.state)))
    yield _by("outputs", "Outputs of jobs that have not ended, by state.", "state", states)
    webhooks = select(Webhook.state, func.count()).group_by(Webhook.state)
    deliveries = _tally(WEBHOOK_STATES, session.exec(webhooks))
    yield _by("webhooks", "Webhooks in the database, by state.", "state", deliveries)


def _machines(session: Session, context: AppContext, now: datetime) -> Iterator[Metric]:
    made_for = and_(col(Attempt.id) == col(Machine.attempt_id))
    alive = select(Machine, Attempt).outerjoin(Attempt, made_for).where(col(Machine.gone_at).is_(None))
    rows = session.exec(alive).all()
    states = _tally(MACHINE_STATES, ((machine.state, 1) for machine, _ in rows))
    yield _by("machines", "Machines not known to be gone, by Fly's state.", "state", states)
    yield _gauge("machines_cap", "MAX_MACHINES.", context.settings.max_machines)
    ages_s = [(now - machine.created_at).total_seconds() for machine, _ in rows]
    yield _gauge("machine_age_seconds", "Age of the oldest machine.", max(ages_s, default=0.0))
    limit_s = limit_s_of(context.settings)
    yield _gauge(
        "machine_age_limit_seconds", "The age at which a machine exits by itself at the latest.", limit_s
    )
    leaks_s = [leaked_seconds(machine, attempt, machine.exited_at or now) for machine, attempt in rows]
    yield _gauge(
        "machines_leaked",
        "Machines without a live attempt, after their grace period.",
        sum(s > 0 for s in leaks_s),
    )
    gone = select(func.sum(Machine.leaked_seconds)).where(col(Machine.gone_at) >= periods(now)["day"])
    leaked_s = sum(leaks_s) + (session.exec(gone).one() or 0.0)
    yield _gauge("leaked_machine_seconds", "Machine-seconds leaked today (UTC).", leaked_s)


def _money(session: Session, context: AppContext, now: datetime) -> Iterator[Metric]:
    alive = session.exec(select(Machine).where(col(Machine.gone_at).is_(None))).all()
    accrued = sum(accrued_usd(machine, now) for machine in alive)
    spent = {period: spent_usd(session, since) + accrued for period, since in periods(now).items()}
    yield _by("spend_usd", "Cost of machines this day and month (UTC), so far.", "period", spent)
    unseen = session.exec(select(Attempt).where(is_unseen(now))).all()
    budgets = shared_budgets(session, context.settings, now, unseen)
    caps = {budget.name: budget.cap_usd for budget in budgets}
    yield _by("budget_usd", "The hard cap, if one is set.", "period", caps)
    left = {budget.name: max(0.0, budget.left_usd) for budget in budgets}
    yield _by("budget_left_usd", "What may still be reserved, if there is a cap.", "period", left)


def _storage(session: Session, settings: Settings, now: datetime) -> Iterator[Metric]:
    held = holdings(session, settings, now)
    yield _gauge("storage_used_bytes", "Bytes of sources and results in the bucket.", held.used)
    yield _gauge(
        "storage_live_bytes",
        "What cannot be evicted, with what is reserved for uploads and live jobs.",
        held.fixed,
    )
    yield _gauge("storage_cap_bytes", "STORAGE_CAP_BYTES.", settings.storage_cap_bytes)


def _volume(settings: Settings) -> Iterator[Metric]:
    found = volume(settings.database_url)
    if found is not None:
        free, size = found
        yield _gauge("volume_free_bytes", "Free bytes of the disk that holds the SQLite database.", free)
        yield _gauge("volume_size_bytes", "Size of that disk.", size)
