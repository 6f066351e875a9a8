"""A slow pass: let go of what nobody will come back for.

Uploads that their clients left, multipart uploads in the bucket that no row knows (after a crash, or with a
database from a backup), and the URLs of users whose batches have ended for good.
"""

from __future__ import annotations

from sqlmodel import col, select

from control.context import Parts
from control.store import source_urls
from control.store.tables import Upload
from control.telemetry.log import failure
from control.uploads.service import UPLOAD_LIFE, discard
from infra.ports import Refused

AT_ONCE_MAX = 100  # the other passes wait for this one


def abandon(parts: Parts) -> None:
    """Let go of at most AT_ONCE_MAX of each; the next pass goes on. Raises Unanswered, and stops there."""
    source_urls.forget_ended(parts.store)
    for upload in _stale(parts):
        try:
            discard(parts, upload)
        except Refused as refused:  # must not keep the others from their turn
            failure("upload_not_discarded", refused, upload_id=upload.id)
    _abort_unknown(parts)


def _stale(parts: Parts) -> list[Upload]:
    stale = select(Upload).where(col(Upload.state) == "open", col(Upload.expires_at) <= parts.clock())
    with parts.views.session() as session:
        return list(session.exec(stale.order_by(col(Upload.expires_at)).limit(AT_ONCE_MAX)).all())


def _abort_unknown(parts: Parts) -> None:
    """Abort what is open in the bucket for longer than any upload lives unasked, and has no open row."""
    with parts.views.session() as session:
        known = set(session.exec(select(Upload.key).where(col(Upload.state) == "open")).all())
    old = parts.clock() - UPLOAD_LIFE
    found = parts.storage.list_multiparts(f"{parts.store.owner_id}/")
    unknown = [upload for upload in found if upload.key not in known and upload.started_at <= old]
    for upload in unknown[:AT_ONCE_MAX]:
        parts.storage.abort_multipart(upload.key, upload.multipart_id)
