"""One slow pass: delete objects that no row names, a page at a time.

Must never take what is not under this control's own prefix, belongs to a live attempt, or is younger than
any result may become: an object without a row is then the rest of something that was cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlmodel import Session, col, select

from control.context import Parts
from control.domain import states
from control.passes.objects import PAGE, outputs_prefix
from control.store import retention
from control.store.files import named_by
from control.store.tables import Attempt, Meta, Output, Source, Upload
from control.telemetry.log import record

MARGIN = timedelta(hours=24)


def sweep(parts: Parts) -> None:
    """Look at the next page of the bucket, and begin anew after the last. Raises OutsideError."""
    with parts.views.session() as session:
        meta = session.get(Meta, retention.SWEPT)
    owner_id, after = parts.store.owner_id, meta.value if meta else ""
    page = parts.storage.list_objects(f"{owner_id}/", after=after, limit=PAGE)
    too_old = parts.clock() - timedelta(hours=parts.settings.retention_hours) - MARGIN
    old = [found.key for found in page if found.modified_at < too_old]
    with parts.views.session() as session:
        orphans = sorted(set(old) - _known(session, owner_id, old))
    parts.storage.delete_many(orphans)
    if orphans:
        record("orphan_objects_deleted", count=len(orphans))
    until = page[-1].key if len(page) == PAGE else ""
    if until != after:
        retention.swept(parts.store, until)


def _known(session: Session, owner_id: str, keys: Sequence[str]) -> set[str]:
    """Return those of the keys that a row names, or a live attempt may yet report."""
    sources = session.exec(select(Source.key).where(col(Source.key).in_(keys))).all()
    opened = select(Upload.key).where(col(Upload.key).in_(keys), col(Upload.state) == "open")
    prefix = outputs_prefix(owner_id)
    makers = {key: key.removeprefix(prefix).split("/")[0] for key in keys if key.startswith(prefix)}
    made = session.exec(select(Output).where(col(Output.attempt_id).in_(set(makers.values())))).all()
    alive = select(Attempt.id).where(
        col(Attempt.id).in_(set(makers.values())), col(Attempt.state).in_(states.LIVE)
    )
    live = set(session.exec(alive).all())
    return {
        *sources,
        *session.exec(opened).all(),
        *(key for output in made for key in named_by(output)),
        *(key for key, attempt_id in makers.items() if attempt_id in live),
    }
