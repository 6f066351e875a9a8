"""Changes of uploads. An upload is open until it is completed, refused or aborted; then it never changes."""

from __future__ import annotations

from datetime import timedelta

from control.store.tables import Source, Upload
from control.store.transaction import Store
from control.store.usage import require_space


def add(store: Store, upload: Upload) -> None:
    """Store an upload that is open in the bucket, and reserve its space. Raises ControlError storage_full."""
    with store.transaction() as tx:
        require_space(tx.session, tx.settings, tx.now, more_bytes=upload.size_bytes)
        tx.session.add(upload)


def grow(store: Store, upload_id: str, more_bytes: int) -> None:
    """Reserve more space for an upload of unknown size. Raises ControlError storage_full."""
    with store.transaction() as tx:
        require_space(tx.session, tx.settings, tx.now, more_bytes=more_bytes)
        tx.session.get_one(Upload, upload_id).size_bytes += more_bytes


def complete(store: Store, upload_id: str, source: Source) -> str:
    """Complete an open upload and store its source; else change nothing. Return the state of the upload."""
    with store.transaction() as tx:
        upload = tx.session.get_one(Upload, upload_id)
        if upload.state == "open":
            tx.session.add(source)
            upload.state, upload.source_id = "completed", source.id
        return upload.state


def renew(store: Store, upload_id: str, life: timedelta) -> Upload:
    """Let an open upload expire `life` from now, since its client resumes it. Return its row."""
    with store.transaction() as tx:
        upload = tx.session.get_one(Upload, upload_id)
        if upload.state == "open":
            upload.expires_at = tx.now + life
        return upload


def refuse(store: Store, upload_id: str, refusal: str) -> None:
    """Close an open upload whose file is not accepted. The reason is stored for a client that asks again."""
    _close(store, upload_id, "refused", refusal)


def abort(store: Store, upload_id: str) -> str:
    """Close an open upload that is given up. One that is not open does not change. Return its state."""
    return _close(store, upload_id, "aborted", None)


def _close(store: Store, upload_id: str, state: str, refusal: str | None) -> str:
    with store.transaction() as tx:
        upload = tx.session.get_one(Upload, upload_id)
        if upload.state == "open":
            upload.state, upload.refusal = state, refusal
        return upload.state
