"""Opens uploads, joins their parts, looks into the file, and makes a source of it, or discards the upload.

The bucket is changed first and the row last, so that a repeated call repairs what an interruption has left.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from threading import BoundedSemaphore

from control.context import AppContext
from control.domain.errors import Code, ControlError
from control.domain.ids import new_id
from control.store import uploads as store
from control.store.tables import Source, Upload
from control.store.usage import require_space
from infra.ports import Part, Refusal, Refused, StoredObject, Unanswered
from runner.mp4 import movie

PART_BYTES = 16 * 1024**2  # the same for every upload: equal files have equal ETags, and so equal effects
UPLOAD_LIFE = timedelta(hours=24)  # since its client last asked for URLs

_LOOKS = BoundedSemaphore(2)  # each may hold two windows of 8 MiB and use a core for a second

_AGAIN = "Start a new upload."


def open_upload(context: AppContext, *, name: str, content_type: str, size_bytes: int) -> Upload:
    """Open a multipart upload and return its row, which is stored. Raises ControlError, OutsideError.

    When many are opened at once, only those that fit into the storage cap are kept; the others are aborted in
    the bucket. A crash in between leaves a multipart upload without a row; the pass `abandon` finds it by its
    age.
    """
    with context.views.session() as session:  # before the bucket is asked
        require_space(session, context.settings, context.clock(), more_bytes=size_bytes)
    upload_id, now = new_id("upl"), context.clock()
    key = f"{context.store.owner_id}/sources/{upload_id}.mp4"
    upload = Upload(
        id=upload_id,
        name=name,
        content_type=content_type,
        size_bytes=size_bytes,
        key=key,
        multipart_id=context.storage.start_multipart(key, content_type=content_type),
        part_size_bytes=PART_BYTES,
        state="open",
        created_at=now,
        expires_at=now + UPLOAD_LIFE,
    )
    try:
        store.add(context.store, upload)
    except ControlError:
        context.storage.abort_multipart(key, upload.multipart_id)
        raise
    return upload


_UNJOINED = (
    "The bucket cannot join these parts. PUT all of them first, and name the ETags that it answered;"
    " GET /api/uploads/{id} lists what is stored."
)


def join(context: AppContext, upload: Upload, done: Sequence[Part]) -> StoredObject:
    """Join the parts to one object. A repeated call succeeds too. Raises ControlError, OutsideError.

    Unanswered when the bucket does not show the object yet: nothing is lost, and a repeat goes on.
    """
    try:
        context.storage.complete_multipart(upload.key, upload.multipart_id, done)
    except Refused as refused:
        if refused.refusal is Refusal.INVALID:
            raise ControlError(Code.INVALID, _UNJOINED) from None
        raise
    stored = context.storage.head(upload.key, is_fresh=True)
    if stored is None:
        raise _unseen(context, upload)
    return stored


def look_into(context: AppContext, upload: Upload, stored: StoredObject) -> Source:
    """Look into the joined upload and return it as a source, which is not stored yet.

    Raises movie.NotPlayable, ControlError gone, OutsideError, as `join`.
    """
    try:
        with _LOOKS:
            seen = movie.look_into(
                lambda start, stop: context.storage.read(upload.key, start, stop),
                size_bytes=stored.size_bytes,
            )
    except Refused as refused:
        if refused.status != 404:
            raise
        raise _unseen(context, upload) from None
    return Source(
        id=new_id("src"),
        name=upload.name,
        key=upload.key,
        size_bytes=stored.size_bytes,
        etag=stored.etag,
        duration_s=seen.duration_s,
        width=seen.width,
        height=seen.height,
        frame_rate=seen.frame_rate,
        notes=list(seen.notes),
        created_at=context.clock(),
    )


def discard(context: AppContext, upload: Upload) -> None:
    """Abort an upload and remove what it has stored. An upload that has become a source stays.

    A `complete` at the same time may already have joined the parts; the row decides whether the object stays.
    """
    context.storage.abort_multipart(upload.key, upload.multipart_id)
    if store.abort(context.store, upload.id) != "completed":
        context.storage.delete(upload.key)


def _unseen(context: AppContext, upload: Upload) -> ControlError | Unanswered:
    """Return the error for a joined upload that the bucket does not show: aborted, or to be shown later."""
    with context.views.session() as session:
        now = session.get(Upload, upload.id)
    if now is None or now.state != "open":
        return ControlError(Code.GONE, f"The uploaded file is gone. {_AGAIN}")
    return Unanswered("the bucket does not show yet what it has just stored", method="HEAD", path=upload.key)
