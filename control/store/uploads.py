"""Writes of uploads. An upload is open until it is completed, refused or aborted, and then never changes."""

from __future__ import annotations

from datetime import timedelta

from control.store.tables import Source, Upload
from control.store.transaction import Store
from control.store.usage import require_space


def add(store: Store, upload: Upload) -> None:
    """Keep an upload that the bucket has opened, with its place. Raises ControlError storage_full."""
    with store.transaction() as tx:
        require_space(tx.session, tx.settings, tx.now, more_bytes=upload.size_bytes)
        tx.session.add(upload)


def grow(store: Store, upload_id: str, more_bytes: int) -> None:
    """Take the place of so much more for an upload of unknown size. Raises ControlError storage_full."""
    with store.transaction() as tx:
        require_space(tx.session, tx.settings, tx.now, more_bytes=more_bytes)
        tx.session.get_one(Upload, upload_id).size_bytes += more_bytes


def complete(store: Store, upload_id: str, source: Source) -> str:
    """LeaderLock an open upload into a source; one that is not open stays as it is. Return its state."""
    with store.transaction() as tx:
        upload = tx.session.get_one(Upload, upload_id)
        if upload.state == "open":
            tx.session.add(source)
            upload.state, upload.source_id = "completed", source.id
        return upload.state


def renew(store: Store, upload_id: str, life: timedelta) -> Upload:
    """Let an open upload live for `life` from now, since its client goes on with it, and return it."""
    with store.transaction() as tx:
        upload = tx.session.get_one(Upload, upload_id)
        if upload.state == "open":
            upload.expires_at = tx.now + life
        return upload


def refuse(store: Store, upload_id: str, refusal: str) -> None:
    """Close an open upload whose file is no good, and keep the reason for a client that asks again."""
    _close(store, upload_id, "refused", refusal)


def abort(store: Store, upload_id: str) -> str:
    """Close an open upload that its client gave up; one that is not open stays as it is. Return its state."""
    return _close(store, upload_id, "aborted", None)


def _close(store: Store, upload_id: str, state: str, refusal: str | None) -> str:
    with store.transaction() as tx:
        upload = tx.session.get_one(Upload, upload_id)
        if upload.state == "open":
            upload.state, upload.refusal = state, refusal
        return upload.state
