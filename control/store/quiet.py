"""Tells whether control may end: nothing runs, and nothing is due within the next hour. Only reads."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import or_
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from control.domain.states import JobStatus
from control.settings import Settings
from control.store.alive import may_appear
from control.store.due import is_within
from control.store.retention import deliveries_due, sources_due, urls_due
from control.store.tables import Attempt, Batch, Job, Machine, Source, Upload, Webhook
from control.store.usage import has_files, holdings

AHEAD = timedelta(hours=1)
SETTLED = timedelta(minutes=5)  # after an attempt's end: by then `weigh` has deleted what it did not report


def is_quiet(session: Session, settings: Settings, now: datetime) -> bool:
    """Return whether nothing is lost, and nothing keeps running or costing, if control ends now.

    What is due later than in an hour does not count: control does it after its next start.
    """
    if session.scalar(_busy(now)):
        return False
    held = holdings(session, settings, now)
    return held.used <= settings.storage_cap_bytes


def _busy(now: datetime) -> SelectOfScalar[Any]:
    soon = now + AHEAD
    expired_files = select(Job.id).join(Batch).where(col(Batch.status) == JobStatus.EXPIRED, has_files())
    given_up = select(Source.id).where(col(Source.deleted_at).is_not(None), col(Source.key) != "")
    is_kept = col(Batch.status) != JobStatus.EXPIRED
    return select(
        or_(
            select(Batch.id).where(col(Batch.ended_at).is_(None)).exists(),
            select(Batch.id).where(col(Batch.deleted_at).is_not(None)).exists(),
            select(Batch.id).where(col(Batch.expires_at) <= soon, is_kept).exists(),
            select(Machine.id).where(col(Machine.gone_at).is_(None)).exists(),
            select(Attempt.id).where(may_appear(now)).exists(),
            select(Attempt.id).where(is_within(Attempt.ended_at, now, SETTLED)).exists(),
            select(Webhook.batch_id).where(col(Webhook.state) == "due").exists(),
            select(Upload.id).where(col(Upload.state) == "open", col(Upload.expires_at) <= soon).exists(),
            expired_files.exists(),
            given_up.exists(),
            sources_due(soon).exists(),
            urls_due(soon).exists(),
            deliveries_due(soon).exists(),
        )
    )
